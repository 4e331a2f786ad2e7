"""Price charts with alerts marked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.training.figures import BLUE, GREY, KIND_COLOURS, new_figure, to_png

MAX_SYMBOLS: Final = 6
MAX_TICKS: Final = 9
_VOLUME_AXIS_RATIO: Final = 4
"""Ratio of the volume axis to the largest volume, which keeps the volume at the bottom of the chart."""


def prices_with_anomalies(
    bars: pl.DataFrame, anomalies: pl.DataFrame, *, title: str, planted: pl.DataFrame | None = None
) -> bytes:
    """Draw closes and volumes with anomalies marked, one panel per symbol, as PNG bytes.

    Bars are drawn without the gaps between sessions. A kind has the same colour in every panel.

    Args:
        bars: symbol, bar_start (UTC), close, volume; at least one row. If there are more than ``MAX_SYMBOLS`` symbols,
            those with the most anomalies are drawn.
        anomalies: symbol, bar_start, kind; rows without a matching bar are ignored. May be empty.
        title: title of the figure.
        planted: symbol, bar_start, kind, bars (count) of planted anomalies, drawn shaded; None if nothing was planted.

    Raises:
        InvalidInputError: if there are no bars.
    """
    if bars.is_empty():
        raise InvalidInputError("expected bars to draw, got none", remedy="choose a symbol and days with bars")
    symbols = _chosen(bars, anomalies)
    colours = _colours([anomalies] if planted is None else [anomalies, planted])
    figure, panels = new_figure(13, 3.4 * len(symbols) + 0.8, rows=len(symbols))
    for symbol, axes in zip(symbols, panels, strict=True):
        is_symbol = pl.col("symbol") == symbol
        placed = bars.filter(is_symbol).sort("bar_start").with_row_index("position")
        _draw_prices(axes, symbol, placed)
        handles = [] if planted is None else _shade_planted(axes, planted.filter(is_symbol), placed, colours)
        handles += _mark_anomalies(axes, anomalies.filter(is_symbol), placed, colours)
        if handles:
            axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    panels[-1].set_xlabel("bar start (UTC); volume at the bottom")
    figure.suptitle(title, fontsize=11)
    return to_png(figure)


def _chosen(bars: pl.DataFrame, anomalies: pl.DataFrame) -> list[str]:
    counts = dict(anomalies.group_by("symbol").len().iter_rows())
    ranked = sorted(bars["symbol"].unique().to_list(), key=lambda symbol: (-counts.get(symbol, 0), symbol))
    return sorted(ranked[:MAX_SYMBOLS])


def _colours(marks: list[pl.DataFrame]) -> dict[str, str]:
    kinds = sorted({kind for rows in marks for kind in rows["kind"].to_list()})
    return {kind: KIND_COLOURS[n % len(KIND_COLOURS)] for n, kind in enumerate(kinds)}


def _draw_prices(axes: Axes, symbol: str, placed: pl.DataFrame) -> None:
    volume = axes.twinx()
    volume.vlines(placed["position"], 0, placed["volume"], colors=GREY, linewidth=0.8, alpha=0.5)
    largest = max(1.0, *placed["volume"].to_list())
    volume.set(ylim=(0, largest * _VOLUME_AXIS_RATIO), yticks=[])
    volume.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.set_zorder(volume.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.plot(placed["position"], placed["close"], color=BLUE, linewidth=1)
    axes.set_title(symbol, loc="left", fontsize=10, fontweight="bold")
    axes.set_ylabel("close", fontsize=8)
    axes.set_xlim(-1, len(placed))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda _position, _tick: ""))
    _label_ticks(axes, placed["bar_start"].to_list())


def _mark_anomalies(
    axes: Axes, anomalies: pl.DataFrame, placed: pl.DataFrame, colours: Mapping[str, str]
) -> list[Line2D]:
    marks = anomalies.select("bar_start", "kind").join(placed, on="bar_start", how="inner")
    handles = []
    for (kind,), rows in marks.sort("kind").partition_by("kind", as_dict=True, maintain_order=True).items():
        colour, name = colours[str(kind)], f"{str(kind).replace('_', ' ')} ({len(rows)})"
        axes.scatter(
            rows["position"], rows["close"], s=34, facecolors="none", edgecolors=colour, linewidths=1.5, zorder=3
        )
        handles.append(_legend_handle(colour, name, marker="o", filled=False))
    return handles


def _shade_planted(axes: Axes, planted: pl.DataFrame, placed: pl.DataFrame, colours: Mapping[str, str]) -> list[Line2D]:
    stretches = planted.join(placed.select("bar_start", "position"), on="bar_start", how="inner").sort("position")
    for row in stretches.iter_rows(named=True):
        left, right = row["position"] - 0.5, row["position"] + row["bars"] - 0.5
        axes.axvspan(left, right, color=colours[row["kind"]], alpha=0.25, linewidth=0)
    kinds = stretches["kind"].unique().sort().to_list()
    return [
        _legend_handle(colours[kind], f"planted: {kind.replace('_', ' ')}", marker="s", filled=True) for kind in kinds
    ]


def _legend_handle(colour: str, name: str, *, marker: str, filled: bool) -> Line2D:
    face, faint = (colour, 0.4) if filled else ("none", 1.0)
    return Line2D(
        [], [], linestyle="", marker=marker, markerfacecolor=face, markeredgecolor=colour, alpha=faint, label=name
    )


def _label_ticks(axes: Axes, starts: list[datetime]) -> None:
    step = max(1, -(-len(starts) // MAX_TICKS))
    positions = list(range(0, len(starts), step))
    form = "%H:%M" if starts[0].date() == starts[-1].date() else "%b %d\n%H:%M"
    axes.set_xticks(positions, [f"{starts[position]:{form}}" for position in positions], fontsize=8)
