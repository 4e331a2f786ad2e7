"""The shape of each kind of anomaly: one pure function per kind that changes consecutive bars.

Prices are logarithms. A severity of s is comparable across symbols and hours: a price effect of s local volatilities
(times the square root of the length if it spreads over several bars, so that s is its z-score), and a volume effect of
s times the local median volume.

Definitions follow the indicators of market manipulation in Commission Delegated Regulation (EU) 2016/522, Annex II
(marking the close, momentum ignition, pump and dump), supplementing the Market Abuse Regulation (EU) 596/2014. Pump and
dump as a local breakout of price and volume also follows Kamps & Kleinberg, "To the moon: defining and detecting
cryptocurrency pump-and-dumps", Crime Science 7:18 (2018). The other kinds are statistical and defined here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive bars of one symbol, and the local scale of the bars just before them. Arrays are [n]."""

    open: Floats  # log prices
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    volatility: float  # of a bar's log return
    typical_volume: float
    peer_returns: Floats  # mean log return of the other symbols in these bars; NaN without other symbols

    def __len__(self) -> int:
        return len(self.close)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The changed bars; later bars are shifted by ``shift`` (log)."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    shift: float = 0.0


Shape = Callable[[Stretch, float, np.random.Generator], Rewrite]


def volume_spike(bars: Stretch, severity: float, random: np.random.Generator) -> Rewrite:
    """Add volume; the price range widens slightly."""
    extra = bars.typical_volume * severity * random.uniform(0.8, 1.2, len(bars))
    return _moved(bars, np.zeros(len(bars)), bars.volume + extra, range_scale=1.3)


def price_gap(bars: Stretch, severity: float, random: np.random.Generator) -> Rewrite:
    """Open away from the last close and stay at the new level."""
    jump = _sign(random) * severity * bars.volatility
    offsets = np.full(len(bars), jump)
    volume = _at_least_typical(bars) * (1.0 + 0.1 * severity)
    return _moved(bars, offsets, volume, opening=offsets, shift=jump)


def price_volume_divergence(bars: Stretch, severity: float, random: np.random.Generator) -> Rewrite:
    """Trend strongly on declining volume."""
    target = _sign(random) * _spread_move(bars, severity)
    offsets = _straight(bars, target, random, noise=0.3)
    fading = bars.typical_volume * np.linspace(0.35, 0.08, len(bars)) * random.uniform(0.8, 1.2, len(bars))
    return _moved(bars, offsets, np.minimum(bars.volume, fading), shift=target)


def volatility_burst(bars: Stretch, severity: float, random: np.random.Generator) -> Rewrite:
    """Swing in both directions with wide bars and heavy volume, and return to the starting level."""
    signs = np.where(np.arange(len(bars)) % 2 == 0, 1.0, -1.0) * _sign(random)
    offsets = signs * random.uniform(0.3, 0.7, len(bars)) * severity * bars.volatility
    offsets[-1] = 0.0
    wick = random.uniform(0.1, 0.4, len(bars)) * severity * bars.volatility
    volume = _at_least_typical(bars) * (1.0 + severity / 4.0)
    return _moved(bars, offsets, volume, range_scale=1.5, wick=wick)


def ramping(bars: Stretch, severity: float, random: np.random.Generator) -> Rewrite:
    """Move the price in one direction with steady small trades: narrow bars, few pullbacks, slightly more volume."""
    target = _sign(random) * _spread_move(bars, severity)
    offsets = _straight(bars, target, random, noise=0.1)
    volume = _at_least_typical(bars) * (1.3 + 0.1 * severity)
    return _moved(bars, offsets, volume, range_scale=0.7, shift=target)


def pump_and_dump(bars: Stretch, severity: float, random: np.random.Generator) -> Rewrite:
    """Rise at an accelerating pace on growing volume, then fall back faster on the heaviest volume."""
    count = len(bars)
    top = max(2, round(count * random.uniform(0.6, 0.75)))
    peak, rest = _spread_move(bars, severity), 0.1 * random.random()
    rise = (np.arange(1, top + 1) / top) ** 1.6
    fall = 1.0 - (1.0 - rest) * np.arange(1, count - top + 1) / (count - top)
    multiples = np.concatenate([np.linspace(1.5, severity, top), np.linspace(severity, 2.0, count - top)])
    offsets = peak * np.concatenate([rise, fall])
    return _moved(bars, offsets, _at_least_typical(bars) * multiples, range_scale=1.2, shift=float(offsets[-1]))


def marking_the_close(bars: Stretch, severity: float, random: np.random.Generator) -> Rewrite:
    """Move the price in the last minutes of a session on heavy volume; the next session opens at the old level."""
    steps = (np.arange(1, len(bars) + 1) / len(bars)) ** 2
    offsets = _sign(random) * _spread_move(bars, severity) * steps
    volume = _at_least_typical(bars) * (1.0 + severity / 3.0 * steps)
    return _moved(bars, offsets, volume)


def momentum_ignition(bars: Stretch, severity: float, random: np.random.Generator) -> Rewrite:
    """Start a trend with a burst, continue it as others follow, then reverse most of the move."""
    count = len(bars)
    burst = max(1, count // 3)
    back = max(1, count // 3)
    peak, kept = _sign(random) * _spread_move(bars, severity), random.uniform(0.1, 0.4)
    follow = np.linspace(0.8, 1.0, count - burst - back)
    turn = 1.0 - (1.0 - kept) * np.arange(1, back + 1) / back
    offsets = peak * np.concatenate([0.8 * np.arange(1, burst + 1) / burst, follow, turn])
    multiples = np.repeat([severity, 1.0 + severity / 4.0, 1.0 + severity / 2.0], [burst, len(follow), back])
    return _moved(bars, offsets, _at_least_typical(bars) * multiples, range_scale=1.2, shift=float(offsets[-1]))


def cross_symbol_divergence(bars: Stretch, severity: float, random: np.random.Generator) -> Rewrite:
    """Move against the peers, on ordinary volume.

    Raises:
        ValueError: if no other symbol trades in these bars.
    """
    if np.isnan(bars.peer_returns).all():
        raise ValueError("expected other symbols in the minutes of a cross_symbol_divergence, got none")
    peers = np.cumsum(np.nan_to_num(bars.peer_returns))
    direction = -math.copysign(1.0, peers[-1]) if peers[-1] != 0 else _sign(random)
    drift = _straight(bars, direction * _spread_move(bars, severity), random, noise=0.2)
    offsets = drift - 2.0 * peers  # reverse the move that the symbol shared with its peers
    return _moved(bars, offsets, bars.volume, shift=float(offsets[-1]))


SHAPES: Final[dict[str, Shape]] = {
    "volume_spike": volume_spike,
    "price_gap": price_gap,
    "price_volume_divergence": price_volume_divergence,
    "volatility_burst": volatility_burst,
    "ramping": ramping,
    "pump_and_dump": pump_and_dump,
    "marking_the_close": marking_the_close,
    "momentum_ignition": momentum_ignition,
    "cross_symbol_divergence": cross_symbol_divergence,
}

KIND_BARS: Final[dict[str, tuple[int, int]]] = {
    "volume_spike": (1, 3),
    "price_gap": (1, 1),
    "price_volume_divergence": (8, 15),
    "volatility_burst": (4, 10),
    "ramping": (12, 30),
    "pump_and_dump": (15, 30),
    "marking_the_close": (2, 5),
    "momentum_ignition": (4, 9),
    "cross_symbol_divergence": (8, 15),
}
"""Minimum and maximum number of bars of each kind."""


def _sign(random: np.random.Generator) -> float:
    return 1.0 if random.random() < 0.5 else -1.0


def _spread_move(bars: Stretch, severity: float) -> float:
    return severity * bars.volatility * math.sqrt(len(bars))


def _at_least_typical(bars: Stretch) -> Floats:
    return np.maximum(bars.volume, bars.typical_volume)


def _straight(bars: Stretch, target: float, random: np.random.Generator, *, noise: float) -> Floats:
    """Return offsets that rise linearly to ``target``, with noise in units of volatility except at the end."""
    offsets = target * np.arange(1, len(bars) + 1) / len(bars)
    offsets[:-1] += noise * bars.volatility * random.standard_normal(len(bars) - 1)
    return offsets


def _moved(
    bars: Stretch,
    offsets: Floats,
    volume: Floats,
    *,
    opening: Floats | None = None,
    range_scale: float = 1.0,
    wick: Floats | float = 0.0,
    shift: float = 0.0,
) -> Rewrite:
    """Shift closes by ``offsets`` and opens by the previous offset or by ``opening``; wicks keep their size."""
    before = np.concatenate([[0.0], offsets[:-1]]) if opening is None else opening
    open_, close = bars.open + before, bars.close + offsets
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    high = np.maximum(open_, close) + (bars.high - top) * range_scale + wick
    low = np.minimum(open_, close) - (bottom - bars.low) * range_scale - wick
    whole = bool(np.all(bars.volume == np.floor(bars.volume)))
    return Rewrite(open_, high, low, close, np.maximum(np.round(volume), 1.0) if whole else volume, shift)
