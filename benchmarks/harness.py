"""Comparison of this platform with an anchor: parity check, interleaved rounds in one process, ratios written as JSON.

Machines differ and their speed drifts, so a result is the ratio of two costs measured in the same round. Only the
smallest ratio may be claimed.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from surveillance_pipelines.clock import SYSTEM_CLOCK, to_iso

REPOSITORY: Final = Path(__file__).parents[1]
RESULTS: Final = REPOSITORY / "proof"
COUNTS: Final = RESULTS / "counts"
MIN_ROUNDS: Final = 7
"""Minimum number of counted rounds. One further round before them warms up both arms and is dropped."""

_THREADS: Final = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)  # fmt: skip
PINNED: Final = dict.fromkeys(_THREADS, "1")
"""Environment variables that libraries read when they are loaded: one thread per arm."""

Arm = Callable[[], float]
"""Does the work once and returns its cost in the unit of the comparison. The cost is positive; smaller is better."""


class ParityError(AssertionError):
    """The outputs of the two arms differ, so their costs are not comparable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The goal of a comparison.

    Attributes:
        ratio: minimum of the smallest ratio of all rounds (anchor's cost / ours).
        limits: maximum value of each named figure.
    """

    ratio: float
    limits: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join([f"≥ {self.ratio:g}×", *(f"{name} ≤ {limit:g}" for name, limit in self.limits.items())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison of ours with an anchor.

    Attributes:
        name: name of the JSON file, starting with the target's id: ``p5_talib``.
        work: the work of both arms.
        ours: the measured part of the platform.
        anchor: the alternative.
        distributions: Python distributions of the anchor; their versions are recorded.
        unit: unit of a cost.
        goal: see ``Goal``.
        notes: context needed to interpret the result: differences between the arms, attempts, profiles.
    """

    name: str
    work: str
    ours: str
    anchor: str
    distributions: tuple[str, ...]
    unit: str
    goal: Goal
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """One measured curve for the report: a cost of ours by amount of work."""

    title: str
    x: str
    y: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The result of the parity check: a sentence with the largest difference between the outputs."""

    passed: bool
    statement: str


def timed(work: Callable[[], object], repeat: int = 1) -> Arm:
    """Return an arm that does ``work`` ``repeat`` times; its cost is the mean time in seconds."""

    def arm() -> float:
        begin = time.perf_counter()
        for _ in range(repeat):
            work()
        return (time.perf_counter() - begin) / repeat

    return arm


def interleaved(ours: Arm, anchor: Arm, rounds: int = MIN_ROUNDS) -> list[tuple[float, float]]:
    """Run ours and anchor in turn, and return the costs of each round except the first.

    Args:
        ours: our arm.
        anchor: the other arm.
        rounds: number of counted rounds, after the dropped one.

    Raises:
        ValueError: if there are fewer than ``MIN_ROUNDS``.
    """
    if rounds < MIN_ROUNDS:
        raise ValueError(f"expected at least {MIN_ROUNDS} rounds, was {rounds}")
    return [(ours(), anchor()) for _ in range(rounds + 1)][1:]


def prove(
    comparison: Comparison,
    *,
    parity: Callable[[], Parity],
    ours: Arm,
    anchor: Arm,
    rounds: int = MIN_ROUNDS,
    figures: Callable[[], Mapping[str, float]] = dict,
    curves: Callable[[], Sequence[Curve]] = tuple,
    results: Path | None = None,
) -> dict[str, Any]:
    """Compare outputs, then costs; write ``proof/<name>.json`` and return its content.

    Args:
        comparison: description of the comparison.
        parity: compares the outputs of both arms.
        ours: our arm.
        anchor: the other arm.
        rounds: number of counted rounds.
        figures: called after the rounds; returns further measurements by name with unit (``p99_ms``).
        curves: called after ``figures``; returns curves for the report.
        results: the folder to write to; None for ``RESULTS``.

    Raises:
        ParityError: if the outputs differ, before any measurement.
        RuntimeError: if the threads of this process are not pinned.
    """
    require_pinned()
    checked = parity()
    if not checked.passed:
        raise ParityError(f"{comparison.name}: {checked.statement}")
    result = summary(comparison, checked, interleaved(ours, anchor, rounds), dict(figures()))
    if drawn := [asdict(curve) for curve in curves()]:
        result["curves"] = drawn
    folder = RESULTS if results is None else results
    folder.mkdir(exist_ok=True)
    (folder / f"{comparison.name}.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(
        f"{comparison.name}: {result['ratio_median']:.2f}× (min {result['ratio_min']:.2f}, max "
        f"{result['ratio_max']:.2f}, n {result['n']}), goal {result['goal']}: {'met' if result['met'] else 'not met'}"
    )
    return result


def summary(
    comparison: Comparison, parity: Parity, rounds: Sequence[tuple[float, float]], figures: Mapping[str, float]
) -> dict[str, Any]:
    """Return the content of a result file."""
    ratios = [anchor / ours for ours, anchor in rounds]
    goal = comparison.goal
    within = all(figures[name] <= limit for name, limit in goal.limits.items())
    return {
        "target": comparison.name.partition("_")[0].upper(),
        "work": comparison.work,
        "ours": comparison.ours,
        "anchor": comparison.anchor,
        "version": {name: version(name) for name in comparison.distributions},
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "n": len(ratios),
        "parity": parity.statement,
        "goal": str(goal),
        "goal_ratio": goal.ratio,
        "met": min(ratios) >= goal.ratio and within,
        "unit": comparison.unit,
        "ours_median": statistics.median(ours for ours, _ in rounds),
        "anchor_median": statistics.median(anchor for _, anchor in rounds),
        "rounds": [list(costs) for costs in rounds],
        "figures": dict(figures),
        "notes": list(comparison.notes),
        "measured_at": to_iso(SYSTEM_CLOCK.now_us()),
        "machine": machine_facts(),
    }


def counted(
    name: str,
    *,
    work: str,
    goal: str,
    found: Sequence[str],
    met: bool,
    figures: Mapping[str, Any] = MappingProxyType({}),
    path: Path | None = None,
) -> dict[str, Any]:
    """Write the result of a proof to ``proof/counts/<name>.json``, print it, and return the content.

    Args:
        name: name of the file, starting with the target's id or a word.
        work: the work and its amount.
        goal: the goal.
        found: sentences with the counts.
        met: whether the goal is met.
        figures: the counts as values.
        path: path of the file; None for the default.
    """
    result = {
        "work": work,
        "goal": goal,
        "found": list(found),
        "met": met,
        "figures": dict(figures),
        "measured_at": to_iso(SYSTEM_CLOCK.now_us()),
        "machine": machine_facts(),
    }
    place = COUNTS / f"{name}.json" if path is None else path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(f"{name}: {'met' if met else 'NOT MET'}", *found, sep="\n  ")
    return result


def machine_facts() -> dict[str, Any]:
    """Return the facts that affect a measurement: processor, cores, load, Python, libraries; no names or paths."""
    libraries = ("deltalake", "numba", "numpy", "onnxruntime", "polars", "pyarrow")
    return {
        "processor": _processor(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }


def require_pinned() -> None:
    """Require that the number of threads is pinned.

    Raises:
        RuntimeError: if a variable of ``PINNED`` is not set, because libraries read it only when they are loaded.
    """
    unset = [name for name, value in PINNED.items() if os.environ.get(name) != value]
    if unset:
        raise RuntimeError(f"expected {', '.join(unset)} to be 1 before numpy is loaded: run python -m benchmarks")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
