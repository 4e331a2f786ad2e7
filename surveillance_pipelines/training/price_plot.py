"""Price charts with alerts marked."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.price_text import price_text
from surveillance_pipelines.training.figures import BLUE, GREY, KIND_COLOURS, new_figure, to_png

MAX_SYMBOLS: Final = 6
MAX_TICKS: Final = 9
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
"""One per kind, because colours alone are hard to tell apart."""
_SIDE_MARGIN: Final = 0.01
_MAX_SEPARATED_DAYS: Final = 40
"""More lines than this would hide the prices."""
_MARGIN: Final = 0.12
"""Share of the price range left free above and below, so that marks are not cut off."""
_VOLUME_AXIS_RATIO: Final = 4
"""Ratio of the volume axis to the largest volume, which keeps the volume at the bottom of the chart."""


def prices_with_anomalies(
    bars: pl.DataFrame, anomalies: pl.DataFrame, *, title: str, planted: pl.DataFrame | None = None
) -> bytes:
    """Return ``price_figure`` as PNG bytes."""
    return to_png(price_figure(bars, anomalies, title=title, planted=planted))


def price_figure(
    bars: pl.DataFrame, anomalies: pl.DataFrame, *, title: str, planted: pl.DataFrame | None = None
) -> Figure:
    """Draw closes and volumes with anomalies marked, one panel per symbol.

    Bars are drawn without the gaps between sessions; dotted lines separate UTC days. A kind has the same colour and
    marker in every panel, and the legend explains every mark.

    Args:
        bars: symbol, bar_start (UTC), close, volume; at least one row. Only ``drawn_symbols`` are drawn, and the title
            says how many there are.
        anomalies: symbol, bar_start, kind; rows without a matching bar are ignored. May be empty.
        title: title of the figure.
        planted: symbol, bar_start, kind, bars (count) of planted anomalies, drawn shaded; None if nothing was planted.

    Raises:
        InvalidInputError: if there are no bars.
    """
    if bars.is_empty():
        raise InvalidInputError("expected bars to draw, got none", remedy="choose a symbol and days with bars")
    symbols, known = drawn_symbols(bars, anomalies), bars["symbol"].n_unique()
    looks = _looks([anomalies] if planted is None else [anomalies, planted])
    figure, panels = new_figure(13, 3.4 * len(symbols) + 0.8, rows=len(symbols))
    for symbol, axes in zip(symbols, panels, strict=True):
        is_symbol = pl.col("symbol") == symbol
        placed = bars.filter(is_symbol).sort("bar_start").with_row_index("position")
        handles = _draw_prices(axes, symbol, placed)
        handles += [] if planted is None else _shade_planted(axes, planted.filter(is_symbol), placed, looks)
        handles += _mark_anomalies(axes, anomalies.filter(is_symbol), placed, looks)
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    panels[-1].set_xlabel("bar start (UTC)")
    chosen = "" if known == len(symbols) else f"\n{len(symbols)} of {known:,} symbols: those with the most alerts"
    figure.suptitle(f"{title}{chosen}", fontsize=11)
    return figure


def drawn_symbols(bars: pl.DataFrame, anomalies: pl.DataFrame) -> list[str]:
    """Return the at most ``MAX_SYMBOLS`` symbols with the most anomalies, sorted."""
    counts = dict(anomalies.group_by("symbol").len().iter_rows())
    ranked = sorted(bars["symbol"].unique().to_list(), key=lambda symbol: (-counts.get(symbol, 0), symbol))
    return sorted(ranked[:MAX_SYMBOLS])


class _Look(NamedTuple):
    """Colour and marker of a kind."""

    colour: str
    marker: str


def _looks(marks: list[pl.DataFrame]) -> dict[str, _Look]:
    kinds = sorted({kind for rows in marks for kind in rows["kind"].to_list()})
    return {
        kind: _Look(KIND_COLOURS[n % len(KIND_COLOURS)], _MARKERS[n % len(_MARKERS)]) for n, kind in enumerate(kinds)
    }


def _draw_prices(axes: Axes, symbol: str, placed: pl.DataFrame) -> list[Line2D]:
    volume = axes.twinx()
    volume.vlines(placed["position"], 0, placed["volume"], colors=GREY, linewidth=0.8, alpha=0.5)
    largest = max(placed["volume"].to_list())
    volume.set(ylim=(0, (largest if largest > 0 else 1.0) * _VOLUME_AXIS_RATIO), yticks=[])
    volume.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.set_zorder(volume.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.plot(placed["position"], placed["close"], color=BLUE, linewidth=1)
    axes.set_title(symbol, loc="left", fontsize=10, fontweight="bold")
    axes.set_ylabel("close", fontsize=8)
    axes.margins(y=_MARGIN)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda price, _tick: price_text(price)))
    axes.tick_params(axis="y", labelsize=8)
    room = max(1.0, _SIDE_MARGIN * len(placed))
    axes.set_xlim(-room, len(placed) - 1 + room)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda _position, _tick: ""))
    starts = placed["bar_start"].to_list()
    _label_ticks(axes, starts)
    return [
        Line2D([], [], color=BLUE, linewidth=1, label="close (axis on the left)"),
        Line2D([], [], color=GREY, linewidth=3, alpha=0.5, label=f"volume, largest {largest:,.6g}"),
        *_separate_days(axes, starts),
    ]


def _mark_anomalies(
    axes: Axes, anomalies: pl.DataFrame, placed: pl.DataFrame, looks: Mapping[str, _Look]
) -> list[Line2D]:
    marks = anomalies.select("bar_start", "kind").join(placed, on="bar_start", how="inner")
    if marks.is_empty():
        return [Line2D([], [], linestyle="", label="no alert")]
    handles = []
    for (kind,), rows in marks.sort("kind").partition_by("kind", as_dict=True, maintain_order=True).items():
        look, name = looks[str(kind)], f"alert: {str(kind).replace('_', ' ')} ({len(rows):,})"
        axes.scatter(
            rows["position"], rows["close"], s=46, marker=look.marker, facecolors="none", edgecolors=look.colour,
            linewidths=1.6, zorder=3,
        )  # fmt: skip
        handles.append(_legend_handle(look.colour, name, marker=look.marker, filled=False))
    return handles


def _shade_planted(axes: Axes, planted: pl.DataFrame, placed: pl.DataFrame, looks: Mapping[str, _Look]) -> list[Line2D]:
    stretches = planted.join(placed.select("bar_start", "position"), on="bar_start", how="inner").sort("position")
    for row in stretches.iter_rows(named=True):
        left, right = row["position"] - 0.5, row["position"] + row["bars"] - 0.5
        axes.axvspan(left, right, color=looks[row["kind"]].colour, alpha=0.25, linewidth=0)
    kinds = stretches["kind"].unique().sort().to_list()
    return [
        _legend_handle(looks[kind].colour, f"planted: {kind.replace('_', ' ')}", marker="s", filled=True)
        for kind in kinds
    ]


def _legend_handle(colour: str, name: str, *, marker: str, filled: bool) -> Line2D:
    face, faint = (colour, 0.4) if filled else ("none", 1.0)
    return Line2D(
        [], [], linestyle="", marker=marker, markerfacecolor=face, markeredgecolor=colour, alpha=faint, label=name
    )


def _separate_days(axes: Axes, starts: list[datetime]) -> list[Line2D]:
    days = [start.date() for start in starts]
    first_bars = [position for position in range(1, len(days)) if days[position] != days[position - 1]]
    if not 0 < len(first_bars) <= _MAX_SEPARATED_DAYS:
        return []
    for position in first_bars:
        axes.axvline(position - 0.5, color=GREY, linewidth=0.8, linestyle=":")
    return [Line2D([], [], color=GREY, linewidth=0.8, linestyle=":", label="new UTC day")]


def _label_ticks(axes: Axes, starts: list[datetime]) -> None:
    step = max(1, -(-len(starts) // MAX_TICKS))
    positions = list(range(0, len(starts), step))
    form = "%H:%M" if starts[0].date() == starts[-1].date() else "%b %d\n%H:%M"
    axes.set_xticks(positions, [f"{starts[position]:{form}}" for position in positions], fontsize=8)
