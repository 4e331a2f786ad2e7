"""Pictures of prices with anomalies marked, as PNG bytes."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import polars as pl

_MOST_SYMBOLS: Final = 6
_INCHES: Final = (13.0, 3.2)
_COLOURS: Final = (
    "#d62728",
    "#ff7f0e",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#17becf",
    "#bcbd22",
    "#2ca02c",
    "#1f77b4",
    "#000000",
)


def price_picture(bars: "pl.DataFrame", marks: "pl.DataFrame", planted: "pl.DataFrame | None" = None) -> bytes:
    """Return closing prices over volume per symbol, with marks on the bars of anomalies.

    Args:
        bars: ``BAR_SCHEMA``; of more than six symbols those with the most marks are drawn.
        marks: at least ``symbol``, ``bar_start`` (UTC) and ``kind``.
        planted: ``PLAN_SCHEMA``; its stretches are shaded.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    symbols = _chosen(bars, marks)
    figure, axes = plt.subplots(
        len(symbols), 1, figsize=(_INCHES[0], _INCHES[1] * len(symbols) + 0.6), squeeze=False, layout="constrained"
    )
    colours = _colour_of_kinds(marks, planted)
    for symbol, axis in zip(symbols, axes[:, 0], strict=True):
        _draw(axis, symbol, bars=bars, marks=marks, planted=planted, colours=colours)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=110)
    plt.close(figure)
    return content.getvalue()


def _chosen(bars: "pl.DataFrame", marks: "pl.DataFrame") -> list[str]:
    counts = dict(marks.group_by("symbol").len().iter_rows())
    ranked = sorted(bars["symbol"].unique().to_list(), key=lambda symbol: (-counts.get(symbol, 0), symbol))
    return sorted(ranked[:_MOST_SYMBOLS])


def _colour_of_kinds(marks: "pl.DataFrame", planted: "pl.DataFrame | None") -> dict[str, str]:
    kinds: set[str] = {*marks["kind"]} | (set() if planted is None else {*planted["kind"]})
    return {kind: _COLOURS[place % len(_COLOURS)] for place, kind in enumerate(sorted(kinds))}


def _draw(
    axis: Any,
    symbol: str,
    *,
    bars: "pl.DataFrame",
    marks: "pl.DataFrame",
    planted: "pl.DataFrame | None",
    colours: dict[str, str],
) -> None:
    import polars as pl

    own = bars.filter(pl.col("symbol") == symbol).sort("bar_start")
    # Bars stand side by side: nights and weekends would leave nothing of the days.
    place = {start: index for index, start in enumerate(own["bar_start"].to_list())}
    volume = axis.twinx()
    volume.fill_between(
        range(own.height), own["volume"].to_list(), step="mid", color="#9db4c8", alpha=0.45, linewidth=0
    )
    volume.set_ylim(0, max([1.0, *own["volume"].to_list()]) * 4)
    volume.set_yticks([])
    axis.set_zorder(volume.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.plot(range(own.height), own["close"].to_list(), color="#1b3a57", linewidth=0.9)
    if planted is not None:
        _shade(axis, planted.filter(pl.col("symbol") == symbol), place, colours)
    _mark(axis, marks.filter(pl.col("symbol") == symbol), own, place, colours)
    _label_times(axis, own)
    axis.set_title(symbol, loc="left", fontsize=10, fontweight="bold")
    axis.margins(x=0.005)


def _shade(axis: Any, planted: "pl.DataFrame", place: dict[Any, int], colours: dict[str, str]) -> None:
    for row in planted.iter_rows(named=True):
        start = place[row["bar_start"]]
        axis.axvspan(start - 0.5, start + row["bars"] - 0.5, color=colours[row["kind"]], alpha=0.22, linewidth=0)
        axis.annotate(
            f"planted: {row['kind']}", (start, 1.0), xycoords=("data", "axes fraction"), fontsize=7, va="top",
            ha="right" if start > 0.8 * len(place) else "left", color=colours[row["kind"]],
        )  # fmt: skip


def _mark(
    axis: Any, marks: "pl.DataFrame", own: "pl.DataFrame", place: dict[Any, int], colours: dict[str, str]
) -> None:
    closes = own["close"].to_list()
    for (kind,), rows in marks.partition_by("kind", as_dict=True).items():
        where = [place[start] for start in rows["bar_start"].to_list() if start in place]
        axis.scatter(
            where, [closes[index] for index in where], s=34, facecolors="none", edgecolors=colours[str(kind)],
            linewidths=1.4, label=f"{kind} ({len(where)})", zorder=3,
        )  # fmt: skip
    if marks.height:
        axis.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), fontsize=7, ncols=5, frameon=False)


def _label_times(axis: Any, own: "pl.DataFrame") -> None:
    starts: Sequence[Any] = own["bar_start"].to_list()
    days = own["date"].n_unique()
    step = max(1, len(starts) // 8)
    ticks = list(range(0, len(starts), step))
    axis.set_xticks(
        ticks, [f"{starts[index]:%m-%d %H:%M}" if days > 1 else f"{starts[index]:%H:%M}" for index in ticks]
    )
    axis.tick_params(labelsize=7)
