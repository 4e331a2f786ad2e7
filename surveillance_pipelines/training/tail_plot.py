"""Plot of the tails of ordinary bars."""

from typing import Final

import numpy as np

from surveillance_pipelines.evaluation.thresholds import TAIL_RATE
from surveillance_pipelines.models.session_phase import PHASES
from surveillance_pipelines.models.tail_detector import Tails
from surveillance_pipelines.training.figures import GREY, KIND_COLOURS, new_figure, to_png

COLUMNS: Final = 3
LEAST_PROBABILITY: Final = 1e-5
"""Lower end of the axis: about one bar in a year of regular sessions."""


def tails_figure(tails: Tails) -> bytes:
    """Draw, per feature and session phase, the probability that an ordinary bar is at least as large.

    Phases without a fit of their own have the curve of all bars, which is drawn once, as "all phases".
    """
    rows = -(-len(tails.features) // COLUMNS)
    figure, panels = new_figure(11, 2.9 * rows, rows=rows, columns=COLUMNS)
    probabilities = np.exp(-tails.surprise)
    for column, (axes, feature) in enumerate(zip(panels, tails.features, strict=False)):
        drawn: dict[bytes, str] = {}
        for phase, name in enumerate(PHASES):
            key = tails.knots[phase, column].tobytes()
            drawn[key] = "all phases" if key in drawn else name
        for (key, name), colour in zip(drawn.items(), KIND_COLOURS, strict=False):
            axes.plot(np.frombuffer(key), probabilities[0, column], color=colour, label=name)
        alerting = TAIL_RATE * tails.shares[column]
        axes.axhline(alerting, color=GREY, linestyle="--", label="share of the budget")
        shown = probabilities[0, column] >= LEAST_PROBABILITY
        largest = max(float(np.frombuffer(key)[shown].max()) for key in drawn)
        size = f"|{feature}|" if tails.two_sided[column] else feature
        axes.set(yscale="log", ylim=(LEAST_PROBABILITY, 1.0), xlim=(0.0, largest), xlabel=size)
        axes.set_title(f"{feature}, {tails.shares[column]:.0%} of the budget", fontsize=10)
    for axes in panels[::COLUMNS]:
        axes.set_ylabel("probability")
    panels[0].legend(frameon=False, fontsize=8, loc="upper right")
    return to_png(figure)
