"""Plot of which minutes of a session have a bar, per symbol."""

from typing import Final

import numpy as np
from matplotlib.colors import ListedColormap

from surveillance_pipelines.market.session_bars import Coverage
from surveillance_pipelines.training.figures import GREEN, ORANGE, new_figure, to_png

MAX_SYMBOLS: Final = 40


def coverage_figure(coverage: Coverage) -> bytes:
    """Draw one line per symbol, those with most missing minutes first, up to ``MAX_SYMBOLS``."""
    worst = sorted(coverage.has_bar, key=lambda symbol: (float(coverage.has_bar[symbol].mean()), symbol))[:MAX_SYMBOLS]
    minutes = coverage.slot.minutes
    picture = np.full((len(worst), int(minutes[-1]) + 1), np.nan)  # breaks stay empty
    for place, symbol in enumerate(worst):
        picture[place, minutes] = coverage.has_bar[symbol]
    figure, [axes] = new_figure(8.5, 1.1 + 0.22 * len(worst))
    axes.imshow(
        picture, aspect="auto", interpolation="nearest", cmap=ListedColormap([ORANGE, GREEN]), vmin=0.0, vmax=1.0
    )
    axes.grid(visible=False)
    axes.set(yticks=range(len(worst)), xlabel="minutes since the opening; orange: no bar")
    axes.set_yticklabels([f"{symbol} {coverage.has_bar[symbol].mean():.0%}" for symbol in worst], fontsize=8)
    axes.set_title(f"{coverage.calendar}, session of {coverage.slot.session_date}", fontsize=10, loc="left")
    return to_png(figure)
