"""A hundred planted challengers against a champion: ``python -m benchmarks.challengers`` (about ten minutes).

Four bundles are trained on one simulated market, each with other planted anomalies and another seed. The challengers
and the damaged champions are these bundles with members edited in memory: thresholds scaled, or a detector switched
off. Each pair is decided by the paired test of a promotion, on ten sets of planted events that take turns. A separate
set of events, of another seed, measures the true gain of each pair; it assigns the pair to its class:

- worse or equal: a gain of at most ``MIN_GAIN``, or a challenger that floods the unchanged days with alerts;
- better: a gain of at least ``BETTER``;
- between the two, a promotion is neither right nor wrong; these pairs are counted separately.

The other rules of the gate are not part of this benchmark. Several pairs have equal models and differ in their events.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.stats import binomtest

from benchmarks.harness import counted
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.evaluation.paired_events import (
    EventRows,
    PlantedDays,
    count_pairs,
    event_rows,
    found_events,
    plant_days,
)
from surveillance_pipelines.evaluation.paired_test import EVENTS, MIN_GAIN, PairedTest, compare
from surveillance_pipelines.features.views import CORE_V2
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.simulator import default_market, simulate
from surveillance_pipelines.models.bundle import Bundle, load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.members import MemberSpec
from surveillance_pipelines.training.bundle_training import save_bundle, train_bundle
from surveillance_pipelines.training.deadline import Deadline
from surveillance_pipelines.training.training_set import build_training_set

CHALLENGERS: Final = 100
BETTER: Final = 0.05
"""Gain in recall from which a challenger has to be promoted; ``paired_test.EVENTS`` is chosen for it."""
SEEDS: Final = (1, 2, 3, 4)
EVENT_SETS: Final = 10
MOST_WRONG: Final = 0.05
LEAST_RIGHT: Final = 0.90

FLOOD_RULE: Final = "alerts_per_unchanged_symbol_day"

_SYMBOLS: Final = ("AAPL", "MSFT", "SPY")
_FIRST, _LAST = date(2024, 3, 4), date(2024, 3, 15)
_TRAINED_UNTIL: Final = date(2024, 3, 13)
_HELD_OUT: Final = (date(2024, 3, 14), date(2024, 3, 15))
_POOL_SEED: Final = 900
_POOL_EVENTS: Final = 2 * EVENTS

Edit = Callable[[Bundle], Bundle]


@dataclass(frozen=True, slots=True)
class Pair:
    """A challenger and a champion: the seed of the trained bundle and its edit, each."""

    name: str
    challenger: tuple[int, Edit]
    champion: tuple[int, Edit]


@dataclass(frozen=True, slots=True)
class Decided:
    """A decided pair, with the test on the separate events, which tells its true gain."""

    pair: Pair
    test: PairedTest
    truth: PairedTest

    @property
    def gain(self) -> float:
        return self.truth.counts.gain

    @property
    def floods(self) -> bool:
        """Whether the challenger alerts too often on the unchanged days."""
        return not next(rule for rule in self.truth.better.rules if rule.name == FLOOD_RULE).passed


def main() -> int:
    """Run the benchmark, print it and write its record; return 1 if a share misses its goal."""
    bars, sessions = _market()
    bundles = {seed: _train(bars, sessions, seed) for seed in SEEDS}
    pairs = list(_pairs())
    models = {
        id(side): Ensemble(side[1](bundles[side[0]])) for pair in pairs for side in (pair.challenger, pair.champion)
    }
    tests = _decide(pairs, models, bars, sessions)
    truths = _truths(pairs, models, bars, sessions)
    decided = [Decided(pair, test, truth) for pair, test, truth in zip(pairs, tests, truths, strict=True)]
    return _report(decided)


def same(bundle: Bundle) -> Bundle:
    """Return the bundle as it is."""
    return bundle


def thresholds(factor: float, name: str | None = None) -> Edit:
    """Return an edit that scales the alert threshold of every detector, or of one."""

    def scaled(spec: MemberSpec) -> MemberSpec:
        calibration: Any = spec.calibration
        if calibration is None or name not in (None, spec.name):
            return spec
        if calibration["rule"] == "knots":
            changed = {**calibration, "statistic": [value * factor for value in calibration["statistic"]]}
        else:
            changed = {**calibration, "threshold": min(calibration["threshold"] * factor, 0.999)}
        return replace(spec, calibration=changed)

    return lambda bundle: replace(bundle, members=tuple(scaled(spec) for spec in bundle.members))


def without(name: str) -> Edit:
    """Return an edit that switches the alerts of a detector off; others may still read its statistic."""

    def silent(spec: MemberSpec) -> MemberSpec:
        return replace(spec, calibration=None) if spec.name == name else spec

    return lambda bundle: replace(bundle, members=tuple(silent(spec) for spec in bundle.members))


def _pairs() -> Iterator[Pair]:
    """Yield the pairs: thirds of damaged challengers, of equal ones, and of whole ones against a damaged champion."""
    random = np.random.default_rng(17)
    for number in range(CHALLENGERS // 3 + 1):
        name, edit = _damage(number, random)
        yield Pair(f"challenger damaged: {name}", (1, edit), (1, same))
    for number in range(CHALLENGERS // 3):
        name, side = _equal(number, random)
        yield Pair(f"equal: {name}", side, (1, same))
    for number in range(CHALLENGERS // 3):
        name, edit = _damage(number, random)
        yield Pair(f"champion damaged: {name}", (SEEDS[number % len(SEEDS)], same), (1, edit))


def _damage(number: int, random: np.random.Generator) -> tuple[str, Edit]:
    factor = float(random.uniform(1.3, 3.0))
    match number % 5:
        case 0:
            return f"thresholds x {factor:.1f}", thresholds(factor)
        case 1:
            return "no tail detector", without("tail_detector")
        case 2:
            return "no classifier", without("classifier")
        case 3:
            return f"tail threshold x {factor:.1f}", thresholds(factor, "tail_detector")
        case _:
            return f"thresholds x {0.4 / factor:.2f}", thresholds(0.4 / factor)


def _equal(number: int, random: np.random.Generator) -> tuple[str, tuple[int, Edit]]:
    if number % 3 == 0:
        return "saved again", (1, same)
    if number % 3 == 1:
        factor = float(random.uniform(0.98, 1.02))
        return f"thresholds x {factor:.3f}", (1, thresholds(factor))
    seed = SEEDS[1 + number // 3 % (len(SEEDS) - 1)]
    return f"trained with seed {seed}", (seed, same)


def _market() -> tuple[Any, SessionTable]:
    sessions = build_sessions("XNYS", _FIRST, _LAST)
    return simulate(default_market(_SYMBOLS, 7), sessions), SessionTable.from_frame(sessions)


def _train(bars: Any, sessions: SessionTable, seed: int) -> Bundle:
    print(f"training with seed {seed}", flush=True)
    rows = build_training_set(
        bars.filter(bars["date"] <= _TRAINED_UNTIL), sessions,
        first=_FIRST, last=_TRAINED_UNTIL, seed=seed, per_symbol_day=12.0, view=CORE_V2,
    )  # fmt: skip
    trained = train_bundle(rows, seed=seed, deadline=Deadline.after(1_800.0))
    with tempfile.TemporaryDirectory() as folder:
        save_bundle(trained, Path(folder) / "bundle")
        return load_bundle(Path(folder) / "bundle")


def _decide(pairs: Sequence[Pair], models: dict[int, Ensemble], bars: Any, sessions: SessionTable) -> list[PairedTest]:
    """Return the paired test of each pair, on the event set of its turn."""
    tests: dict[int, PairedTest] = {}
    for number in range(EVENT_SETS):
        planted = plant_days(bars, _HELD_OUT, sessions, seed=number)
        rows = event_rows(planted, CORE_V2.name)
        for place in range(number, len(pairs), EVENT_SETS):
            tests[place] = _test(pairs[place], models, planted, rows)
        print(f"event set {number + 1} of {EVENT_SETS}: {len(planted.kinds):,} events", flush=True)
    return [tests[place] for place in range(len(pairs))]


def _truths(pairs: Sequence[Pair], models: dict[int, Ensemble], bars: Any, sessions: SessionTable) -> list[PairedTest]:
    """Return the test of each pair on the separate events."""
    planted = plant_days(bars, _HELD_OUT, sessions, seed=_POOL_SEED, events=_POOL_EVENTS)
    rows = event_rows(planted, CORE_V2.name)
    return [_test(pair, models, planted, rows) for pair in pairs]


def _test(pair: Pair, models: dict[int, Ensemble], planted: PlantedDays, rows: EventRows) -> PairedTest:
    ours, theirs = (
        found_events(rows, models[id(side)], len(planted.kinds)) for side in (pair.challenger, pair.champion)
    )
    return compare(
        count_pairs(planted.kinds, ours.found, theirs.found),
        alerts=ours.alerts_per_day,
        champion_alerts=theirs.alerts_per_day,
    )


def _report(decided: Sequence[Decided]) -> int:
    for one in sorted(decided, key=lambda one: one.gain):
        verdict = "promoted" if one.test.better.passed else "kept as shadow"
        print(f"{one.gain:+.3f}  {verdict:14}  {one.pair.name}: {one.test.better.reasons[0]}")
    classes = {
        "worse or equal": [one for one in decided if one.gain <= MIN_GAIN or one.floods],
        "between": [one for one in decided if MIN_GAIN < one.gain < BETTER and not one.floods],
        "better": [one for one in decided if one.gain >= BETTER and not one.floods],
    }
    shares = {name: _share(members) for name, members in classes.items()}
    rows = []
    for name, members in classes.items():
        promoted = sum(one.test.better.passed for one in members)
        low, high = _interval(promoted, len(members))
        rows.append(f"{name}: {promoted} of {len(members)} promoted ({low:.1%} to {high:.1%} with 95% confidence)")
    met = shares["worse or equal"] <= MOST_WRONG and shares["better"] >= LEAST_RIGHT
    result = counted(
        "challengers",
        work=f"{len(decided)} challengers, each against one champion, on {EVENTS:,} planted events",
        goal=f"worse or equal: at most {MOST_WRONG:.0%} promoted; better: at least {LEAST_RIGHT:.0%}",
        found=rows,
        met=met,
        figures={
            name: {"pairs": len(members), "promoted": round(shares[name], 4)} for name, members in classes.items()
        },
    )
    return 0 if result["met"] else 1


def _share(members: Sequence[Decided]) -> float:
    return sum(one.test.better.passed for one in members) / max(len(members), 1)


def _interval(promoted: int, size: int) -> tuple[float, float]:
    if size == 0:
        return 0.0, 1.0
    found = binomtest(promoted, size).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


if __name__ == "__main__":
    sys.exit(main())
