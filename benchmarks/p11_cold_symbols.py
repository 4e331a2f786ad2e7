"""P11: first messages of 1,000 and 5,000 symbols with eight sessions of history.

The anchor reads those bars once with polars, and receives, sends and deletes the same messages in a bare loop.
``python -m benchmarks.p11_cold_symbols --symbols 100`` is a small one, whose result is printed, not kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.cold_symbols import MINUTES, SESSIONS, fill_lake, messages, names_of, peak_mb, session_frame
from benchmarks.drain_processes import Runs, wait_for
from benchmarks.harness import PINNED, REPOSITORY, RESULTS, Comparison, Goal, Parity, prove
from benchmarks.live_lane import Lane, make_lane, services_of
from benchmarks.models import ProofModels, proof_models
from benchmarks.p3_throughput import bare
from benchmarks.queue_drains import FIRST_TO_LAST
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines_tests.storage_fixtures import service_settings

SYMBOLS: Final = 1_000
MANY: Final = 5_000
_LIMITS: Final = {"peak_mb_at_5000": 1_024.0, "snapshots_s": 2.0, "new_symbol_ms": 50.0, "invented_ms": 50.0}
_NOTES: Final = (
    "ours: from the first message received to the last outcome committed, in a drain run that already holds its queue",
    "the anchor is the sum of the read and of the loop, which sends as many messages for each as our arm published",
    (
        "new_symbol, invented, snapshots and kb_per_symbol: the engine and the store in a process of their own, with "
        "messages from memory; cpu_s is the process's for all symbols"
    ),
    (
        "one new symbol arrives after the histories of the others have been dropped, as after minutes without a new "
        "one; first_new_symbol_ms is the first one after a restart from snapshots, which also reads its peers' closes"
    ),
    (
        "attempts, kept: feature snapshots without compression; histories compressed in the thread that commits; "
        "commits beside the scoring of the next batch, as in a drain run"
    ),
    (
        "profile of the engine's thread: the histories of the lake, the features and the scoring take about a third "
        "each, and no single function much"
    ),
)


@dataclass(frozen=True, slots=True)
class Start:
    """One cold start of a queue.

    Attributes:
        seconds: from the first message received to the last outcome committed.
        peak_mb: peak memory of the drain run.
        published: messages published for each one received.
    """

    seconds: float
    peak_mb: float
    published: float


class Bench:
    """One lake, and fresh queues and a fresh database for each start."""

    def __init__(self, found: EmbeddedServices, folder: Path, models: ProofModels, symbols: int) -> None:
        self._found, self._folder, self._models, self._symbols = found, folder, models, symbols
        self._lake: Final = folder / f"lake-{symbols}"
        self._last: Start | None = None
        self.reads: Final[list[float]] = []
        self.loops: Final[list[float]] = []
        fill_lake(Lake(str(self._lake)), symbols)

    @property
    def last(self) -> Start:
        """Return the last cold start."""
        if self._last is None:
            raise RuntimeError("expected a cold start first, there was none")
        return self._last

    def ours(self) -> float:
        lane = self._lane(lake_url=str(self._lake))
        logs = lane.settings.surveillance_home
        logs.mkdir(exist_ok=True)
        served = ",".join(names_of(self._symbols))
        runs = Runs(lane, logs, DRAIN_WINDOW_SECONDS="100000", SYMBOLS=served, LOG_LEVEL="WARNING")
        try:
            run_id = runs.start()
            ended = wait_for(lambda: _outcomes(lane), self._symbols, what=f"{self._symbols:,} cold symbols")
            peak = peak_mb(runs.process(run_id).pid) if ended else 0.0
        finally:
            runs.end()
        ((scored,),) = lane.query("SELECT count(*) FROM ops.ledger WHERE outcome = 'scored'")
        ((rows,),) = lane.query("SELECT count(*) FROM ops.outbox")
        ((seconds,),) = lane.query(FIRST_TO_LAST)
        if scored != self._symbols:
            raise RuntimeError(f"expected {self._symbols:,} messages scored, was {scored:,}: {runs.failures()}")
        self._last = Start(float(seconds), peak, rows / scored)
        return self._last.seconds

    def anchor(self) -> float:
        self.reads.append(self.engine("anchor")["seconds"])
        self.loops.append(bare(self._lane(), self._symbols, self.last.published) * self._symbols)
        return self.reads[-1] + self.loops[-1]

    def engine(self, arm: str) -> dict[str, float]:
        """Return the costs that ``benchmarks.cold_symbols`` prints."""
        url = make_lane(self._found, self._folder, None).endpoints.database_url if arm == "ours" else "none"
        command = [sys.executable, "-m", "benchmarks.cold_symbols", arm, str(self._lake), url, str(self._symbols)]
        done = subprocess.run(
            command, env=os.environ | PINNED, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"expected {arm} with {self._symbols} symbols to succeed, it said: {done.stderr[-3000:]}"
            )
        return json.loads(done.stdout.splitlines()[-1])

    def _lane(self, lake_url: str | None = None) -> Lane:
        """Return queues that contain the first message of each symbol."""
        names = names_of(self._symbols)
        lane = make_lane(
            self._found, self._folder, self._models, symbols=names, lake_url=lake_url, publish_scores="all"
        )
        with connect(lane.endpoints.database_url) as connection:
            save_sessions(connection, session_frame())
        sent = messages(names)
        lane.inputs[0].send([SendEntry(each.body, each.group_id, each.dedup_id) for each in sent])
        return lane


def _outcomes(lane: Lane) -> int:
    ((count,),) = lane.query("SELECT count(*) FROM ops.ledger")
    return count


def compare(bench: Bench, figures: Any, symbols: int, results: Path) -> dict[str, Any]:
    """Run the rounds and write the result."""
    bars = symbols * MINUTES * SESSIONS
    limits = {name: limit for name, limit in _LIMITS.items() if symbols == SYMBOLS or "_at_" not in name}
    return prove(
        Comparison(
            name="p11_polars_read",
            work=f"the first message of each of {symbols:,} symbols, {bars:,} bars in the lake",
            ours="one drain run, PUBLISH_SCORES=all",
            anchor="polars: the same bars read once, all columns; then a loop of boto3: receive, send, delete",
            distributions=("polars", "deltalake", "boto3", "ministack"),
            unit="s",
            goal=Goal(ratio=0.5, limits=limits),
            notes=_NOTES,
        ),
        parity=lambda: Parity(
            passed=bench.engine("anchor")["rows"] == bars,
            statement=f"the anchor reads {bars:,} bars, those of the lake",
        ),
        ours=bench.ours,
        anchor=bench.anchor,
        figures=figures,
        results=results,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    symbols, models = parser.parse_args(arguments).symbols, proof_models()
    with tempfile.TemporaryDirectory(prefix="proof-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        with services_of(service_settings(folder / "home")) as found:
            bench = Bench(found, folder, models, symbols)

            def figures() -> Mapping[str, float]:
                measured = bench.engine("ours") | {
                    "peak_mb": bench.last.peak_mb,
                    "published_per_message": bench.last.published,
                    "anchor_read_s": statistics.median(bench.reads[1:]),
                    "anchor_loop_s": statistics.median(bench.loops[1:]),
                }
                if symbols != SYMBOLS:
                    return measured
                many = Bench(found, folder, models, MANY)
                seconds, engine = many.ours(), many.engine("ours")
                return measured | {
                    "seconds_at_5000": seconds, "anchor_seconds_at_5000": many.anchor(),
                    "peak_mb_at_5000": many.last.peak_mb, "snapshots_at_5000_s": engine["snapshots_s"],
                    "kb_per_symbol": engine["kb_per_symbol"],
                }  # fmt: skip

            print(json.dumps(compare(bench, figures, symbols, RESULTS if symbols == SYMBOLS else folder / "proof")))


if __name__ == "__main__":
    main()
