"""Price chart of the highest anomaly score of a batch."""

from typing import TYPE_CHECKING, Any

from surveillance_pipelines.defs.metadata import inline_plot

if TYPE_CHECKING:
    from surveillance_pipelines.batch.scoring import DayScores
    from surveillance_pipelines.contracts.outputs import Anomaly


def chart_of_highest_score(scored: "DayScores | None") -> dict[str, Any]:
    """Return metadata with the chart of the symbol and day of the highest score; empty without an anomaly."""
    if scored is None or not scored.anomalies:
        return {}
    from surveillance_pipelines.clock import utc_date

    worst = max(scored.anomalies, key=lambda row: (row.score, row.confidence))
    title = f"{worst.symbol} on {utc_date(worst.bar_start)}"
    return {"chart_of_highest_score": inline_plot(lambda: _draw(scored, worst, title), title)}


def _draw(scored: "DayScores", worst: "Anomaly", title: str) -> bytes:
    import polars as pl

    from surveillance_pipelines.clock import to_datetime, utc_date
    from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
    from surveillance_pipelines.training.price_plot import prices_with_anomalies

    day = utc_date(worst.bar_start)
    bars = scored.scores.filter((pl.col("symbol") == worst.symbol) & (pl.col("date") == day))
    found = [row for row in scored.anomalies if row.symbol == worst.symbol and utc_date(row.bar_start) == day]
    columns = {"bar_start": [to_datetime(row.bar_start) for row in found], "kind": [row.kind for row in found]}
    marks = pl.DataFrame(columns).with_columns(pl.col("bar_start").cast(UTC_MICROSECONDS), symbol=pl.lit(worst.symbol))
    return prices_with_anomalies(bars.rename({"price": "close"}), marks, title=title)
