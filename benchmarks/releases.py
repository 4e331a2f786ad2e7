"""Costs of an older commit and of this checkout, measured in alternating rounds: ``python -m benchmarks.releases``.

Both releases run their own benchmark in a process of their own, and a second process of the old release measures the
noise: this checkout is not slower if its median ratio to the old release does not exceed the largest ratio of the old
release to itself. ``python -m benchmarks.releases --old-commit 5ca38ec p3 p4`` measures two of the benchmarks.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import MIN_ROUNDS, PINNED, REPOSITORY, Arm, counted
from benchmarks.upgrade import OLD_COMMIT

PACKAGES: Final = ("benchmarks", "surveillance_pipelines_tests/proof")
"""Folder of the benchmarks in a checkout; the first that exists is used."""

_BENCHMARK: Final = """
import importlib, sys
package, module, function, *arguments = sys.argv[1:]
answers, sys.stdout, sys.argv = sys.stdout, sys.stderr, [module, *arguments]
bench = importlib.import_module(package + "." + module)
def prove(comparison, *, ours, **others):
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(ours(), file=answers, flush=True)
    raise SystemExit
bench.prove = prove
getattr(bench, function)()
"""
"""Runs our arm of a benchmark once for each line on standard input, and prints its cost."""
_SIMULATION: Final = """
import sys, time
from surveillance_pipelines_tests.simulation.schedule import run_schedule
run_schedule(0)
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    begin = time.process_time()
    for seed in range(100 * number, 100 * number + 100):
        run_schedule(seed)
    print((time.process_time() - begin) / 100, flush=True)
"""
"""Runs the next hundred schedules for each line on standard input, and prints the CPU seconds of one."""


@dataclass(frozen=True)
class Entry:
    """One benchmark.

    Attributes:
        code: Python code of the process that runs it.
        arguments: of that process, after the package of the benchmarks.
        limit: largest accepted ratio new / old, even where the noise is smaller.
        processes: number of processes per release; the cost of a round is their median. Costs of microseconds depend
            on the memory layout of a process.
        repeat: number of runs of the arm per process and round.
    """

    code: str
    arguments: tuple[str, ...] = ()
    limit: float = 1.0
    processes: int = 1
    repeat: int = 1


ENTRIES: Final = {
    "p3": Entry(_BENCHMARK, ("p3_throughput", "main")),
    "p4": Entry(_BENCHMARK, ("p4_compute", "main"), processes=3, repeat=3),
    "p6": Entry(_BENCHMARK, ("p6_live_features", "against_talipp"), processes=5, repeat=5),
    "p8": Entry(_BENCHMARK, ("p8_cold_start", "main")),
    "p9": Entry(_BENCHMARK, ("p9_backfill", "main", "--symbols", "20", "--days", "210")),
    "r1": Entry(_SIMULATION, limit=1.3),
}
"""Target → benchmark. P9 scores ten months of twenty symbols. R1 may cost more, because it simulates deliveries too."""


@dataclass(frozen=True)
class Costs:
    """Costs of each counted round, in the benchmark's unit.

    Attributes:
        old: of the old release.
        new: of this checkout.
        again: of the second process of the old release.
        limit: see ``Entry``.
    """

    old: Sequence[float]
    new: Sequence[float]
    again: Sequence[float]
    limit: float

    @property
    def ratios(self) -> list[float]:
        """Return new / old of each round; above 1, this checkout is slower."""
        return [new / old for new, old in zip(self.new, self.old, strict=True)]

    @property
    def noise(self) -> list[float]:
        """Return old / old of each round."""
        return [again / old for again, old in zip(self.again, self.old, strict=True)]

    @property
    def slower(self) -> bool:
        return statistics.median(self.ratios) > max(self.limit, *self.noise)


@contextmanager
def worker(checkout: Path, target: str) -> Iterator[Arm]:
    """Run a benchmark of a checkout in a process for a ``with`` block, and return an arm that runs our arm there.

    Raises:
        RuntimeError: if the process ends early, with its last messages.
    """
    entry = ENTRIES[target]
    package = next(name for name in PACKAGES if (checkout / name).exists()).replace("/", ".")
    command = [sys.executable, "-c", entry.code, package, *entry.arguments]
    environment = {**os.environ, **PINNED, "PYTHONPATH": str(checkout)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, cwd=checkout, env=environment, stderr=log, **pipes) as process,
    ):

        def answer() -> str:
            assert process.stdout is not None
            if line := process.stdout.readline().strip():
                return line
            log.seek(0)
            raise RuntimeError(f"expected a cost, the benchmark {target} ended with: {log.read()[-2000:]}")

        def arm() -> float:
            print(file=process.stdin, flush=True)
            return float(answer())

        answer()  # it is ready
        yield arm


def release(stack: ExitStack, checkout: Path, target: str) -> Arm:
    """Start the processes of one release, and return an arm whose cost is the median over all of them."""
    entry = ENTRIES[target]
    arms = [stack.enter_context(worker(checkout, target)) for _ in range(entry.processes)]
    return lambda: statistics.median(arm() for _ in range(entry.repeat) for arm in arms)


def measure(old: Path, target: str, rounds: int) -> Costs:
    """Return the costs of a benchmark in the old checkout and in this one, in alternating rounds.

    Args:
        old: checkout of the old release.
        target: key of ``ENTRIES``.
        rounds: number of counted rounds, after one that is dropped. The order rotates from round to round.
    """
    with ExitStack() as stack:
        arms = [release(stack, checkout, target) for checkout in (old, REPOSITORY, old)]
        found: list[list[float]] = [[], [], []]
        for number in range(rounds + 1):
            for i in range(3):
                place = (number + i) % 3
                found[place].append(arms[place]())
            print(target, number, *(f"{costs[-1]:.6g}" for costs in found), flush=True)
    return Costs(*(costs[1:] for costs in found), limit=ENTRIES[target].limit)


@contextmanager
def checkout_of(commit: str) -> Iterator[Path]:
    """Provide a worktree of a commit, removed afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "old"
        _git("worktree", "add", "--detach", str(place), commit)
        try:
            yield place
        finally:
            _git("worktree", "remove", "--force", str(place))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=REPOSITORY, check=True, capture_output=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each benchmark, write ``proof/counts/releases.json``, and return 1 if one became slower."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"benchmarks to run: {', '.join(ENTRIES)}")
    parser.add_argument("--old-commit", default=OLD_COMMIT)
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.targets) - set(ENTRIES)):
        parser.error(f"expected targets among {', '.join(ENTRIES)}, got {', '.join(unknown)}")
    with checkout_of(options.old_commit) as old:
        costs = {target: measure(old, target, options.rounds) for target in options.targets or ENTRIES}
    result = counted(
        "releases",
        work=f"our arm of each benchmark at {options.old_commit} and now, {options.rounds} rounds in turn",
        goal="median ratio new / old at most the largest ratio of the old release to itself; R1 at most 1.3",
        found=[_sentence(target, found) for target, found in costs.items()],
        met=not any(found.slower for found in costs.values()),
        figures={target: _figures(found) for target, found in costs.items()},
    )
    return 0 if result["met"] else 1


def _sentence(target: str, costs: Costs) -> str:
    ratios, noise = costs.ratios, costs.noise
    return (
        f"{target.upper()}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), old against old "
        f"{statistics.median(noise):.3f} ({min(noise):.3f} to {max(noise):.3f}){': slower' if costs.slower else ''}"
    )


def _figures(costs: Costs) -> dict[str, Any]:
    return {"ratios": costs.ratios, "noise": costs.noise, "old_median": statistics.median(costs.old)}


if __name__ == "__main__":
    sys.exit(main())
