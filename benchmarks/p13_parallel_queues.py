"""P13: parallel queues, 1, 2 and 4 drain runs at once: ``python -m benchmarks.p13_parallel_queues [--messages 500]``.

Each run drains its own queue with the same number of waiting messages. The rounds are interleaved: one run, two, four,
one, two, four, …; the first round is dropped. A ratio compares the runs with the single run of the same round. A plain
loop in as many processes, which share nothing, shows how much of a ratio is the machine's own.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import MIN_ROUNDS, counted, machine_facts
from benchmarks.live_lane import services
from benchmarks.models import proof_models
from benchmarks.plain_loop import cpu_seconds
from benchmarks.queue_drains import SYMBOLS_PER_QUEUE, Drain, drain_queues, load_sentence, spread
from benchmarks.waiting_messages import BAD_SHARE

RUNS: Final = (1, 2, 4)
MESSAGES: Final = 5_000
MAX_CPU_RATIO: Final = 1.1
MIN_SPEED_UP: Final = 1.8
CORES_FOR_SPEED_UP: Final = 8
"""Below, two runs, PostgreSQL and the queue server share too few cores for a goal of throughput."""

Round = Mapping[int, Drain]
"""Number of runs → result."""
LoopRound = Mapping[int, float]
"""Number of processes → mean CPU seconds of a plain loop."""


def measure(messages: int, rounds: int) -> tuple[list[Round], list[LoopRound]]:
    """Return the rounds of drain runs and of plain loops, without the first."""
    if rounds < MIN_ROUNDS:
        raise ValueError(f"expected at least {MIN_ROUNDS} rounds, was {rounds}")
    models = proof_models()
    measured: list[Round] = []
    loops: list[LoopRound] = []
    with services() as found, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            drains = {
                runs: drain_queues(found, Path(folder), models, [messages] * runs, name=f"round {number}, {runs} runs")
                for runs in RUNS
            }
            measured.append(drains)
            loops.append({runs: cpu_seconds(runs) for runs in RUNS})
            shown = (f"{runs}: {one.cpu_ms:.2f} ms, {one.per_second:,.0f}/s" for runs, one in drains.items())
            print(f"  round {number} of {rounds}: {'; '.join(shown)}", flush=True)
    return measured[1:], loops[1:]


def ratios(rounds: Sequence[Round], runs: int) -> dict[str, dict[str, float]]:
    """Return the spread of CPU per message and of throughput of several runs, relative to one run."""
    pairs = [(one[1], one[runs]) for one in rounds]
    return {
        "cpu_per_message": spread([many.cpu_ms / one.cpu_ms for one, many in pairs]),
        "throughput": spread([many.per_second / one.per_second for one, many in pairs]),
    }


def loop_ratios(loops: Sequence[LoopRound], runs: int) -> dict[str, float]:
    """Return the spread of the plain loop's CPU time in several processes, relative to one."""
    return spread([one[runs] / one[1] for one in loops])


def summary(rounds: Sequence[Round], loops: Sequence[LoopRound], cores: int) -> dict[str, Any]:
    """Return the content of the result."""
    alone = {runs: loop_ratios(loops, runs) for runs in RUNS[1:]}
    compared = {runs: ratios(rounds, runs) for runs in RUNS[1:]}
    sound = all(one.is_sound for drains in rounds for one in drains.values())
    cheap = all(found["cpu_per_message"]["max"] <= MAX_CPU_RATIO for found in compared.values())
    judged = cores >= CORES_FOR_SPEED_UP
    fast = not judged or compared[2]["throughput"]["min"] >= MIN_SPEED_UP
    costs = {runs: spread([drains[runs].cpu_ms for drains in rounds]) for runs in RUNS}
    sent = sum(one.sent for drains in rounds for one in drains.values())
    return {
        "work": f"{', '.join(map(str, RUNS))} drain runs at once, a queue of {rounds[0][1].sent:,} waiting messages for"
        f" each; {SYMBOLS_PER_QUEUE} symbols per queue, {BAD_SHARE:.0%} malformed; {len(rounds)} interleaved rounds",
        "goal": f"in every round, CPU per message of the runs ≤ {MAX_CPU_RATIO}× one run's at 2 and 4 runs; at 2 runs "
        f"≥ {MIN_SPEED_UP}× the throughput where there are ≥ {CORES_FOR_SPEED_UP} cores; conservation",
        "found": [
            *(f"{runs} runs: CPU per message {_text(found['cpu_per_message'])}, throughput {_text(found['throughput'])}"
              for runs, found in compared.items()),
            "CPU per message, ms: " + "; ".join(f"{runs} runs {cost['median']:.2f}" for runs, cost in costs.items()),
            "CPU time of a plain loop that shares nothing, in as many processes: "
            + "; ".join(f"{runs}: {_text(found)}" for runs, found in alone.items()),
            f"throughput {'judged' if judged else 'not judged'}: {cores} cores",
            f"{sent:,} messages, {'no violation of conservation' if sound else 'conservation violated'}",
            load_sentence(),
        ],
        "met": sound and cheap and fast,
        "figures": {
            "ratios": {str(runs): found for runs, found in compared.items()},
            "plain_loop": {str(runs): found for runs, found in alone.items()},
            "cpu_ms": {str(runs): cost for runs, cost in costs.items()},
            "rounds": [{str(runs): asdict(one) for runs, one in drains.items()} for drains in rounds],
        },
    }  # fmt: skip


def _text(found: Mapping[str, float]) -> str:
    return f"{found['median']:.2f}× ({found['min']:.2f} to {found['max']:.2f})"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all goals are met, else 1."""
    parser = argparse.ArgumentParser(description="Compare parallel drain runs with a single one.")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="waiting messages of each queue")
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS, help="counted rounds")
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    rounds, loops = measure(options.messages, options.rounds)
    result = counted("p13_parallel_queues", path=options.result, **summary(rounds, loops, machine_facts()["cores"]))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
