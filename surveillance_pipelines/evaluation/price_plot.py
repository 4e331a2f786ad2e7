"""Prices with the anomalies marked on them: what an alert looked like on the tape."""

from datetime import datetime
from typing import Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from surveillance_pipelines.evaluation.figures import BLUE, GREY, KIND_COLOURS, new_figure, to_png

MOST_TICKS: Final = 9


def price_with_anomalies(
    bars: pl.DataFrame, anomalies: pl.DataFrame, *, title: str, planted: pl.DataFrame | None = None
) -> bytes:
    """Draw one symbol's closes and volumes with its anomalies marked, as PNG bytes.

    Bars stand side by side without the hours between sessions.

    Args:
        bars: bar_start (UTC), close, volume of one symbol; at least one row.
        anomalies: bar_start, kind; rows whose bar is absent are left out. No rows is fine.
        title: says symbol and period.
        planted: bar_start of bars that were planted, shaded; None when nothing was.

    Raises:
        ValueError: if there are no bars.
    """
    if bars.is_empty():
        raise ValueError("expected bars to draw, got none: choose a symbol and days that have some")
    placed = bars.sort("bar_start").with_row_index("place")
    marks = anomalies.select("bar_start", "kind").join(placed, on="bar_start", how="inner")
    figure, (price, volume) = new_figure(12, 6, rows=2, height_ratios=(3, 1))
    price.plot(placed["place"], placed["close"], color=BLUE, linewidth=1, label="close")
    volume.vlines(placed["place"], 0, placed["volume"] / 1e3, colors=GREY, linewidth=0.8)
    if planted is not None:
        _shade(price, planted.select("bar_start").unique().join(placed, on="bar_start", how="inner"))
    _mark(price, volume, marks)
    price.set(title=title, ylabel="price (instrument's currency)")
    volume.set(ylabel="volume (thousands)", xlabel="bar start (UTC)")
    for axes in (price, volume):
        axes.set_xlim(-1, len(placed))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda _place, _tick: ""))
    _name_ticks(volume, placed["bar_start"].to_list())
    price.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return to_png(figure)


def _mark(price: Axes, volume: Axes, marks: pl.DataFrame) -> None:
    for n, (kind,) in enumerate(marks.select("kind").unique().sort("kind").iter_rows()):
        rows = marks.filter(pl.col("kind") == kind)
        colour = KIND_COLOURS[n % len(KIND_COLOURS)]
        name = f"{kind.replace('_', ' ')} ({len(rows)})"
        price.scatter(rows["place"], rows["close"], color=colour, s=26, zorder=3, label=name, edgecolors="white")
        volume.vlines(rows["place"], 0, rows["volume"] / 1e3, colors=colour, linewidth=1.6)


def _shade(axes: Axes, rows: pl.DataFrame) -> None:
    places = np.sort(rows["place"].cast(pl.Int64).to_numpy())
    for n, run in enumerate(np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)):
        if len(run):
            label = "planted" if n == 0 else None
            axes.axvspan(run[0] - 0.5, run[-1] + 0.5, color="#f6d9a8", alpha=0.7, linewidth=0, label=label)


def _name_ticks(axes: Axes, starts: list[datetime]) -> None:
    places = np.unique(np.linspace(0, len(starts) - 1, MOST_TICKS).astype(int))
    axes.set_xticks(places.tolist(), [f"{starts[place]:%b %d\n%H:%M}" for place in places], fontsize=8)
