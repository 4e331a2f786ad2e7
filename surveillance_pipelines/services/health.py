"""The state of the platform, as shown by ``surveillance status``."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.contracts.feature_tables import feature_table_of
from surveillance_pipelines.contracts.urls import without_password
from surveillance_pipelines.embedded.queue_credentials import client_config
from surveillance_pipelines.embedded.service_home import ServiceHome
from surveillance_pipelines.services.endpoints import needs_embedded_queue
from surveillance_pipelines.services.facts import Fact, instant
from surveillance_pipelines.services.lake_remedies import lake_problems
from surveillance_pipelines.services.lease_facts import lease_facts
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.services.registry_probe import unreachable_registry
from surveillance_pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the platform at one instant.

    Attributes:
        lines: facts with a verdict.
        tables: name, rows and newest instant of each table in PostgreSQL.
        lake: name, number of days, first day and last bar of each lake table.
    """

    lines: tuple[Fact, ...]
    tables: tuple[Sequence[Any], ...]
    lake: tuple[Sequence[Any], ...]


def check_health(stores: Stores) -> Health:
    """Return the state of services, queues, champion, leases, ledger, dead letters and tables."""
    lines = [*_services(stores), *_queues(stores)]
    with stores.connect() as connection:
        lines += [*_champion(stores, connection), *lease_facts(stores, connection), *_ledger_tables(stores, connection)]
        lines += _dead_letters(connection)
        tables = _tables(connection, stores.settings.output_channels)
        features = serving_features(stores, connection)
        damaged = lake_problems(stores, connection, serving_tables(features))
    lines += [Fact(f"lake table {one.table}", "fail", one.problem, one.remedy) for one in damaged]
    return Health(tuple(lines), tuple(tables), tuple(_lake(stores, features, {one.table for one in damaged})))


def _services(stores: Stores) -> list[Fact]:
    found = stores.endpoints
    kind = "embedded" if found.embedded else "configured"
    lines = [
        Fact("PostgreSQL", "ok", f"{kind}: {without_password(found.database_url)}"),
        Fact("lake", "ok", found.lake_url),
        Fact("models", "ok", str(found.models_path)),
    ]
    registry = found.mlflow_tracking_uri
    lines.append(unreachable_registry("MLflow", registry) or Fact("MLflow", "ok", without_password(registry)))
    config = client_config(ServiceHome(found.home))
    if needs_embedded_queue(stores.settings) and config.is_file():
        lines.append(Fact("your own client", "ok", f"AWS_CONFIG_FILE={shlex.quote(str(config))} aws sqs list-queues"))
    return lines


def _queues(stores: Stores) -> list[Fact]:
    from surveillance_pipelines.services.queue_watch import dead_letter_queue_state

    urls = (*stores.endpoints.queue_urls, stores.endpoints.output_queue_url)
    lines = []
    for url in urls:
        queue, name = stores.queue(url), url.rsplit("/", 1)[-1]
        depth, dead = queue.depth(), dead_letter_queue_state(queue)
        lines.append(Fact(f"queue {name}", "ok", f"{depth.visible:,} waiting, {depth.in_flight:,} in flight"))
        if dead.messages or dead.problem:
            found = dead.problem or f"{dead.messages:,} messages"
            lines.append(Fact(f"dead-letter queue of {name}", "warn", found))
    return lines


def serving_without_champion(settings: Settings) -> str:
    """Describe how a queue is served while the tenant has no champion."""
    if settings.warmup_mode_enabled:
        return "the warm-up rules serve until `surveillance train` promotes a model"
    return "drain runs fail until `surveillance train` promotes a model, because WARMUP_MODE_ENABLED is false"


def _champion(stores: Stores, connection: Any) -> list[Fact]:
    from surveillance_pipelines.services.serving_models import serving_models
    from surveillance_pipelines.stores.deployments import champion_deployment

    found = champion_deployment(connection, stores.settings.tenant)
    if found is None:
        return [Fact("champion", "warn", f"none: {serving_without_champion(stores.settings)}")]
    models = serving_models(stores, connection)
    if models.is_damaged:
        verdict = "warn" if models.serves else "fail"
        return [Fact("champion", verdict, f"{models.sentence}. {models.remedy}")]
    decided = f"since {instant(found.since)}, decided by {found.decided_by}"
    return [Fact("champion", "ok", f"{found.name} {found.model_id[:12]}, {decided}")]


def _ledger_tables(stores: Stores, connection: Any) -> list[Fact]:
    from surveillance_pipelines.stores.partitions import missing_weeks, partitions, stray_weeks

    today, found = stores.today(), partitions(connection)
    weeks = sorted({partition.monday for partition in found if partition.monday is not None})
    if missing := missing_weeks(found, today):
        named = f"no partition of {missing[0][0]} for the week of {missing[0][1]}"
        return [Fact("ledger tables", "warn", f"{named}: run `retention_job` (the daemon runs it daily)")]
    if strays := stray_weeks(connection, today):
        named = f"rows of {strays[0][0]} of the week of {strays[0][1]} are in its default partition"
        return [Fact("ledger tables", "warn", f"{named}: run `retention_job`")]
    days = stores.settings.ledger_retention_days
    return [
        Fact("ledger tables", "ok", f"partitions from {weeks[0]} to the week of {weeks[-1]}; retention {days} days")
    ]


def _dead_letters(connection: Any) -> list[Fact]:
    count = _rows(connection, "SELECT count(*) FROM ops.dead_letters WHERE replayed_at IS NULL")[0][0]
    if count == 0:
        return [Fact("dead letters", "ok", "none")]
    return [Fact("dead letters", "warn", f"{count:,} refused inputs: see `surveillance dead-letters list`")]


def _tables(connection: Any, channels: Sequence[str]) -> list[Sequence[Any]]:
    from surveillance_pipelines.stores.outbox import waiting

    outcomes = _rows(connection, "SELECT outcome, count(*), max(committed_at) FROM ops.ledger GROUP BY 1 ORDER BY 1")
    rows: list[Sequence[Any]] = [(f"ledger: {outcome}", count, instant(last)) for outcome, count, last in outcomes]
    counted: list[tuple[str, LiteralString]] = [
        ("anomalies", "SELECT count(*), max(bar_start) FROM surveillance.anomalies"),
        ("signals", "SELECT count(*), max(bar_start) FROM surveillance.signals"),
        ("predictions", "SELECT count(*), max(bar_start) FROM surveillance.predictions"),
        ("instruments", "SELECT count(*), max(added_at) FROM surveillance.instruments"),
        ("model versions", "SELECT count(*), max(created_at) FROM surveillance.model_versions"),
    ]
    for name, query in counted:
        count, last = _rows(connection, query)[0]
        rows.append((name, count, instant(last)))
    for channel in channels:
        found = waiting(connection, channel)
        oldest = None if found.oldest_at is None else to_datetime(found.oldest_at)
        rows.append((f"waiting for {channel} (oldest)", found.count, instant(oldest)))
    return rows


def serving_features(stores: Stores, connection: Any) -> str:
    """Return the name of the feature table that the champion reads."""
    from surveillance_pipelines.stores.deployments import serving_view

    return feature_table_of(serving_view(connection, stores.settings.tenant))


def serving_tables(features: str) -> tuple[str, ...]:
    """Return the lake tables that serving and scoring use; ``features`` is the name of the feature table."""
    return "bars_landed", "bars_1m", features, "scores"


def _lake(stores: Stores, features: str, damaged: Collection[str]) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = []
    for name in serving_tables(features):
        if name in damaged:
            rows.append((name, "damaged", None, None))
            continue
        days = stores.lake.days(name)
        last = stores.lake.read(name, days=days[-1:], columns=["bar_start"])["bar_start"].max() if days else None
        rows.append((name, len(days), days[0] if days else None, last))
    return rows


def _rows(connection: Any, query: LiteralString) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()
