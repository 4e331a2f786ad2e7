"""Many seeds on several processes, the naive worker beside them, every planted bug; a report of counts."""

import gc
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import counted
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK
from surveillance_pipelines_tests.simulation.bugs import BUGS
from surveillance_pipelines_tests.simulation.market import MARKETS
from surveillance_pipelines_tests.simulation.naive import naive_violations
from surveillance_pipelines_tests.simulation.schedule import Result, run_schedule

BUG_SEEDS: Final = 100
"""Every planted bug is caught within so many seeds, counted from 0."""

NAIVE_SEEDS: Final = 100
DEDUP_TROUBLE: Final = "publication stalled for 6 minutes"
_CHUNK: Final = MARKETS


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a run of consecutive seeds came to."""

    schedules: int
    failed: dict[int, tuple[str, ...]]
    totals: Counter[str]
    troubled: Counter[str]  # kind of trouble → schedules that had it

    def __add__(self, other: "Chunk") -> "Chunk":
        return Chunk(
            self.schedules + other.schedules,
            self.failed | other.failed,
            self.totals + other.totals,
            self.troubled + other.troubled,
        )


def run_seeds(seeds: range) -> Chunk:
    """Run consecutive seeds in this process.

    Garbage is collected once, at the end: a schedule leaves little, and looking for it all the time costs more.
    """
    gc.disable()
    try:
        return _run_seeds(seeds)
    finally:
        gc.enable()
        gc.collect()


def _run_seeds(seeds: range) -> Chunk:
    chunk = Chunk(0, {}, Counter(), Counter())
    for seed in seeds:
        result = run_schedule(seed)
        counts = Counter(inputs=result.inputs, outputs=result.outputs, processes=result.processes)
        counts["delivery processes"] = result.delivery_processes
        counts["virtual seconds"] = round(result.virtual_seconds)
        failed = {seed: result.violations} if result.violations else {}
        chunk += Chunk(1, failed, counts, Counter(dict.fromkeys(result.seen, 1)))
    return chunk


def prove(seeds: int, *, workers: int, first: int = 0) -> dict[str, Any]:
    """Run the real lane over many seeds, then the anchor and the planted bugs; return the counts."""
    begin = SYSTEM_CLOCK.now_us()
    pieces = [range(start, min(start + _CHUNK, first + seeds)) for start in range(first, first + seeds, _CHUNK)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        whole = sum(pool.map(run_seeds, pieces), Chunk(0, {}, Counter(), Counter()))
        seconds = (SYSTEM_CLOCK.now_us() - begin) / MICROSECONDS
        naive = sum(pool.map(naive_fails, range(NAIVE_SEEDS), chunksize=10))
        caught = dict(zip(BUGS, pool.map(first_catch, BUGS), strict=True))
    return {
        "schedules": whole.schedules,
        "seconds": round(seconds, 1),
        "workers": workers,
        "failed": {str(seed): list(violations) for seed, violations in sorted(whole.failed.items())},
        **dict(whole.totals),
        "schedules_with": dict(sorted(whole.troubled.items())),
        "naive_failed": naive,
        "naive_schedules": NAIVE_SEEDS,
        "bugs_caught_at_seed": caught,
    }


def naive_fails(seed: int) -> bool:
    """Say whether a consumer notices anything of a naive worker's schedule; also that it does not without faults.

    Raises:
        AssertionError: if the anchor fails where nothing goes wrong: it would prove nothing then.
    """
    clean = naive_violations(seed, faults=False)
    if clean:
        raise AssertionError(f"expected the naive worker to be right without faults, seed {seed} says {clean}")
    return bool(naive_violations(seed))


def first_catch(bug: str) -> int | None:
    """Return the first seed whose schedule shows a planted bug, None if none of ``BUG_SEEDS`` does."""
    return next((seed for seed in range(BUG_SEEDS) if run_schedule(seed, bug=BUGS[bug]).violations), None)


def replay_command(seed: int, bug: str | None = None) -> str:
    """Return the command that runs one seed again and shows what happened."""
    planted = "" if bug is None else f' --bug "{bug}"'
    return f"python -m surveillance_pipelines_tests.simulation --seed {seed}{planted}"


def described(result: Result, bug: str | None = None) -> Iterator[str]:
    """Return the lines that tell a person about one seed."""
    yield f"seed {result.seed}: {result.inputs} inputs, {result.outputs} outputs, {result.processes} processes"
    yield from (f"  {line}" for line in result.trace)
    if result.violations:
        yield from (f"VIOLATED {violation}" for violation in result.violations)
        yield f"replay: {replay_command(result.seed, bug)}"
    else:
        yield "every invariant holds"


def keep_report(report: dict[str, Any], path: Path | None = None) -> None:
    """Write what was counted beside the other proofs, or to a path."""
    caught = _caught(report["bugs_caught_at_seed"].values())
    troubled = sum(report["schedules_with"].values())
    counted(
        "r1_simulation",
        work=f"{report['schedules']:,} seeded schedules of the live lane in virtual time, {troubled:,} troubles of "
        f"{len(report['schedules_with'])} sorts, {report['processes']:,} processes",
        goal="0 lost, doubled or reordered, rows equal; the naive worker fails; every planted bug caught",
        found=[
            f"{len(report['failed'])} schedules failed in {report['seconds']:.0f} s on {report['workers']} workers",
            f"{report['inputs']:,} inputs, {report['outputs']:,} outputs",
            f"publication stalled for 6 minutes in {report['schedules_with'].get(DEDUP_TROUBLE, 0)} schedules",
            f"naive worker: {report['naive_failed']} of {report['naive_schedules']} schedules fail",
            f"{caught} of {len(BUGS)} planted bugs caught within {BUG_SEEDS} seeds",
        ],
        met=holds(report),
        figures=report,
        path=path,
    )


def holds(report: dict[str, Any]) -> bool:
    """Say whether all counts are as promised."""
    caught = _caught(report["bugs_caught_at_seed"].values())
    return not report["failed"] and report["naive_failed"] > 0 and caught == len(BUGS)


def print_report(report: dict[str, Any]) -> bool:
    """Print a proof's counts for people; return whether all of them are as promised."""
    say = sys.stdout.write
    say(f"{report['schedules']} schedules in {report['seconds']} s on {report['workers']} workers: ")
    say(f"{len(report['failed'])} failed; {report['inputs']} inputs, {report['outputs']} outputs\n")
    for seed, violations in list(report["failed"].items())[:5]:
        say(f"  seed {seed}: {violations[0][:200]}\n  replay: {replay_command(int(seed))}\n")
    say("schedules with\n")
    for kind, count in report["schedules_with"].items():
        say(f"  {count:6d}  {kind}\n")
    say(f"naive worker: {report['naive_failed']} of {report['naive_schedules']} schedules fail\n")
    caught = _caught(report["bugs_caught_at_seed"].values())
    say(f"planted bugs: {caught} of {len(BUGS)} caught within {BUG_SEEDS} seeds\n")
    for bug, seed in report["bugs_caught_at_seed"].items():
        say(f"  {bug}: " + ("not caught\n" if seed is None else f"seed {seed}; {replay_command(seed, bug)}\n"))
    return holds(report)


def _caught(seeds: Iterable[int | None]) -> int:
    return sum(seed is not None for seed in seeds)
