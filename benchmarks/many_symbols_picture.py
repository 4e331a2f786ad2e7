"""Picture of ``benchmarks.many_symbols``: memory and latency over time, and the burst at the end of each minute."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.minute_bursts import COLD_MINUTES, Burst, Latencies

BUCKET_SECONDS: Final = 2.0
"""Messages of this long share a point of the latency panel."""


def draw(memory: Sequence[tuple[float, float]], measured: Latencies, found: Sequence[Burst], path: Path) -> None:
    """Draw the three panels.

    Args:
        memory: seconds since the first tick, and megabytes.
        measured: latencies of the messages.
        found: burst of each minute.
        path: of the picture; the suffix selects its format.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 8), layout="constrained")
        above, middle, below = figure.subplots(3)
        above.plot([at / 60 for at, _ in memory], [size for _, size in memory], color="#2a7f62", linewidth=1)
        above.set(title="Memory of the drain run (RSS)", ylabel="MB", ylim=(0, None))
        _draw_latency(middle, measured)
        for axes in (above, middle):
            axes.set(xlabel="minutes since the first tick", xlim=(0, memory[-1][0] / 60))
            for number in range(1, len(found) + 1):
                axes.axvline(number, color="grey", linewidth=0.4)
        _draw_bursts(below, found)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_latency(axes: Any, measured: Latencies) -> None:
    buckets = np.floor(measured.sent / BUCKET_SECONDS)
    at = np.unique(buckets)
    groups = [measured.received[buckets == bucket] * 1e3 for bucket in at]
    minutes = (at + 0.5) * BUCKET_SECONDS / 60
    for percent, colour in ((99, "#b3541e"), (50, "#2a7f62")):
        axes.plot(minutes, [np.percentile(group, percent) for group in groups], color=colour, label=f"p{percent}")
    axes.set(title=f"SentTimestamp to receipt, {BUCKET_SECONDS:g} s of messages per point", ylabel="ms", yscale="log")
    axes.legend(fontsize=7, loc="upper right")


def _draw_bursts(axes: Any, found: Sequence[Burst]) -> None:
    for number, burst in enumerate(found):
        is_cold = number < COLD_MINUTES
        label = f"minute {number + 1}{' (first ticks)' if is_cold else ''}"
        style = {"color": "grey", "linestyle": "--"} if is_cold else {}
        axes.step(burst.published, range(1, burst.bars + 1), where="post", label=label, linewidth=1, **style)
    axes.set(title="Final rows published after the end of each minute", xlabel="seconds after the minute's end")
    axes.set(ylabel="bars", xlim=(0, None), ylim=(0, None))
    axes.legend(fontsize=7, loc="lower right")
