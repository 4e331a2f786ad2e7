"""The strangest symbol of a batch, as a picture."""

from typing import TYPE_CHECKING, Any

from surveillance_pipelines.defs.metadata import picture

if TYPE_CHECKING:
    from surveillance_pipelines.serving.batch import DayScores


def worst_bar(scored: "DayScores") -> dict[str, Any]:
    """Return the picture of the symbol and day with the highest score; nothing if there is no anomaly."""
    if not scored.anomalies:
        return {}
    import polars as pl

    from surveillance_pipelines.clock import to_datetime, utc_date
    from surveillance_pipelines.evaluation.price_plot import price_with_anomalies

    worst = max(scored.anomalies, key=lambda row: (row.score, row.confidence))
    day = utc_date(worst.bar_start)
    bars = scored.scores.filter((pl.col("symbol") == worst.symbol) & (pl.col("date") == day))
    found = [row for row in scored.anomalies if row.symbol == worst.symbol]
    marks = pl.DataFrame({"bar_start": [to_datetime(row.bar_start) for row in found], "kind": [r.kind for r in found]})
    title = f"{worst.symbol} on {day}"
    png = price_with_anomalies(
        bars.rename({"price": "close"}), marks.cast({"bar_start": pl.Datetime("us", "UTC")}), title=title
    )
    return {"strangest": picture(png, title)}
