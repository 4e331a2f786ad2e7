"""Ours and an anchor side by side: interleaved rounds in one process, equal outputs first, ratios kept as JSON.

Machines differ and drift, so a figure is the ratio of two costs measured in the same round. The smallest of them is
what may be claimed.
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
"""Rounds that count; the one before them warms both arms up and is dropped."""

_THREADS: Final = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)  # fmt: skip
PINNED: Final = dict.fromkeys(_THREADS, "1")
"""What the libraries read when they load: one thread for each arm."""

Arm = Callable[[], float]
"""Does the work once and returns what it cost, in the unit of the comparison: smaller is better, above 0."""


class ParityError(AssertionError):
    """The two arms do not compute the same: their times say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What must hold.

    Attributes:
        ratio: the smallest ratio of all rounds, anchor's cost / ours.
        limits: of figures, each the largest value allowed.
    """

    ratio: float
    limits: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join([f"≥ {self.ratio:g}×", *(f"{name} ≤ {limit:g}" for name, limit in self.limits.items())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One anchor beside ours.

    Attributes:
        name: of the JSON file, beginning with the target's id: ``p5_talib``.
        work: what both arms do.
        ours: what of the platform runs.
        anchor: what stands beside it.
        distributions: Python distributions of the anchor; their versions are recorded.
        unit: of a cost.
        goal: see ``Goal``.
        notes: what a reader must know to judge the figure: differences of the arms, attempts, profiles.
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
    """One measured line for the report: how a cost of ours grows with the amount of work."""

    title: str
    x: str
    y: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The proof that both arms computed the same: a sentence with the largest difference found."""

    passed: bool
    statement: str


def timed(work: Callable[[], object], repeat: int = 1) -> Arm:
    """Return an arm that does ``work`` ``repeat`` times and costs the mean seconds of one."""

    def arm() -> float:
        begin = time.perf_counter()
        for _ in range(repeat):
            work()
        return (time.perf_counter() - begin) / repeat

    return arm


def interleaved(ours: Arm, anchor: Arm, rounds: int = MIN_ROUNDS) -> list[tuple[float, float]]:
    """Run ours, anchor, ours, anchor … and return the costs of each round but the first.

    Args:
        ours: our arm.
        anchor: the other.
        rounds: that count, after the dropped one.

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
        comparison: what is compared.
        parity: compares the outputs of both arms.
        ours: our arm.
        anchor: the other.
        rounds: that count.
        figures: asked after the rounds for what else was measured, by name with unit (``p99_ms``).
        curves: asked after the figures for what the report should draw.
        results: the folder to write to; None for ``RESULTS``.

    Raises:
        ParityError: if the outputs differ; nothing is timed then.
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
    """Write what a proof counted to ``proof/counts/<name>.json``, print it, and return the file's content.

    Args:
        name: of the file, beginning with the target's id or a word.
        work: what was done, how often.
        goal: what must hold.
        found: sentences with the counts, for people.
        met: whether it holds.
        figures: the counts themselves.
        path: where to write; None for the place of the repository.
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
    """Return what a figure depends on: processor, cores, load, Python, libraries. No names, no paths."""
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
    """Refuse to measure with threads that nobody counted.

    Raises:
        RuntimeError: if a variable of ``PINNED`` is not set: the libraries have read it already.
    """
    loose = [name for name, value in PINNED.items() if os.environ.get(name) != value]
    if loose:
        raise RuntimeError(
            f"expected {loose} to be 1 before numpy loads: run python -m surveillance_pipelines_tests.proof"
        )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
