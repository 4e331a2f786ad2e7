"""Incidents from the database: a filtered list, one incident with its evidence, and what people decided about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.contracts.outputs import Disposition
from surveillance_pipelines.contracts.price_text import price_text
from surveillance_pipelines.services.homes import is_untouched
from surveillance_pipelines.services.id_prefixes import no_match, only_match, require_prefix
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.stores.data_incidents import split_at
from surveillance_pipelines.stores.incidents import (
    IncidentFilter,
    IncidentSummary,
    add_disposition,
    alerts_of_incident,
    count_incidents,
    dispositions_of,
    incident_ids_like,
    newest_incidents,
    rows_of_incident,
    similar_incidents,
)

if TYPE_CHECKING:
    import polars as pl

MAX_COUNT: Final = 10_000
"""Incidents are counted up to this."""
MAX_ALERTS: Final = 200
"""Maximum number of alerts that the details of an incident show."""
MAX_SIMILAR: Final = 5
CONTEXT: Final = timedelta(minutes=30)
"""Time before and after an incident of which its picture shows the prices."""
BARS_TABLE: Final = "bars_1m"
_SERVED_BARS: Final = """
    SELECT bar_start, close, volume FROM ops.live_bars
    WHERE symbol = %s AND bar_start BETWEEN %s AND %s AND revision = 0
"""
_TABLE: Final = "surveillance.incidents"
_LISTS_IDS: Final = "`surveillance incidents` lists the incidents with their ids"


@dataclass(frozen=True, slots=True)
class IncidentList:
    """The newest incidents that match a filter.

    Attributes:
        incidents: the newest ones, up to the limit.
        matching: number of all incidents that match; None if there are more than ``MAX_COUNT``.
        existing: number of all incidents of the tenant, if none matches, up to ``MAX_COUNT``.
    """

    incidents: list[IncidentSummary]
    matching: int | None
    existing: int = 0


@dataclass(frozen=True, slots=True)
class IncidentDetails:
    """One incident.

    Attributes:
        row: its current row.
        history: all its rows, the current one last.
        alerts: its confirmed alerts, oldest first, up to ``MAX_ALERTS``.
        similar: earlier incidents of the same kind, with what people decided about them.
        dispositions: what people decided about this one, oldest first.
        split: the possible split with which its first bar begins, as a sentence; None without one.
    """

    row: dict[str, Any]
    history: list[dict[str, Any]]
    alerts: list[dict[str, Any]]
    similar: list[dict[str, Any]]
    dispositions: list[dict[str, Any]]
    split: str | None = None

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        return sentence_of(self.row, [alert["price"] for alert in self.alerts])


def sentence_of(row: Mapping[str, Any], prices: Sequence[float] = ()) -> str:
    """Return what happened in an incident, in one sentence, from a row of it and the prices of its alerts."""
    first, last = row["first_bar_start"].astimezone(UTC), row["last_bar_start"].astimezone(UTC)
    minutes = int((last - first) / timedelta(minutes=1)) + 1
    when = f"{first:%Y-%m-%d %H:%M} UTC" if minutes == 1 else f"{first:%Y-%m-%d %H:%M} to {last:%H:%M} UTC"
    kinds = sorted(row["kinds"].items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name} ({count})" for name, count in kinds) or row["kind"]
    sentence = f"{row['symbol']}, {when}: {named}"
    if row["first_price"]:
        move = row["price"] / row["first_price"] - 1.0
        sentence += (
            f"; the price went from {price_text(row['first_price'])} to {price_text(row['price'])} ({move:+.2%})"
        )
        low, high = min(prices, default=row["price"]), max(prices, default=row["price"])
        ends = (row["first_price"], row["price"])
        if low < min(ends) or high > max(ends):
            sentence += f", between {price_text(low)} and {price_text(high)} on the way"
    return sentence


def list_incidents(stores: Stores, conditions: IncidentFilter, limit: int) -> IncidentList:
    """Return the newest incidents of the tenant that match."""
    if is_untouched(stores.settings):  # do not start a database to find it empty
        return IncidentList([], 0)
    tenant = stores.settings.tenant
    with stores.connect() as connection:
        incidents = newest_incidents(connection, tenant, conditions, limit)
        if not incidents:
            existing = count_incidents(connection, tenant, IncidentFilter(retracted=True), MAX_COUNT)
            return IncidentList([], 0, existing)
        matching = len(incidents)
        if matching == limit:
            matching = count_incidents(connection, tenant, conditions, MAX_COUNT + 1)
    return IncidentList(incidents, matching if matching <= MAX_COUNT else None)


def find_incident(stores: Stores, id_: str) -> IncidentDetails:
    """Return an incident by its id, the id of one of its rows, or a unique prefix of either.

    Raises:
        InvalidInputError: if the text is no id or prefix of one, or matches several incidents.
        NotFoundError: if no incident matches.
    """
    require_prefix(id_, "incident", remedy=_LISTS_IDS)
    if is_untouched(stores.settings):
        raise no_match(id_, "incident", table=_TABLE, remedy=_LISTS_IDS)
    tenant = stores.settings.tenant
    with stores.connect() as connection:
        found = incident_ids_like(connection, tenant, id_)
        incident_id = only_match(found, id_, "incident", table=_TABLE, remedy=_LISTS_IDS)
        history = rows_of_incident(connection, tenant, incident_id)
        row = history[-1]
        return IncidentDetails(
            row=row,
            history=history,
            alerts=alerts_of_incident(connection, row, limit=MAX_ALERTS),
            similar=similar_incidents(connection, row, limit=MAX_SIMILAR),
            dispositions=dispositions_of(connection, tenant, incident_id),
            split=split_at(connection, row["symbol"], row["first_bar_start"]),
        )


def decide_incident(
    stores: Stores, id_: str, disposition: Disposition, *, note: str | None, decided_by: str
) -> IncidentDetails:
    """Record what a person decided about an incident, and return it.

    Raises:
        InvalidInputError: as ``find_incident``.
        NotFoundError: if no incident matches.
    """
    details = find_incident(stores, id_)
    tenant, incident_id, now = stores.settings.tenant, details.row["incident_id"], SYSTEM_CLOCK.now_us()
    with stores.connect() as connection, connection.transaction():
        add_disposition(connection, tenant, incident_id, disposition, note=note, decided_by=decided_by, decided_at=now)
    return find_incident(stores, incident_id)


def bars_around(stores: Stores, row: Mapping[str, Any]) -> "pl.DataFrame":
    """Return the bars of an incident's symbol around it: ``symbol``, ``bar_start``, ``close``, ``volume``.

    Bars of the live lane take precedence over those of the lake, because they were scored. The frame is empty if both
    have dropped them.
    """
    import polars as pl

    from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS

    since, until = row["first_bar_start"] - CONTEXT, row["last_bar_start"] + CONTEXT
    with stores.connect() as connection:
        served = connection.execute(_SERVED_BARS, (row["symbol"], since, until)).fetchall()
    bars = {start: (close, volume) for start, close, volume in served}
    if stores.lake.exists(BARS_TABLE):
        days = sorted({since.astimezone(UTC).date(), until.astimezone(UTC).date()})
        stored = stores.lake.read(BARS_TABLE, days=days, symbols=[row["symbol"]])
        kept = stored.filter(pl.col("bar_start").is_between(since, until) & (pl.col("revision") == 0))
        rows = kept.select("bar_start", "close", pl.col("volume").fill_null(0.0)).iter_rows()
        bars = {start: (close, volume) for start, close, volume in rows} | bars
    columns = [(row["symbol"], start, *bars[start]) for start in sorted(bars)]
    schema = {"symbol": pl.String, "bar_start": UTC_MICROSECONDS, "close": pl.Float64, "volume": pl.Float64}
    return pl.DataFrame(columns, schema=schema, orient="row")
