"""Shapes of the anomalies that evaluate detectors, written independently of those that train them.

``training/anomaly_shapes.py`` changes closing prices bar by bar. Here, every shape is a path of the price within and
across minutes, sampled ``POINTS`` times a minute; the bars follow from the path. A detector that has only learned the
training shapes cannot recognise these by their construction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

POINTS: Final = 12
"""Samples of the price path per minute."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The change that an anomaly makes to consecutive minutes.

    Attributes:
        path: float64[n × POINTS], added to the logarithm of the price path.
        volume_factor: float64[n], multiplies the volume, which is raised to the typical volume first if it exceeds 1.
        volume_added: float64[n], added to the volume, in typical volumes.
    """

    path: Floats
    volume_factor: Floats
    volume_added: Floats

    @property
    def minutes(self) -> int:
        return len(self.volume_factor)

    @property
    def kept(self) -> float:
        """The part of the move that later minutes keep, as a logarithm."""
        return float(self.path[-1])


@dataclass(frozen=True, slots=True)
class Size:
    """How large an anomaly is.

    Attributes:
        move: its largest move, as a logarithm, positive.
        volume: its largest volume, in typical volumes.
    """

    move: float
    volume: float


Shape = Callable[[Size, np.random.Generator], Overlay]


def volume_spike(size: Size, random: np.random.Generator) -> Overlay:
    """Trade many times the usual volume in one minute, without a move."""
    return _overlay(np.zeros(POINTS), [1.0], added=[size.volume * random.uniform(1.0, 1.2)])


def price_gap(size: Size, random: np.random.Generator) -> Overlay:
    """Jump between two minutes to a level that holds; a part of the move comes back within ten minutes."""
    minutes = int(random.integers(1, 3))
    level, back = _side(random) * size.move, random.uniform(0.0, 0.2)
    path = level * (1.0 - back * np.linspace(0.0, 1.0, minutes * POINTS))
    return _overlay(path, np.full(minutes, random.uniform(1.0, 2.0)))


def bad_print(size: Size, random: np.random.Generator) -> Overlay:
    """Print far from the market once, inside a minute or as its last trade, without volume in keeping."""
    path = np.zeros(2 * POINTS)
    at = POINTS - 1 if random.random() < 0.5 else int(random.integers(2, POINTS - 2))
    path[at] = _side(random) * size.move
    return _overlay(path, np.ones(2))


def news_shock(size: Size, random: np.random.Generator) -> Overlay:
    """React to news within two minutes on heavy volume, and return within the next ten."""
    reaction, recovery = int(random.integers(1, 3)), int(random.integers(4, 11))
    rise = 1.0 - np.exp(-4.0 * np.linspace(0.0, 1.0, reaction * POINTS))
    fall = np.linspace(1.0, random.uniform(0.0, 0.15), recovery * POINTS)
    factors = [size.volume / 3.0] * reaction + list(np.linspace(size.volume / 4.0, 1.0, recovery))
    return _overlay(_side(random) * size.move * np.concatenate([rise, fall]), factors)


def price_volume_divergence(size: Size, random: np.random.Generator) -> Overlay:
    """Drift to a new level while the volume dries up."""
    minutes = int(random.integers(10, 21))
    steepness = np.linspace(-4.0, 4.0, minutes * POINTS)
    path = _side(random) * size.move / (1.0 + np.exp(-steepness))
    return _overlay(path, random.uniform(0.1, 0.3, minutes))


def volatility_burst(size: Size, random: np.random.Generator) -> Overlay:
    """Swing around the old level with a decaying amplitude."""
    minutes = int(random.integers(5, 13))
    time = np.linspace(0.0, 1.0, minutes * POINTS)
    swings = np.sin(2.0 * np.pi * random.integers(2, 5) * time) * np.exp(-1.5 * time)
    return _overlay(_side(random) * size.move * swings * (1.0 - time**4), random.uniform(1.5, 3.0, minutes))


def ramping(size: Size, random: np.random.Generator) -> Overlay:
    """Climb a staircase of equal steps, each with a short rest, on slightly more volume."""
    minutes = int(random.integers(15, 41))
    steps = np.floor(np.linspace(0.0, 1.0, minutes * POINTS) * 2 * minutes) / (2 * minutes)
    return _overlay(_side(random) * size.move * steps, np.full(minutes, random.uniform(1.1, 1.5)))


def pump_and_dump(size: Size, random: np.random.Generator) -> Overlay:
    """Rise exponentially on growing volume, then collapse in a few minutes."""
    rise, fall = int(random.integers(10, 21)), int(random.integers(3, 9))
    up = np.expm1(3.0 * np.linspace(0.0, 1.0, rise * POINTS)) / np.expm1(3.0)
    down = np.exp(-4.0 * np.linspace(0.0, 1.0, fall * POINTS))
    factors = np.concatenate([np.geomspace(1.2, size.volume / 2.0, rise), np.linspace(size.volume / 2.0, 1.5, fall)])
    return _overlay(size.move * np.concatenate([up, down]), factors)


def marking_the_close(size: Size, random: np.random.Generator) -> Overlay:
    """Push the price in the last minutes of the session, most of it in the last one."""
    minutes = int(random.integers(1, 6))
    push = np.linspace(0.0, 1.0, minutes * POINTS) ** 3
    return _overlay(_side(random) * size.move * push, np.linspace(1.5, size.volume / 3.0, minutes))


def momentum_ignition(size: Size, random: np.random.Generator) -> Overlay:
    """Burst, wait for followers, and snap back."""
    burst, wait, back = (int(random.integers(low, high)) for low, high in ((1, 4), (2, 6), (1, 4)))
    kept = random.uniform(0.0, 0.3)
    path = np.concatenate(
        [
            np.linspace(0.0, 1.0, burst * POINTS),
            np.full(wait * POINTS, 1.0) + 0.03 * random.standard_normal(wait * POINTS),
            np.linspace(1.0, kept, back * POINTS),
        ]
    )
    factors = [size.volume / 2.0] * burst + [2.0] * wait + [size.volume / 3.0] * back
    return _overlay(_side(random) * size.move * path, factors)


def cross_symbol_divergence(size: Size, random: np.random.Generator) -> Overlay:
    """Leave the peers at a constant pace on ordinary volume, and stay away from them."""
    minutes = int(random.integers(10, 26))
    return _overlay(_side(random) * size.move * np.linspace(0.0, 1.0, minutes * POINTS), np.ones(minutes))


SHAPES: Final[dict[str, Shape]] = {
    "volume_spike": volume_spike,
    "price_gap": price_gap,
    "bad_print": bad_print,
    "news_shock": news_shock,
    "price_volume_divergence": price_volume_divergence,
    "volatility_burst": volatility_burst,
    "ramping": ramping,
    "pump_and_dump": pump_and_dump,
    "marking_the_close": marking_the_close,
    "momentum_ignition": momentum_ignition,
    "cross_symbol_divergence": cross_symbol_divergence,
}
"""Name → shape. ``news_shock`` is no manipulation, but an event that surveillance must not miss."""

AT_THE_CLOSE: Final = frozenset({"marking_the_close"})
"""Shapes that end with the session."""

LONGEST_MINUTES: Final = 40


def _side(random: np.random.Generator) -> float:
    return 1.0 if random.random() < 0.5 else -1.0


def _overlay(path: Floats, factors: list[float] | Floats, added: list[float] | None = None) -> Overlay:
    factor = np.asarray(factors, dtype=np.float64)
    return Overlay(path, factor, np.zeros(len(factor)) if added is None else np.asarray(added, dtype=np.float64))
