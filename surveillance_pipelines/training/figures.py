"""Helpers for all plots: matplotlib without global state, PNG output, one palette."""

import io
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

BLUE: Final = "#2b6ca3"
ORANGE: Final = "#d9722b"
GREEN: Final = "#3a8f5c"
GREY: Final = "#8a8f98"
PALE: Final = "#c9d3de"
KIND_COLOURS: Final = (
    "#d9722b", "#3a8f5c", "#8e5ea2", "#c0392b", "#b8860b", "#16a0a0", "#d45087", "#5d6d7e", "#7a9a01", "#111111",
)  # fmt: skip


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, height_ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure (inches) and its axes, in reading order, with light grids."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, columns, height_ratios=height_ratios)
    axes = [figure.add_subplot(grid[n // columns, n % columns]) for n in range(rows * columns)]
    for one in axes:
        one.grid(visible=True, color="#e6e9ee", linewidth=0.8)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


COLOURS: Final = 256
"""Colours of a PNG: enough for the palette and its antialiasing, at about a third of the bytes of full colour."""


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes, deterministically; small enough for Dagster's event log."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(packed, "PNG", optimize=True)
    return packed.getvalue()
