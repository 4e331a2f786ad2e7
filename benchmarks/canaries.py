"""Canaries: ``python -m benchmarks.canaries [--messages 100000 | --faults [--only TEXT]]``.

Without ``--faults``: a drain run serves 100,000 messages while canary runs follow one another beside it, on the
same stores. No table of the live lane and no message of the output queue may hold a canary.

With ``--faults``: every fault of ``canary_faults.py`` is planted alone into the serving path, its configuration or its
data, and a canary run must turn a check red. Runs without a fault must be green.
"""

import argparse
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.drain_processes import Runs
from benchmarks.harness import counted
from benchmarks.live_lane import DRAINED, Lane, entries, make_lane, random_ticks, services
from surveillance_pipelines.clock import SYSTEM_CLOCK, to_us
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.services.canaries import EVENTS, run_canaries
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.stores.canaries import MARK, canaries_in_outputs
from surveillance_pipelines.training.bundle_training import save_bundle, train_bundle
from surveillance_pipelines.training.deadline import Deadline
from surveillance_pipelines.training.training_set import build_training_set
from surveillance_pipelines_tests.services.canary_faults import FAULTS, SMALL, red_checks, turns_red
from surveillance_pipelines_tests.services.canary_world import WorldSpec, build_world, market

SPEC: Final = WorldSpec(
    ("AAPL", "AMZN", "GOOGL", "MSFT", "NVDA", "SPY"), date(2024, 3, 4), (date(2024, 3, 14), date(2024, 3, 15)),
    date(2024, 3, 19), seed=7,
)  # fmt: skip
TRAINED_TO: Final = date(2024, 3, 15)
MESSAGES: Final = 100_000
LEAST_RED: Final = 0.95
CLEAN_RUNS: Final = 6
SENT_AT_ONCE: Final = 2_000
LONGEST_SECONDS: Final = 3_600.0


def train(folder: Path) -> Path:
    """Train a bundle on the first days of the market, and return its folder."""
    bars, sessions = market(SPEC)
    rows = build_training_set(
        bars.filter(pl.col("date") <= TRAINED_TO), sessions, first=SPEC.first, last=TRAINED_TO, seed=SPEC.seed,
        per_symbol_day=12.0, view=VIEWS["core_v2"],
    )  # fmt: skip
    save_bundle(train_bundle(rows, seed=SPEC.seed, deadline=Deadline.after(1_800.0)), folder / "bundle")
    return folder / "bundle"


def prove_isolation(lane: Lane, platform: Platform, folder: Path, messages: int) -> dict[str, Any]:
    """Serve messages while canary runs follow one another, and count canaries where none may be."""
    begin = to_us(datetime.combine(SPEC.canary_day + timedelta(days=1), datetime.min.time(), UTC))
    sent = entries(random_ticks(messages, begin_us=begin, symbols=SPEC.symbols))
    runs = Runs(lane, folder, SYMBOLS=",".join(SPEC.symbols), DRAIN_WINDOW_SECONDS=str(LONGEST_SECONDS))
    (inputs,) = lane.inputs
    rounds, planted = 0, 0
    deadline = SYSTEM_CLOCK.now_us() + round(LONGEST_SECONDS * 1e6)
    try:
        runs.start()
        for first in range(0, messages, SENT_AT_ONCE):
            inputs.send(sent[first : first + SENT_AT_ONCE])
        while not lane.query(DRAINED.decode(), messages)[0][0] and SYSTEM_CLOCK.now_us() < deadline:
            rounds += 1
            planted += run_canaries(platform, run_id=f"beside-{rounds}").events.height
    finally:
        runs.end()
    with platform.connect() as connection:
        tables = canaries_in_outputs(connection)
    bodies, marked = 0, 0
    while received := lane.outputs.poll(10, wait_seconds=1, visibility_seconds=60).messages:
        bodies += len(received)
        marked += sum(MARK in message.body for message in received)
        lane.outputs.delete([message.receipt_handle for message in received])
    served = lane.query("SELECT count(*) FROM ops.ledger")[0][0]
    found = sum(tables.values()) + marked
    return {
        "work": f"{messages:,} messages of {len(SPEC.symbols)} symbols served by a drain run, with {rounds} canary "
        f"runs ({planted:,} manipulations) beside it on the same stores",
        "goal": "0 canaries in the tables of the live lane and on the output queue",
        "found": [
            f"{served:,} messages have an outcome, {bodies:,} messages on the output queue",
            f"canaries in tables: {tables}; on the output queue: {marked}",
        ],
        "met": served == messages and found == 0 and rounds > 0,
        "figures": {"served": served, "published": bodies, "canary_runs": rounds, "planted": planted, "found": found},
    }


def prove_faults(platform: Platform, only: str) -> dict[str, Any]:
    """Plant each fault alone and run canaries once."""
    clean = []
    for number in range(CLEAN_RUNS):
        clean.append(red_checks(platform, f"clean-{number}"))
        print(f"  without a fault, run {number}: {clean[-1] or 'green'}", flush=True)
    table: dict[str, Any] = {}
    for name, fault in FAULTS.items():
        if only not in name:
            continue
        with fault(platform) as broken:
            events, why = turns_red(broken, name)
        table[name] = {"red": events > 0, "manipulations": events, "why": why}
        print(f"  {f'red ({events})' if events else 'GREEN'} {name}: {why}", flush=True)
    red, quiet = sum(row["red"] for row in table.values()), clean.count("")
    return {
        "work": f"{len(table)} faults, each planted alone; a canary run of {SMALL} manipulations and, if it is green, "
        f"one of {EVENTS}; {CLEAN_RUNS} runs of {EVENTS} without a fault",
        "goal": f"at least {LEAST_RED:.0%} of the faults turn a check red",
        "found": [
            (
                f"{red} of {len(table)} faults turn a check red; green: "
                f"{', '.join(name for name, row in table.items() if not row['red']) or 'none'}"
            ),
            f"{quiet} of {CLEAN_RUNS} runs without a fault are green",
        ],
        "met": red >= LEAST_RED * len(table),
        "figures": {"faults": table, "clean_runs": CLEAN_RUNS, "clean_green": quiet},
    }


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if the goal is met, else 1."""
    parser = argparse.ArgumentParser(description="Canaries: isolation from the outputs, or the mutation test.")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="messages that the drain run serves")
    parser.add_argument("--faults", action="store_true", help="plant faults instead")
    parser.add_argument("--only", default="", help="plant only the faults whose name contains this text")
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    with services() as found, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lane = make_lane(found, folder, None, symbols=SPEC.symbols)
        platform = build_world(lane.settings, SPEC, train(folder))
        if options.faults:
            result = counted("canary_faults", path=options.result, **prove_faults(platform, options.only))
        else:
            result = counted(
                "canaries", path=options.result, **prove_isolation(lane, platform, folder, options.messages)
            )
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
