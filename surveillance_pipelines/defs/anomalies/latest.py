"""Metadata about alerts: the latest ones with their ids, and those outside the training data of the models."""

from datetime import date
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from surveillance_pipelines.contracts.price_text import price_text
from surveillance_pipelines.defs.metadata import counts_table

if TYPE_CHECKING:
    import psycopg

    from surveillance_pipelines.services.scoring import BatchScoring

MAX_ALERTS: Final = 20
MAX_SYMBOLS: Final = 50
"""Rows of the table of symbols outside the training data."""


def latest_alerts(
    connection: "psycopg.Connection[Any]", tenant: str, first: date | None = None, last: date | None = None
) -> dict[str, Any]:
    """Return the newest alerts of a range of UTC days with their ids, as a table; no entry without alerts."""
    from surveillance_pipelines.stores.alerts import AlertFilter, newest_alerts

    alerts = newest_alerts(connection, tenant, AlertFilter(since=first, until=last), MAX_ALERTS)
    if not alerts:
        return {}
    rows = [
        {
            "bar_start": f"{alert.bar_start:%Y-%m-%d %H:%M} UTC",
            "symbol": alert.symbol,
            "kind": alert.kind,
            "status": alert.alert_status,
            "score": round(alert.score, 4),
            "threshold": round(alert.threshold, 4),
            "confidence": round(alert.confidence, 4),
            "price": price_text(alert.price),
            "outside_training": alert.outside_training,
            "id": alert.id,
        }
        for alert in alerts
    ]
    explained = f"`surveillance alerts show {alerts[0].id[:12]}` explains the first of them"
    return {"latest_alerts": counts_table(rows), "explain": dg.MetadataValue.md(explained)}


def training_match(done: "BatchScoring") -> dict[str, Any]:
    """Return whether the scored symbols are within the training data of the models, with the alerts on those outside.

    The warm-up rules are not trained, so they have no entry.
    """
    if done.domain is None:
        return {}
    if done.domain.unknown:
        names = ", ".join(name.replace("_", " ") for name in done.domain.unknown)
        return {"training_match": f"not known: the bundle does not record {names}"}
    outside = sorted(
        (match for match in done.instruments if match.outside), key=lambda match: (-match.alerts, match.symbol)
    )
    if not outside:
        return {"training_match": "all symbols, calendars and asset classes are in the training data"}
    alerts = sum(match.alerts for match in outside)
    left_out = len(outside) - MAX_SYMBOLS
    more = f"; the table leaves out {left_out:,} with the fewest alerts" if left_out > 0 else ""
    rows = [
        {"symbol": match.symbol, "outside": match.reason, "bars": match.bars, "alerts": match.alerts}
        for match in outside[:MAX_SYMBOLS]
    ]
    summary = f"{len(outside):,} of {len(done.instruments):,} symbols are outside the training data{more}"
    return {"training_match": summary, "alerts_outside_training": alerts, "outside_training": counts_table(rows)}
