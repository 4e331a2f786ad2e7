"""``surveillance status``: what runs, what waits, what was done, and what is degraded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

from surveillance_pipelines.clock import now, to_datetime
from surveillance_pipelines.commands.console import heading, mark, say, table
from surveillance_pipelines.commands.context import Platform, open_platform


@dataclass(frozen=True, slots=True)
class Line:
    """One fact with a verdict: ok, warn or fail."""

    name: str
    verdict: str
    found: str


def status() -> None:
    """Show services, queues, leases, the champion, ledger counts, last bars, dead letters and what is degraded."""
    from surveillance_pipelines.commands.homes import is_untouched

    platform = open_platform()
    if is_untouched(platform.settings):
        say(f"nothing here yet: {platform.home} does not exist and no DATABASE_URL is set")
        say("start with `surveillance demo` (everything on synthetic data) or `surveillance ingest PATH`")
        return
    lines = [*_services(platform), *_queues(platform)]
    with platform.connect() as connection:
        lines += [
            *_champion(platform, connection),
            *_training(platform),
            *_leases(connection),
            *_books(platform, connection),
        ]
        lines += _dead_letters(connection)
        table("state", ("part", "", "found"), [(line.name, mark(line.verdict), line.found) for line in lines])
        _tables(connection, platform.settings.output_channels)
    _lake(platform)
    degraded = [line for line in lines if line.verdict != "ok"]
    heading("degraded: nothing" if not degraded else f"degraded: {', '.join(line.name for line in degraded)}")


def _services(platform: Platform) -> list[Line]:
    from surveillance_pipelines.commands.homes import without_password

    found = platform.endpoints
    kind = "embedded" if found.embedded else "configured"
    lines = [
        Line("PostgreSQL", "ok", f"{kind}: {without_password(found.database_url)}"),
        Line("lake", "ok", found.lake_url),
        Line("models", "ok", str(found.models_path)),
    ]
    lines.append(Line("MLflow", "ok", without_password(found.mlflow_tracking_uri)))
    return lines


def _queues(platform: Platform) -> list[Line]:
    from surveillance_pipelines.services.queue_watch import look_aside

    urls = (*platform.endpoints.queue_urls, platform.endpoints.output_queue_url)
    lines = []
    for url in urls:
        queue, name = platform.queue(url), url.rsplit("/", 1)[-1]
        depth, aside = queue.depth(), look_aside(queue)
        lines.append(Line(f"queue {name}", "ok", f"{depth.visible:,} waiting, {depth.in_flight:,} in work"))
        if aside.messages or aside.problem:
            found = aside.problem or f"SQS has set {aside.messages:,} messages aside"
            lines.append(Line(f"dead-letter queue of {name}", "warn", found))
    return lines


def _champion(platform: Platform, connection: Any) -> list[Line]:
    from surveillance_pipelines.stores.deployments import champion_deployment

    found = champion_deployment(connection, platform.settings.tenant)
    if found is None:
        return [Line("champion", "warn", "none: warm-up heuristics answer until `surveillance train` promotes a model")]
    decided = f"since {_instant(found.since)}, decided by {found.decided_by}"
    return [Line("champion", "ok", f"{found.name} {found.model_id[:12]}, {decided}")]


def _leases(connection: Any) -> list[Line]:
    rows = _rows(
        connection,
        "SELECT queue_url, role, holder, heartbeat_at, expires_at < now() FROM ops.leases ORDER BY queue_url, role",
    )
    lines = []
    for url, role, holder, heartbeat, expired in rows:
        if role == "standby" and expired:
            continue
        held = "standing by:" if role == "standby" else "held by"
        word = "no drain run works on it now; last" if expired else held
        lines.append(Line(f"lease {url.rsplit('/', 1)[-1]}", "ok", f"{word} {holder}, heartbeat {_instant(heartbeat)}"))
    return lines or [Line("leases", "ok", "no drain run has worked yet")]


def _books(platform: Platform, connection: Any) -> list[Line]:
    from surveillance_pipelines.stores.partitions import missing_weeks, partitions, stray_weeks

    today, found = now(platform.clock).date(), partitions(connection)
    weeks = sorted({partition.monday for partition in found if partition.monday is not None})
    if missing := missing_weeks(found, today):
        named = f"no partition of {missing[0][0]} for the week of {missing[0][1]}"
        return [Line("books", "warn", f"{named}: run `retention_job` (daily, while the daemon runs)")]
    if strays := stray_weeks(connection, today):
        named = f"rows of {strays[0][0]} of the week of {strays[0][1]} are in its default partition"
        return [Line("books", "warn", f"{named}: run `retention_job`")]
    days = platform.settings.ledger_retention_days
    return [Line("books", "ok", f"since {weeks[0]}, ready until {weeks[-1]} and its week; kept {days} days")]


def _dead_letters(connection: Any) -> list[Line]:
    count = _rows(connection, "SELECT count(*) FROM ops.dead_letters WHERE replayed_at IS NULL")[0][0]
    if count == 0:
        return [Line("dead letters", "ok", "none")]
    return [Line("dead letters", "warn", f"{count:,} inputs were refused: `surveillance dead-letters list`")]


def _tables(connection: Any, channels: Sequence[str]) -> None:
    from surveillance_pipelines.stores.outbox import waiting

    outcomes = _rows(connection, "SELECT outcome, count(*), max(committed_at) FROM ops.ledger GROUP BY 1 ORDER BY 1")
    rows = [(f"ledger: {outcome}", count, _instant(last)) for outcome, count, last in outcomes]
    counted: list[tuple[str, LiteralString]] = [
        ("anomalies", "SELECT count(*), max(bar_start) FROM surveillance.anomalies"),
        ("signals", "SELECT count(*), max(bar_start) FROM surveillance.signals"),
        ("predictions", "SELECT count(*), max(bar_start) FROM surveillance.predictions"),
        ("instruments", "SELECT count(*), max(added_at) FROM surveillance.instruments"),
        ("model versions", "SELECT count(*), max(created_at) FROM surveillance.model_versions"),
    ]
    for name, query in counted:
        count, last = _rows(connection, query)[0]
        rows.append((name, count, _instant(last)))
    for channel in channels:
        found = waiting(connection, channel)
        oldest = None if found.oldest_at is None else to_datetime(found.oldest_at)
        rows.append((f"waiting for {channel} (oldest)", found.count, _instant(oldest)))
    table("tables", ("table", "rows", "last"), rows, right=("rows",))


def _lake(platform: Platform) -> None:
    rows = []
    for name in ("bars_landed", "bars_1m", "features_core_v1", "scores"):
        days = platform.lake.days(name)
        last = platform.lake.read(name, days=days[-1:], columns=["bar_start"])["bar_start"].max() if days else None
        rows.append((name, len(days), days[0] if days else None, last))
    table("lake", ("table", "days", "first day", "last bar"), rows, right=("days",))


def _training(platform: Platform) -> list[Line]:
    cron = platform.settings.model_retraining_schedule.strip()
    if not cron:
        return [Line("next training", "ok", "none scheduled (MODEL_RETRAINING_SCHEDULE is not set)")]
    from surveillance_pipelines.defs.dagster_internals import cron_string_iterator

    upcoming = cron_string_iterator(now(platform.clock).timestamp(), cron, "UTC")
    return [Line("next training", "ok", f"{_instant(next(upcoming))} by {cron!r}, while the daemon runs")]


def _rows(connection: Any, query: LiteralString) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def _instant(value: datetime | None) -> str:
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
