"""P12: the peers' return of every symbol in one minute, compared with one pass over the returns with numpy."""

from collections.abc import Mapping
from statistics import median
from typing import Final

from benchmarks.context import SIZES, interleaved_minute, live_minute, numpy_pass, returns_of, seconds
from benchmarks.harness import Comparison, Curve, Goal, Parity, prove

_NOTES: Final = (
    (
        "the pass gives every bar the returns of the whole minute; the live lane must give each bar those known when "
        "it is scored, so it answers symbol by symbol"
    ),
    (
        "core_v1 keeps the sum in sorted order of the peers bit for bit, which no linear algorithm gives: each answer "
        "is one pass over the others, quadratic in symbols"
    ),
    (
        "attempt 1, kept: new returns are sorted into the list when a bar asks, instead of one by one on arrival (7.1 "
        "to 3.2 ms at 5,000 symbols, and 1.7 to 1.1 times the cost per symbol of 100)"
    ),
    (
        "attempt 2, kept: the three values that a median without one symbol can have are found once per set of "
        "returns; an answer compares the own return with two of them"
    ),
    (
        "attempt 3, dropped: slots, and one lookup instead of two per return, gained nothing: two calls of Python per "
        "symbol take most of the time, the sort of the returns little"
    ),
    "costs are processor time of the thread, the smallest of five repetitions",
    "burst: each symbol asks right after its own return is known, so no two answers share their returns",
)
_LARGEST: Final = returns_of(SIZES[-1])


def parity() -> Parity:
    """Compare the means with numpy's, and the medians with those of the others."""
    theirs = numpy_pass(_LARGEST)
    ours = live_minute(_LARGEST, "mean")
    difference = max(abs(ours[symbol] - theirs[symbol]) for symbol in ours)
    medians = live_minute(_LARGEST, "median")
    checked = list(_LARGEST)[::97]
    wrong = [
        symbol
        for symbol in checked
        if medians[symbol] != median(value for name, value in _LARGEST.items() if name != symbol)
    ]
    return Parity(
        passed=difference < 1e-15 and not wrong,
        statement=f"means differ by at most {difference:.1e}; "
        f"{len(checked) - len(wrong)} of {len(checked)} medians equal those of the other returns",
    )


def figures() -> Mapping[str, float]:
    """Return milliseconds per minute by number of symbols, and how the cost per symbol grows."""
    found: dict[str, float] = {}
    for view, centre in (("core_v2", "median"), ("core_v1", "mean")):
        for size in SIZES:
            found[f"{view}_{size}_symbols_ms"] = 1e3 * seconds(live_minute, returns_of(size), centre)
            found[f"{view}_{size}_symbols_burst_ms"] = 1e3 * seconds(interleaved_minute, returns_of(size), centre)
        per_symbol = [found[f"{view}_{size}_symbols_ms"] / size for size in (SIZES[0], SIZES[-1])]
        found[f"{view}_growth_per_symbol"] = per_symbol[1] / per_symbol[0]
    return found


def curves() -> list[Curve]:
    """Return the time of a minute by number of symbols."""
    sizes = (100, 1_000, 2_000, 3_000, 4_000, 5_000)
    costs = [1e3 * seconds(live_minute, returns_of(size), "median") for size in sizes]
    return [Curve("core_v2, one minute", "symbols", "ms", sizes, costs)]


def main() -> None:
    """Measure 5,000 symbols against the pass, and all sizes as figures."""
    prove(
        Comparison(
            name="p12_numpy_pass",
            work=f"the peers' return of each of {SIZES[-1]:,} symbols in one minute, from returns by symbol to values "
            "by symbol",
            ours="MarketContext.update and .value of core_v2 (median), one call per symbol each, as in the live lane",
            anchor="one numpy pass: the total without each own return, all symbols at once",
            distributions=("numpy",),
            unit="s per minute",
            goal=Goal(ratio=0.2, limits={"core_v2_growth_per_symbol": 1.3}),
            notes=_NOTES,
        ),
        parity=parity,
        ours=lambda: seconds(live_minute, _LARGEST, "median"),
        anchor=lambda: seconds(numpy_pass, _LARGEST),
        rounds=15,
        figures=figures,
        curves=curves,
    )


if __name__ == "__main__":
    main()
