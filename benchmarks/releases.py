"""Costs of an older commit and of this checkout, measured in alternating rounds: ``python -m benchmarks.releases``.

Both releases run their own benchmark in a process of their own, and a second process of the old release measures the
noise: this checkout is not slower if its median ratio to the old release does not exceed the largest ratio of the old
release to itself. ``python -m benchmarks.releases --old-commit 5ca38ec p3 p4`` measures two of the benchmarks.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import COUNTS, MIN_ROUNDS, PINNED, REPOSITORY, Arm, counted
from benchmarks.upgrade import OLD_COMMIT
from benchmarks.worktree import short_hash, worktree

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
    "p3": Entry(_BENCHMARK, ("p3_throughput", "main", "--symbols", "10")),
    "p4": Entry(_BENCHMARK, ("p4_compute", "main"), processes=3, repeat=3),
    "p6": Entry(_BENCHMARK, ("p6_live_features", "against_talipp"), processes=5, repeat=5),
    "p8": Entry(_BENCHMARK, ("p8_cold_start", "main")),
    "p9": Entry(_BENCHMARK, ("p9_backfill", "main", "--symbols", "20", "--days", "210")),
    "r1": Entry(_SIMULATION, limit=1.3),
}
"""Target → benchmark. P9 scores ten months of twenty symbols. R1 may cost more, because it simulates deliveries too."""


@dataclass(frozen=True)
class Ratios:
    """Ratios of the costs in each counted round.

    Attributes:
        new: this checkout / old release; above 1, this checkout is slower.
        noise: second process of the old release / first process.
        commits: short hashes of the old release and of this checkout.
    """

    new: Sequence[float]
    noise: Sequence[float]
    commits: tuple[str, str]

    def is_slower(self, limit: float) -> bool:
        """Return whether the median exceeds both the noise and a limit."""
        return statistics.median(self.new) > max(limit, *self.noise)

    def sentence(self, target: str) -> str:
        mark = ": slower" if self.is_slower(ENTRIES[target].limit) else ""
        return f"{target.upper()} at {self.commits[1]}: {_span(self.new)}, old against old {_span(self.noise)}{mark}"


def _span(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


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


def measure(old: Path, target: str, rounds: int, commits: tuple[str, str]) -> Ratios:
    """Return the ratios of a benchmark's costs in the old checkout and in this one, in alternating rounds.

    Args:
        old: checkout of the old release.
        target: key of ``ENTRIES``.
        rounds: number of counted rounds, after one that is dropped. The order rotates from round to round.
        commits: see ``Ratios``.
    """
    with ExitStack() as stack:
        arms = [release(stack, checkout, target) for checkout in (old, REPOSITORY, old)]
        ratios: list[tuple[float, float]] = []
        for number in range(rounds + 1):
            costs = [0.0, 0.0, 0.0]
            for i in range(3):
                costs[(number + i) % 3] = arms[(number + i) % 3]()
            print(target, number, *(f"{cost:.6g}" for cost in costs), flush=True)
            ratios.append((costs[1] / costs[0], costs[2] / costs[0]))
    new, noise = zip(*ratios[1:], strict=True)
    return Ratios(new, noise, commits)


def write(results: Mapping[str, Ratios], path: Path) -> bool:
    """Write results with those of other targets that the file holds, and return whether no target is slower."""
    kept = json.loads(path.read_text())["figures"] if path.exists() else {}
    known = {target: Ratios(**figures) for target, figures in kept.items()} | dict(results)
    known = {target: known[target] for target in ENTRIES if target in known}
    result = counted(
        "releases",
        work="our arm of each benchmark in an older commit and now, in alternating rounds",
        goal="median ratio new / old at most the largest ratio of the old release to itself; R1 at most 1.3",
        found=[ratios.sentence(target) for target, ratios in known.items()],
        met=not any(ratios.is_slower(ENTRIES[target].limit) for target, ratios in known.items()),
        figures={target: asdict(ratios) for target, ratios in known.items()},
        path=path,
    )
    return result["met"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the benchmarks, add their results to the file, and return 1 if a target in it is slower."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"benchmarks to run: {', '.join(ENTRIES)}")
    parser.add_argument("--old-commit", default=OLD_COMMIT)
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    parser.add_argument("--result", type=Path, default=COUNTS / "releases.json", help="file of the results")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.targets) - set(ENTRIES)):
        parser.error(f"expected targets among {', '.join(ENTRIES)}, got {', '.join(unknown)}")
    commits = short_hash(REPOSITORY, options.old_commit), short_hash(REPOSITORY, "HEAD")
    met = True
    with tempfile.TemporaryDirectory() as scratch, worktree(Path(scratch) / "old", options.old_commit) as old:
        for target in options.targets or ENTRIES:
            met = write({target: measure(old, target, options.rounds, commits)}, options.result)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
