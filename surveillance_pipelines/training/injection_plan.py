"""Planning of planted anomalies: spaced apart, in equal numbers per kind, at positions suitable for the kind."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.frames import conform
from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.training.anomaly_shapes import KIND_BARS, SHAPES
from surveillance_pipelines.training.injection import LOCAL_BARS, PLAN_SCHEMA, anomaly_id

SPACING_BARS: Final = 45
"""Bars between the end of one anomaly and the start of the next, more than the windows of the shorter features."""
OPENING_BARS: Final = 5
"""First bars of a session in which nothing is planted, because gaps and heavy volume are ordinary there."""
SEVERITY: Final = (5.0, 14.0)
"""Range of severities, from hard to see to obvious."""

_MAX_ATTEMPTS: Final = 25
_MIN_TRADED_SHARE: Final = 0.8
"""Minimum share of a session's minutes with volume; below it, the local median volume is not meaningful."""


def plan_injections(
    bars: pl.DataFrame,
    *,
    per_symbol_day: float,
    seed: int,
    kinds: Sequence[str] = ANOMALY_KINDS,
    severity: tuple[float, float] = SEVERITY,
    sessions: SessionTable | None = None,
) -> pl.DataFrame:
    """Return a plan of anomalies for bars, in the columns of ``PLAN_SCHEMA``.

    Kinds are drawn in shuffled rounds, so that their counts stay balanced. Marking the close is placed in the last
    minutes of a session, all other kinds before them. Sessions with little volume, too few bars, or less than an hour
    of history get no anomaly. Cross-symbol divergence is omitted if only one symbol trades.

    Args:
        bars: ``BAR_SCHEMA``, one row per symbol and minute.
        per_symbol_day: average number of anomalies per symbol and session; a fractional part is a probability.
        seed: seed of positions, kinds and severities.
        kinds: the kinds to plant.
        severity: range of the uniformly drawn severities.
        sessions: regular trading hours; None treats each UTC date as one session, which is correct only for bars
            without pre-market and post-market.

    Raises:
        ValueError: if a kind is unknown.
    """
    unknown = sorted(set(kinds) - set(SHAPES))
    if unknown or not kinds:
        raise ValueError(f"expected kinds from {sorted(SHAPES)}, got {unknown or 'none'}")
    random = np.random.default_rng(seed)
    usable = [kind for kind in kinds if kind != "cross_symbol_divergence" or bars["symbol"].n_unique() > 1]
    rounds = _rounds(usable, random)
    rows: list[tuple[str, str, int, str, float, int]] = []
    for (symbol,), part in bars.sort("symbol", "bar_start").partition_by("symbol", as_dict=True).items():
        starts = part["bar_start"].dt.timestamp("us").to_numpy()
        occupied: list[tuple[int, int]] = []
        for first, last in _sessions_of(str(symbol), part, sessions):
            count = int(per_symbol_day) + int(random.random() < per_symbol_day % 1)
            for _ in range(count):
                kind = next(rounds)
                length = int(random.integers(KIND_BARS[kind][0], KIND_BARS[kind][1] + 1))
                start_row = _free_start(kind, length, (first, last), occupied, random)
                if start_row is not None:
                    occupied.append((start_row, start_row + length))
                    start = int(starts[start_row])
                    drawn = float(random.uniform(*severity))
                    rows.append((anomaly_id(str(symbol), start, kind), str(symbol), start, kind, drawn, length))
    raw = {**PLAN_SCHEMA, "bar_start": pl.Int64}
    return conform(pl.DataFrame(rows, schema=raw, orient="row"), PLAN_SCHEMA).sort("symbol", "bar_start")


def _rounds(kinds: Sequence[str], random: np.random.Generator) -> Iterator[str]:
    while True:
        yield from random.permutation(np.array(kinds)).tolist()


def _sessions_of(symbol: str, bars: pl.DataFrame, sessions: SessionTable | None) -> Iterator[tuple[int, int]]:
    """Yield the first row and one past the last row of each session that can contain anomalies."""
    identity, inside = _session_of_rows(symbol, bars, sessions)
    traded = bars["volume"].to_numpy() > 0
    rows = np.flatnonzero(inside)
    for part in np.split(rows, np.flatnonzero(np.diff(identity[rows])) + 1):
        if len(part) > OPENING_BARS + SPACING_BARS and traded[part].mean() >= _MIN_TRADED_SHARE:
            yield int(part[0]), int(part[-1]) + 1


def _session_of_rows(
    symbol: str, bars: pl.DataFrame, sessions: SessionTable | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    if sessions is None:
        return bars["date"].cast(pl.Int32).cast(pl.Int64).to_numpy(), np.ones(bars.height, dtype=bool)
    starts = bars["bar_start"].dt.timestamp("us").to_numpy()
    identity, minute, length = sessions.for_symbol(symbol).positions(starts)
    return identity, (minute >= 0) & (minute < length)


def _free_start(
    kind: str, length: int, session: tuple[int, int], occupied: Sequence[tuple[int, int]], random: np.random.Generator
) -> int | None:
    """Return a random start row that keeps the spacing, or None if no attempt succeeds."""
    first, last = session
    closing = KIND_BARS["marking_the_close"][1]
    low, high = max(first + OPENING_BARS, LOCAL_BARS), last - closing - length
    if kind == "marking_the_close":
        low, high = last - length, last - length + 1
    if low < LOCAL_BARS or low >= high:
        return None
    for start in random.integers(low, high, _MAX_ATTEMPTS).tolist():
        if all(start >= end + SPACING_BARS or start + length + SPACING_BARS <= begin for begin, end in occupied):
            return start
    return None
