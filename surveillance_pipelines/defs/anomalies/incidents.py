"""Metadata about incidents: the newest ones as a table, and the most severe ones as pictures with a sentence each."""

from datetime import UTC, date
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from surveillance_pipelines.contracts.outputs import SEVERITIES
from surveillance_pipelines.defs.metadata import counts_table, inline_plot

if TYPE_CHECKING:
    from surveillance_pipelines.services.incidents import IncidentDetails
    from surveillance_pipelines.services.platform import Stores
    from surveillance_pipelines.stores.incidents import IncidentSummary

MAX_INCIDENTS: Final = 20
MAX_PICTURES: Final = 3
INCIDENT_MEANINGS: Final = {
    "severity": "low, medium or high: from the highest score and the number of alerts",
    "score": "Highest anomaly score of its alerts",
    "kind": "Kind of the strongest alert",
    "explanation": "Summary of the explanation of the strongest alert, as JSON",
    "price": "Price of the bar of the last alert",
}
"""Meanings of columns that differ from those in other tables."""


def incident_metadata(platform: "Stores", first: date | None = None, last: date | None = None) -> dict[str, Any]:
    """Return the newest incidents of a range of UTC days as a table, and the most severe ones; empty without any."""
    from surveillance_pipelines.services.incidents import list_incidents
    from surveillance_pipelines.stores.incidents import IncidentFilter

    found = list_incidents(platform, IncidentFilter(since=first, until=last), MAX_INCIDENTS).incidents
    if not found:
        return {}
    worst = sorted(found, key=lambda each: (-SEVERITIES.index(each.severity), -each.score, -each.alerts))
    pages = {f"incident_{n}": _page(platform, each) for n, each in enumerate(worst[:MAX_PICTURES], start=1)}
    shown = f"`surveillance incidents show {found[0].incident_id[:12]}` shows the first of the table with its alerts"
    table = counts_table([_record(incident) for incident in found])
    return pages | {"latest_incidents": table, "show_one": dg.MetadataValue.md(shown)}


def _record(incident: "IncidentSummary") -> dict[str, str | int | float | bool | None]:
    """Return a row of few, narrow columns: the UI wraps and cuts wide tables."""
    first, last = incident.first_bar_start, incident.last_bar_start
    others = len(incident.kinds) - 1
    return {
        "from_utc": f"{first.astimezone(UTC):%b %d %H:%M}".replace(" ", "\u00a0"),
        "minutes": int((last - first).total_seconds() // 60) + 1,
        "symbol": incident.symbol,
        "severity": incident.severity,
        "kind": f"{incident.kind} +{others}" if others > 0 else incident.kind,
        "alerts": incident.alerts,
        "move": f"{incident.price / incident.first_price - 1.0:+.2%}" if incident.first_price else "",
        "decision": incident.disposition or "",
        "id": incident.incident_id[:12],
    }


def _page(platform: "Stores", incident: "IncidentSummary") -> dg.MarkdownMetadataValue:
    """Return what happened in an incident, why it was raised, and its picture."""
    from surveillance_pipelines.services.incidents import find_incident

    details = find_incident(platform, incident.incident_id)
    row = details.row
    why = row["explanation"].get("summary", "")
    lines = [
        f"**{details.sentence}**",
        (
            f"Severity {row['severity']}, {row['incident_status']}, {row['alerts']:,} alerts, highest score "
            f"{row['score']:.3g}. Strongest evidence: {why}."
        ),
        _before(details),
        inline_plot(lambda: _draw(platform, details), f"{row['symbol']} around the incident").value or "",
        f"`surveillance incidents show {row['incident_id'][:12]}`",
    ]
    return dg.MetadataValue.md("\n\n".join(line for line in lines if line))


def _before(details: "IncidentDetails") -> str:
    decided = [each for each in details.similar if each["disposition"]]
    if not details.similar:
        return ""
    outcomes = ", ".join(f"{each['symbol']} {each['disposition']}" for each in decided) or "none decided yet"
    return f"Earlier incidents of the kind {details.row['kind']}: {len(details.similar)} nearest shown; {outcomes}."


def _draw(platform: "Stores", details: "IncidentDetails") -> bytes:
    import polars as pl

    from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
    from surveillance_pipelines.services.incidents import bars_around
    from surveillance_pipelines.training.price_plot import prices_with_anomalies

    row = details.row
    bars = bars_around(platform, row)
    columns = {
        "bar_start": [each["bar_start"] for each in details.alerts],
        "kind": [each["kind"] for each in details.alerts],
    }
    schema = {"bar_start": UTC_MICROSECONDS, "kind": pl.String}
    marks = pl.DataFrame(columns, schema=schema).with_columns(symbol=pl.lit(row["symbol"]))
    return prices_with_anomalies(bars, marks, title=details.sentence)
