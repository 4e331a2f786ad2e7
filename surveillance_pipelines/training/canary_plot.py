"""Plot of the detection of canaries."""

from collections.abc import Mapping

from surveillance_pipelines.evaluation.canaries import KindCounts
from surveillance_pipelines.training.figures import BLUE, GREEN, GREY, ORANGE, new_figure, to_png


def detection_figure(counts: Mapping[str, KindCounts], promised: Mapping[str, KindCounts]) -> bytes:
    """Draw the share of detected manipulations per kind with its 99% interval, beside the promised least share."""
    kinds = sorted(counts, key=lambda kind: (counts[kind].detected.rate, kind))
    figure, [axes] = new_figure(8.5, 0.9 + 0.36 * len(kinds))
    for place, kind in enumerate(kinds):
        found = counts[kind].detected
        low, high = found.interval()
        least = promised[kind].detected.interval()[0] if kind in promised else None
        colour = BLUE if least is None else GREEN if high >= least else ORANGE
        axes.plot([low, high], [place, place], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt")
        axes.plot(found.rate, place, "o", color=colour, clip_on=False, zorder=3)
        axes.text(1.02, place, f"{found.found} of {found.of}", va="center", fontsize=9)
        if least is not None:
            axes.plot([least, least], [place - 0.35, place + 0.35], color=GREY, linewidth=2)
    axes.plot([], [], "o-", color=GREEN, label="detected, 99% interval")
    axes.plot([], [], "o-", color=ORANGE, label="below the promise")
    axes.plot([], [], color=GREY, linewidth=2, label="promised at least")
    if any(kind not in promised for kind in kinds):
        axes.plot([], [], "o-", color=BLUE, label="nothing promised")
    axes.set(xlim=(0.0, 1.0), xlabel="share of the planted manipulations of full size", yticks=range(len(kinds)))
    axes.set_yticklabels([kind.replace("_", " ") for kind in kinds])
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)
    return to_png(figure)
