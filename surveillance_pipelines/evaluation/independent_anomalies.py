"""Copies of real bars with anomalies of the independent generator, for evaluation only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.evaluation.independent_shapes import (
    AT_THE_CLOSE,
    LONGEST_MINUTES,
    POINTS,
    SHAPES,
    Overlay,
    Size,
)

Floats = npt.NDArray[np.float64]

FULL_MOVE: Final = 0.03
FULL_SIGMAS: Final = 8.0
FULL_VOLUME: Final = 15.0
"""An anomaly of full size moves the price by the larger of ``FULL_MOVE`` and ``FULL_SIGMAS`` robust standard deviations
of the symbol's minutes, or trades ``FULL_VOLUME`` times its median volume."""

SIZES: Final = {"full": 1.0, "third": 1.0 / 3.0}
"""Name of a size → its share of the full size."""

PER_SYMBOL_DAY: Final = 2
_BEFORE: Final = 65
"""Minutes of a session before the first anomaly; features need 60."""
_APART: Final = 60
"""Minutes between two anomalies: the longest window of a feature."""

EVENT_SCHEMA: Final = pl.Schema(
    {
        "event_id": pl.String,
        "symbol": pl.String,
        "kind": pl.String,
        "size": pl.String,
        "first": UTC_MICROSECONDS,  # start of the first changed bar
        "last": UTC_MICROSECONDS,  # start of the last changed bar
        "move": pl.Float64,  # largest move of the shape, as a logarithm
    }
)
_PRICES: Final = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True, eq=False)
class PlantedCopy:
    """A copy of bars with planted anomalies, ``BAR_SCHEMA``, and its events, ``EVENT_SCHEMA``."""

    bars: pl.DataFrame
    events: pl.DataFrame


def plant_independent(
    bars: pl.DataFrame, sessions: SessionTable, *, size: str, seed: int, kinds: Sequence[str] = tuple(SHAPES)
) -> PlantedCopy:
    """Return a copy of bars with at most ``PER_SYMBOL_DAY`` anomalies per symbol and session.

    Kinds take turns in an order drawn for the copy, so that all have about the same number of events. Sessions with too
    few bars, and symbols without volume, get none.

    Args:
        bars: ``BAR_SCHEMA``, one row per symbol and minute.
        sessions: sessions of every calendar that the symbols trade on.
        size: a key of ``SIZES``.
        seed: seed of positions, kinds and shapes.
        kinds: the kinds to plant.
    """
    random = np.random.default_rng(seed)
    ordered = bars.sort("symbol", "bar_start")
    turns = _Turns(kinds, size, random)
    parts, events = [], list[tuple[Any, ...]]()
    for (symbol,), part in ordered.partition_by("symbol", as_dict=True, maintain_order=True).items():
        changed, found = _plant_symbol(part, str(symbol), sessions, turns)
        parts.append(changed)
        events += [(f"{seed}-{symbol}-{number}", symbol, *event) for number, event in enumerate(found)]
    return PlantedCopy(pl.concat(parts), pl.DataFrame(events, schema=EVENT_SCHEMA, orient="row"))


class _Turns:
    """Draws all details of a copy, and gives each kind its turn."""

    def __init__(self, kinds: Sequence[str], size: str, random: np.random.Generator) -> None:
        self.size, self.random = size, random
        self._kinds, self._left = tuple(kinds), list[str]()

    def next(self) -> str:
        if not self._left:
            self._left = [str(kind) for kind in self.random.permutation(self._kinds)]
        return self._left.pop()


def _plant_symbol(
    part: pl.DataFrame,
    symbol: str,
    sessions: SessionTable,
    turns: _Turns,
) -> tuple[pl.DataFrame, list[tuple[Any, ...]]]:
    """Return the changed bars of one symbol, and its events without id and symbol."""
    identity, minute, length = sessions.for_symbol(symbol).positions(part["bar_start"].dt.timestamp("us").to_numpy())
    inside = (minute >= 0) & (minute < length)
    volume = part["volume"].to_numpy().copy()
    if not (volume[inside] > 0).any():
        return part, []
    prices = np.log(part.select(_PRICES).to_numpy())
    typical = float(np.median(volume[inside & (volume > 0)]))
    full = Size(_full_move(prices, inside), FULL_VOLUME)
    scaled = Size(full.move * SIZES[turns.size], full.volume * SIZES[turns.size])
    starts = part["bar_start"].to_list()
    events = []
    for session in np.unique(identity[inside]):
        rows = np.flatnonzero(inside & (identity == session))
        for begin, kind, overlay in _plan_session(len(rows), turns, scaled):
            changed = rows[begin : begin + overlay.minutes]
            _apply(prices, changed, overlay, turns.random)
            volume[changed] = _traded(volume[changed], overlay, typical)
            events.append((kind, turns.size, starts[changed[0]], starts[changed[-1]], scaled.move))
    columns = [pl.Series(name, np.exp(prices[:, at])) for at, name in enumerate(_PRICES)]
    return part.with_columns(*columns, pl.Series("volume", volume)), events


def _full_move(prices: Floats, inside: npt.NDArray[np.bool_]) -> float:
    returns = np.diff(prices[inside, 3])
    deviations = np.abs(returns - np.median(returns))
    return max(FULL_MOVE, FULL_SIGMAS * 1.4826 * float(np.median(deviations)))


def _plan_session(minutes: int, turns: _Turns, size: Size) -> list[tuple[int, str, Overlay]]:
    """Return position, kind and overlay of the anomalies of a session, in order of time."""
    plan, free, random = [], _BEFORE, turns.random
    for left in range(PER_SYMBOL_DAY, 0, -1):
        room = minutes - free - LONGEST_MINUTES - (left - 1) * (_APART + LONGEST_MINUTES)
        if room <= 0:
            return plan
        kind = turns.next()
        overlay = SHAPES[kind](size, random)
        begin = free + int(random.integers(0, room))
        if kind in AT_THE_CLOSE:
            begin = minutes - overlay.minutes
        plan.append((begin, kind, overlay))
        free = begin + overlay.minutes + _APART
    return plan


def _apply(prices: Floats, rows: npt.NDArray[np.intp], overlay: Overlay, random: np.random.Generator) -> None:
    """Change the prices of the bars ``rows``, and shift later ones by the part of the move that is kept."""
    for number, row in enumerate(rows):
        path = _path(prices[row], random) + overlay.path[number * POINTS : (number + 1) * POINTS]
        prices[row] = path[0], path.max(), path.min(), path[-1]
    prices[rows[-1] + 1 :] += overlay.kept


def _traded(volume: Floats, overlay: Overlay, typical: float) -> Floats:
    """Return the volume of the changed bars."""
    raised = np.where(overlay.volume_factor > 1.0, np.maximum(volume, typical), volume)
    return np.round(raised * overlay.volume_factor + overlay.volume_added * typical, 6)


def _path(bar: Floats, random: np.random.Generator) -> Floats:
    """Return a price path, float64[POINTS], with the open, high, low and close of a bar; logarithms."""
    opened, high, low, closed = bar
    extremes = (high, low) if random.random() < 0.5 else (low, high)
    return np.interp(np.arange(POINTS), [0, POINTS // 3, 2 * POINTS // 3, POINTS - 1], [opened, *extremes, closed])
