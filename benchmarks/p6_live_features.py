"""P6: features of one bar at a time, compared with talipp's incremental indicators and TA-Lib over a window."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Final

import numpy as np

from benchmarks.harness import Comparison, Goal, Parity, prove, timed
from benchmarks.indicators import (
    COLUMNS,
    SETTLED,
    Floats,
    largest_difference,
    market,
    talib_columns,
)
from benchmarks.talipp_indicators import TalippSymbol
from surveillance_pipelines.clock import DAY_US, MICROSECONDS
from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.state import FeatureState

WINDOW: Final = 5_000
TOLERANCE: Final = 1e-9
BARS: Final = 20_000
DAY: Final = 20_000 * DAY_US
TALIPP_BARS: Final = 500
TALIB_BARS: Final = 20
OUR_BARS: Final = 10_000

_WORK: Final = f"{len(COLUMNS)} indicators of one closed bar, incrementally"
_OURS: Final = "FeatureState.advance: the kernel's step and the 512 bars of history kept for the next day"
_REBUILD: Final = (
    "all bars lie in one UTC day; at a new day's first bar the state is rebuilt from 512 bars, once a day, which is a "
    "figure of its own"
)
_EQUAL_SET: Final = (
    f"both arms compute {len(COLUMNS)} columns; ours also the {kernel.N_FEATURES - len(COLUMNS)} others of the view"
)
_ATTEMPTS: Final = (
    (
        "attempt 1, kept: windows in four lanes, ring positions masked instead of divided, the bar written once, into "
        "the history's own row"
    ),
    (
        "attempt 2, kept: numba's compiled entry point instead of its dispatcher, rows of the history indexed once, "
        "one comparison for bar order and UTC day, memory views of its rows; 1.90 to "
        "1.35 µs a bar (smallest of 7 runs of 10,000)"
    ),
    (
        "attempt 3, dropped: the compiler's vectoriser of straight-line code (NUMBA_SLP_VECTORIZE) brings the kernel's "
        "step from 0.53 to 0.46 µs with equal bits, but it is a switch of the whole process that numba leaves off"
    ),
    (
        "where it goes, in µs a bar: the kernel 0.53, boxing of its three arrays 0.13, copying the bar into its "
        "history 0.09, the array of the answer 0.08, Python between them 0.5"
    ),
)


class Tape:
    """An endless sequence of bars of one symbol within a UTC day, one second apart."""

    def __init__(self) -> None:
        (self.rows,) = market(1, BARS)
        self.lists: list[list[float]] = self.rows.tolist()
        self.columns = np.asfortranarray(self.rows)


def ours_arm(tape: Tape) -> Callable[[], float]:
    """Return an arm whose cost is the seconds per bar, on a state with ``SETTLED`` bars."""

    def arm() -> float:
        state = FeatureState()
        for i in range(SETTLED):
            state.advance(DAY + i * MICROSECONDS, tape.rows[i])
        rows = [tape.rows[i % BARS] for i in range(SETTLED, SETTLED + OUR_BARS)]
        starts = range(DAY + SETTLED * MICROSECONDS, DAY + (SETTLED + OUR_BARS) * MICROSECONDS, MICROSECONDS)
        begin = time.perf_counter()
        for start, row in zip(starts, rows, strict=True):
            state.advance(start, row)
        return (time.perf_counter() - begin) / OUR_BARS

    return arm


def against_talipp() -> None:
    """Compare with talipp; each arm gets the bars in its fastest form, an array row or Python floats."""
    tape, theirs = Tape(), TalippSymbol()
    for bar in tape.lists[:SETTLED]:
        theirs.add(bar)

    def talipp_bars() -> None:
        for bar in tape.lists[SETTLED : SETTLED + TALIPP_BARS]:
            theirs.add(bar)
        theirs.forget()

    prove(
        Comparison(
            name="p6_talipp",
            work=_WORK,
            ours=_OURS,
            anchor="talipp, arithmetic in Python",
            distributions=("talipp",),
            unit="s per bar",
            goal=Goal(ratio=50.0),
            notes=(
                _EQUAL_SET,
                _REBUILD,
                *_ATTEMPTS,
                "talipp's histories are cut to 100 values every 500 bars, inside its time",
            ),
        ),
        parity=lambda: _parity(tape, _talipp_columns(tape)),
        ours=ours_arm(tape),
        anchor=lambda: timed(talipp_bars)() / TALIPP_BARS,
        rounds=11,
        figures=lambda: {"rebuild_at_a_new_day_us": _rebuild_seconds(tape) * 1e6},
    )


def against_talib_window() -> None:
    """Compare with TA-Lib, which has no state and reads the last 5,000 bars for each bar."""
    tape = Tape()

    def talib_bars() -> None:
        for end in range(WINDOW, WINDOW + TALIB_BARS):
            talib_columns(tape.columns[end - WINDOW : end])

    prove(
        Comparison(
            name="p6_talib_window",
            work=_WORK,
            ours=_OURS,
            anchor=f"TA-Lib over the last {WINDOW:,} bars",
            distributions=("TA-Lib", "numpy"),
            unit="s per bar",
            goal=Goal(ratio=500.0),
            notes=(_EQUAL_SET, _REBUILD, *_ATTEMPTS),
        ),
        parity=lambda: _parity(tape, talib_columns(tape.columns[:WINDOW])),
        ours=ours_arm(tape),
        anchor=lambda: timed(talib_bars)() / TALIB_BARS,
        rounds=11,
    )


def _talipp_columns(tape: Tape) -> dict[str, Floats]:
    symbol = TalippSymbol()
    rows = [symbol.add(bar) for bar in tape.lists[:WINDOW]]
    return {name: np.array([row[name] for row in rows]) for name in COLUMNS}


def _parity(tape: Tape, theirs: Mapping[str, Floats]) -> Parity:
    """Compare every bar of the first ``WINDOW`` bars; ours is advanced bar by bar."""
    state = FeatureState()
    ours = np.array([state.advance(DAY + i * MICROSECONDS, tape.rows[i]) for i in range(WINDOW)])
    difference, column = largest_difference(ours, dict(theirs))
    return Parity(
        passed=difference <= TOLERANCE,
        statement=f"largest difference {difference:.1e} of max(1, |value|), in {column}, over "
        f"{WINDOW - SETTLED:,} bars after the first {SETTLED} (an exponential mean begins otherwise)",
    )


def _rebuild_seconds(tape: Tape) -> float:
    state = FeatureState()
    for i in range(SETTLED):
        state.advance(DAY + i * MICROSECONDS, tape.rows[i])
    costs = []
    for day in range(1, 12):
        begin = time.perf_counter()
        state.advance(DAY + day * DAY_US, tape.rows[SETTLED + day])
        costs.append(time.perf_counter() - begin)
    return median(costs)


if __name__ == "__main__":
    against_talipp()
    against_talib_window()
