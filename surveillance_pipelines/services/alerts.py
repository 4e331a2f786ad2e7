"""Alerts from the database: a filtered list, and the explanation of one alert. No queue is read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.contracts.errors import SurveillanceError
from surveillance_pipelines.services.homes import is_untouched
from surveillance_pipelines.services.id_prefixes import no_match, only_match, require_prefix
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.stores.alerts import (
    Alert,
    AlertFilter,
    ExistingAlerts,
    alert_ids_like,
    count_alerts,
    existing_alerts,
    live_bar,
    newest_alerts,
    rows_of_alert,
)

if TYPE_CHECKING:
    from surveillance_pipelines.models.training_domain import TrainingDomain

BARS_TABLE: Final = "bars_1m"
MAX_COUNT: Final = 10_000
"""Alerts are counted up to this: counting hundreds of thousands takes seconds, and listing the newest does not."""
_TABLE: Final = "surveillance.anomalies"
_LISTS_IDS: Final = "`surveillance alerts` lists the alerts with their ids"


@dataclass(frozen=True, slots=True)
class AlertList:
    """The newest alerts that match a filter.

    Attributes:
        alerts: the newest ones, up to the limit.
        matching: number of all alerts that match; None if there are more than ``MAX_COUNT``.
        existing: summary of all alerts of the tenant, if none matches; None if there are none at all.
    """

    alerts: list[Alert]
    matching: int | None
    existing: ExistingAlerts | None = None


@dataclass(frozen=True, slots=True)
class ExplanationTable:
    """A part of an explanation as rows for people; ``numbers`` names the columns of numbers."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertDetails:
    """One alert, explained.

    Attributes:
        row: the row that the id selects: a row of the alert or, for the id of the alert, its current row.
        history: all rows of the alert, the current one last.
        bar: open, high, low, close, volume and source of the closed bar; None if it is not stored.
        model: the models that scored the row.
        training: whether the bar is within the training data of the models; None for the warm-up rules.
        summary: the explanation in one sentence; None if the row has none.
        explanation: the rest of the explanation.
    """

    row: dict[str, Any]
    history: list[dict[str, Any]]
    bar: Mapping[str, Any] | None
    model: str
    training: str | None
    summary: str | None
    explanation: list[ExplanationTable]


def list_alerts(stores: Stores, conditions: AlertFilter, limit: int) -> AlertList:
    """Return the newest alerts of the tenant that match; if none does, a summary of those that exist."""
    if is_untouched(stores.settings):  # do not start a database to find it empty
        return AlertList([], 0)
    tenant = stores.settings.tenant
    with stores.connect() as connection:
        alerts = newest_alerts(connection, tenant, conditions, limit)
        if not alerts:
            return AlertList([], 0, existing_alerts(connection, tenant))
        matching = len(alerts) if len(alerts) < limit else count_alerts(connection, tenant, conditions, MAX_COUNT + 1)
    return AlertList(alerts, matching if matching <= MAX_COUNT else None)


def explain_alert(stores: Stores, id_: str) -> AlertDetails:
    """Return an alert by the id of one of its rows, by its own id, or by a unique prefix of either.

    Raises:
        InvalidInputError: if the text is no id or prefix of one, or matches several alerts.
        NotFoundError: if no alert matches.
    """
    require_prefix(id_, "alert", remedy=_LISTS_IDS)
    if is_untouched(stores.settings):
        raise no_match(id_, "alert", table=_TABLE, remedy=_LISTS_IDS)
    with stores.connect() as connection:
        found = alert_ids_like(connection, stores.settings.tenant, id_)
        alert_id = only_match(found, id_, "alert", table=_TABLE, remedy=_LISTS_IDS)
        history = rows_of_alert(connection, stores.settings.tenant, alert_id)
        named = [row for row in history if row["id"].startswith(id_)]
        row = (named or history)[-1]
        bar = live_bar(connection, row["symbol"], row["bar_start"])
    summary, tables = explanation_tables(row["explanation"], row["feature_view"], warmup=row["warmup"])
    model, domain = _model(stores, row)
    return AlertDetails(
        row=row,
        history=history,
        bar=bar or _lake_bar(stores, row),
        model=model,
        training=_training(row, domain),
        summary=summary,
        explanation=tables,
    )


def _lake_bar(stores: Stores, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    lake, day = stores.lake, row["bar_start"].astimezone(UTC).date()
    if not lake.exists(BARS_TABLE):
        return None
    bars = lake.read(BARS_TABLE, days=[day], symbols=[row["symbol"]])
    found = bars.filter((bars["bar_start"] == row["bar_start"]) & (bars["revision"] == 0))
    return found.row(0, named=True) if found.height else None


def _model(stores: Stores, row: Mapping[str, Any]) -> "tuple[str, TrainingDomain | None]":
    """Return the name of the models that scored a row, and the domain of their training data, if known."""
    from surveillance_pipelines.models.training_domain import TrainingDomain
    from surveillance_pipelines.stores.model_store import find_bundle
    from surveillance_pipelines.stores.predictors import load_stored

    bundle_hash: str = row["bundle_hash"]
    if row["warmup"]:
        return "the warm-up rules: no model had been promoted", None
    try:
        with stores.connect() as connection:
            stored = find_bundle(connection, bundle_hash)
    except LookupError:
        return f"bundle {bundle_hash}, which is not on record in surveillance.model_versions", None
    name = f"v{stored.version}, bundle {bundle_hash}"
    try:
        manifest = load_stored(stores.settings, stored).manifest
    except (SurveillanceError, OSError):  # a bundle that was removed since explains less, and hides no alert
        return f"{name}, which cannot be read now", None
    return name, TrainingDomain.of_manifest(manifest)


def _training(row: Mapping[str, Any], domain: "TrainingDomain | None") -> str | None:
    if row["warmup"]:
        return None
    outside = row["explanation"].get("outside_training")
    if outside:
        named = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in outside.items())
        return f"outside: the models were not trained on {named}, so the score means little"
    if domain is None:
        return "not known: the bundle cannot be read"
    if domain.unknown:
        return "not known: the bundle does not record its symbols and calendars"
    return "the models were trained on this symbol, calendar and asset class"


def explanation_tables(
    explanation: Mapping[str, Any], feature_view: str, *, warmup: bool
) -> tuple[str | None, list[ExplanationTable]]:
    """Return the summary of an explanation, and its other parts as tables, for bundles of both formats and rules.

    Args:
        explanation: column ``explanation`` of a row.
        feature_view: the row's feature view, which describes the features.
        warmup: whether the warm-up rules scored the row.
    """
    rest = dict(explanation)
    summary = rest.pop("summary", None)
    detectors = rest.pop("detectors", None) or _detectors_v1(rest, warmup=warmup)
    tables = [
        _table("detectors: from 0.5 on, a detector raises an alert", ("detector", "score"), detectors.items(), 1),
        _table("most likely kinds", ("kind", "probability"), _descending(rest.pop("kinds", None) or {}), 1),
        _contributions(rest.pop("contributions", None) or [], feature_view),
        _changes(rest, feature_view),
        _features(rest.pop("features", None) or [], feature_view),
        _table("statistics", ("statistic", "value"), (rest.pop("statistics", None) or {}).items(), 1),
        _table("further facts", ("fact", "value"), [(name, _text(value)) for name, value in rest.items()], 2),
    ]
    return summary, [table for table in tables if table.rows]


def _descending(values: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return names with their values, highest first; JSON of PostgreSQL does not keep the order of names."""
    return sorted(values.items(), key=lambda item: -item[1])


def _detectors_v1(rest: dict[str, Any], *, warmup: bool) -> dict[str, Any]:
    scores = {name: rest.pop(f"{name}_score", None) for name in ("autoencoder", "classifier")}
    if warmup:  # the rules have no autoencoder, and report their score under the name of the classifier
        scores = {"rules": scores["classifier"]}
    return {name: score for name, score in scores.items() if score is not None}


def _meanings(feature_view: str) -> Mapping[str, str]:
    from surveillance_pipelines.features.views import VIEWS

    view = VIEWS.get(feature_view)
    return {} if view is None else view.descriptions


def _contributions(parts: Sequence[Mapping[str, Any]], feature_view: str) -> ExplanationTable:
    meanings = _meanings(feature_view)
    rows = [
        (
            part.get("name"), part.get("value"), part.get("expected"), part.get("contribution"),
            meanings.get(str(part.get("name"))),
        )
        for part in parts
    ]  # fmt: skip
    return ExplanationTable(
        "contributions: without their signs, they add up to the score; negative for a value below the expected one",
        ("feature", "value", "expected", "contribution", "meaning, with its unit"),
        rows,
        ("value", "expected", "contribution"),
    )


def _changes(rest: dict[str, Any], feature_view: str) -> ExplanationTable:
    """Remove the changes that would have prevented the alert from the explanation, and return them as a table."""
    columns, numbers = ("feature", "value", "instead", "meaning, with its unit"), ("value", "instead")
    meanings = _meanings(feature_view)
    changes = rest.pop("would_not_alert_if", [])
    if changes is None:
        rest["change that would have prevented the alert"] = "none found"
    rows = [
        (change.get("name"), change.get("value"), change.get("instead"), meanings.get(str(change.get("name"))))
        for change in changes or []
    ]
    return ExplanationTable("would not alert with all of these values instead", columns, rows, numbers)


def _features(features: Sequence[Mapping[str, Any]], feature_view: str) -> ExplanationTable:
    meanings = _meanings(feature_view)
    rows = [
        (feature.get("name"), feature.get("value"), feature.get("share"), meanings.get(str(feature.get("name"))))
        for feature in features
    ]
    columns = ("feature", "value", "share", "meaning, with its unit")
    return ExplanationTable("features that contribute most", columns, rows, ("value", "share"))


def _table(title: str, columns: tuple[str, ...], items: Any, first_number: int) -> ExplanationTable:
    return ExplanationTable(title, columns, list(items), columns[first_number:])


def _text(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else json.dumps(value, ensure_ascii=False)
