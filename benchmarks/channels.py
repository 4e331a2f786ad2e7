"""A frozen, then killed channel beside the SQS output queue: what SQS gets, how fast, and what the channel gets later.

``python -m benchmarks.channels``: one drain run and one delivery run under load, over PostgreSQL, the local SQS
emulator and a Valkey server. Valkey is stopped with SIGSTOP, killed, and started again; ``proof/counts/channels.json``
compares the SQS latency while it was frozen with the latency before, in the same run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.drain_processes import Runs, until
from benchmarks.harness import PINNED, counted
from benchmarks.kills import RATE, Traffic
from benchmarks.live_lane import Lane, make_lane, services
from benchmarks.valkey import ValkeyProcess
from surveillance_pipelines.clock import SYSTEM_CLOCK, to_datetime
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.outbox import waiting

STREAM: Final = "surveillance:output"
BLOCKS: Final = 5
"""Parts of the phase before, whose figures give the spread."""

WARM_SECONDS: Final = 20.0
DEAD_SECONDS: Final = 10.0
"""How long the server stays dead after it was killed."""

_LATENCY: Final = """
    SELECT extract(epoch FROM delivered_at - inbox.sent_at)::float8 * 1000
    FROM ops.outbox JOIN ops.outbox_deliveries AS delivered USING (position)
    JOIN ops.inbox ON inbox.message_id = outbox.body::jsonb ->> 'correlation_id'
    WHERE channel = 'sqs' AND inbox.sent_at >= %s AND inbox.sent_at < %s
"""
_LAST: Final = "SELECT max(position) FROM ops.outbox"
_CAUSED: Final = "SELECT id, group_id FROM ops.outbox WHERE position <= %s ORDER BY position"
_LATE_DELIVERIES: Final = "SELECT count(*) FROM ops.outbox_deliveries WHERE channel = 'redis' AND delivered_at > %s"


@dataclass(frozen=True)
class Phase:
    """A span of the run, and the SQS latencies of the inputs sent in it, milliseconds."""

    name: str
    begin: int
    end: int

    def latencies(self, lane: Lane) -> np.ndarray:
        rows = lane.query(_LATENCY, to_datetime(self.begin), to_datetime(self.end))
        return np.array([value for (value,) in rows])

    def block(self, number: int) -> "Phase":
        span = (self.end - self.begin) // BLOCKS
        return Phase(f"{self.name} {number}", self.begin + number * span, self.begin + (number + 1) * span)


@contextmanager
def delivery_run(lane: Lane, folder: Path) -> Iterator[None]:
    """Run a delivery run of the channel redis in a process of its own."""
    environment = {
        **os.environ, **PINNED, **child_environment(lane.endpoints), "OUTPUT_CHANNELS": "sqs,redis",
        "REDIS_URL": lane.settings.redis_url.get_secret_value() if lane.settings.redis_url else "",
        "REDIS_STREAM": STREAM, "SURVEILLANCE_HOME": str(lane.settings.surveillance_home),
        "DRAIN_IDLE_SECONDS": "100000", "LOG_LEVEL": "INFO",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "surveillance_pipelines.services.delivery", "--channel", "redis", "--run-id", "delivery",
        "--window-seconds", "100000",
    ]  # fmt: skip
    with (folder / "delivery.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def measure(before_seconds: float, frozen_seconds: float) -> dict[str, Any]:
    """Run the phases and return what ``harness.counted`` is to write."""
    with tempfile.TemporaryDirectory(prefix="channels-") as name, services() as found:
        folder = Path(name)
        valkey = ValkeyProcess(folder / "valkey")
        valkey.start()
        lane = make_lane(
            found, folder, None, publish_scores="all", output_channels=("sqs", "redis"), redis_url=valkey.url,
            redis_stream=STREAM,
        )  # fmt: skip
        runs = Runs(lane, folder, DRAIN_WINDOW_SECONDS="100000")
        traffic = Traffic(lane)
        try:
            with delivery_run(lane, folder), traffic.running():
                run_id = runs.start()
                until(lambda: runs.has("holder", run_id))
                until(lambda: bool(lane.query("SELECT 1 FROM ops.outbox_deliveries WHERE channel = 'redis' LIMIT 1")))
                phases = _phases(valkey, before_seconds, frozen_seconds)
                traffic.stop.set()
                until(lambda: lane.query("SELECT count(*) FROM ops.ledger")[0][0] >= traffic.sent)
                ((last,),) = lane.query(_LAST)  # the clock goes on closing bars
                _wait_until_delivered(lane, frozen_seconds)
            return summary(lane, phases, valkey.entries(STREAM), traffic, last)
        finally:
            runs.end()
            valkey.kill()


def _phases(valkey: ValkeyProcess, before_seconds: float, frozen_seconds: float) -> list[Phase]:
    SYSTEM_CLOCK.sleep(WARM_SECONDS)
    instants = [SYSTEM_CLOCK.now_us()]
    SYSTEM_CLOCK.sleep(before_seconds)
    instants.append(SYSTEM_CLOCK.now_us())
    valkey.freeze()
    SYSTEM_CLOCK.sleep(frozen_seconds)
    instants.append(SYSTEM_CLOCK.now_us())
    valkey.kill()
    SYSTEM_CLOCK.sleep(DEAD_SECONDS)
    valkey.start()
    instants.append(SYSTEM_CLOCK.now_us())
    return [Phase(*phase) for phase in zip(("before", "frozen", "dead"), instants, instants[1:], strict=False)]


def _wait_until_delivered(lane: Lane, seconds: float) -> None:
    until_us = SYSTEM_CLOCK.now_us() + round((120.0 + seconds) * 1e6)
    with connect(lane.endpoints.database_url, autocommit=True) as connection:
        while any(waiting(connection, channel).count for channel in ("sqs", "redis")):
            if SYSTEM_CLOCK.now_us() > until_us:
                raise RuntimeError(f"expected both channels to get everything, {waiting(connection, 'redis')} is left")
            SYSTEM_CLOCK.sleep(0.2)


def summary(
    lane: Lane, phases: list[Phase], entries: list[dict[str, str]], traffic: Traffic, last: int
) -> dict[str, Any]:
    """Return the figures: latency ratios within their spread, and what each channel got of rows up to ``last``."""
    before, frozen, _ = phases
    ratios, spreads = _ratios(lane, before, frozen)
    caused = lane.query(_CAUSED, last)
    arrived = Counter(entry["id"] for entry in entries)
    first = list(dict.fromkeys(entry["id"] for entry in entries))
    groups = dict(caused)
    by_group = {
        group: [id_ for id_, own in caused if own == group] == [id_ for id_ in first if groups.get(id_) == group]
        for group in set(groups.values())
    }
    on_sqs = {dedup_id for dedup_id, _, _ in traffic.seen}
    lost = len(groups.keys() - arrived.keys())
    figures = {
        "inputs": traffic.sent,
        "messages": len(caused),
        "phases": {one.name: _figures(one.latencies(lane)) for one in phases},
        "ratio": ratios,
        "spread_before": spreads,
        "redis_lost": lost,
        "redis_repeated": sum(times - 1 for times in arrived.values()),
        "redis_unknown": len(arrived.keys() - {id_ for (id_,) in lane.query("SELECT id FROM ops.outbox")}),
        "redis_groups_out_of_order": sum(not in_order for in_order in by_group.values()),
        "sqs_lost": len(groups.keys() - on_sqs),
        "delivered_after_the_restart": lane.query(_LATE_DELIVERIES, to_datetime(phases[-1].end))[0][0],
    }
    unharmed = all(ratios[name] <= spreads[name] for name in ratios)
    complete = not (lost or figures["redis_unknown"] or figures["sqs_lost"] or figures["redis_groups_out_of_order"])
    return {
        "work": f"{traffic.sent:,} inputs at {RATE:.0f} a second, {len(caused):,} messages to SQS and Valkey; Valkey "
        f"frozen for {(frozen.end - frozen.begin) / 1e6:.0f} s, killed, dead for {DEAD_SECONDS:.0f} s, started again",
        "goal": "SQS latency while Valkey is frozen within the spread of before; then everything delivered, same ids",
        "found": [
            *(
                f"SQS latency {name}, frozen over before: {ratios[name]:.2f} (spread before: {spreads[name]:.2f})"
                for name in ratios
            ),
            f"Valkey after the restart: {lost} of {len(caused):,} messages lost, {figures['redis_repeated']} repeated",
            f"symbols out of order on Valkey: {figures['redis_groups_out_of_order']}",
        ],
        "met": unharmed and complete,
        "figures": figures,
    }


def _ratios(lane: Lane, before: Phase, frozen: Phase) -> tuple[dict[str, float], dict[str, float]]:
    """Return frozen over before for the median and p99, and how far parts of the phase before lie apart."""
    blocks = [before.block(number).latencies(lane) for number in range(BLOCKS)]
    ratios, spreads = {}, {}
    for name, percent in (("median", 50), ("p99", 99)):
        parts = [float(np.percentile(block, percent)) for block in blocks if len(block)]
        whole = float(np.percentile(before.latencies(lane), percent))
        ratios[name] = float(np.percentile(frozen.latencies(lane), percent)) / whole
        spreads[name] = max(parts) / min(parts)
    return ratios, spreads


def _figures(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {"n": 0}
    p50, p99 = np.percentile(values, (50, 99)).tolist()
    return {"n": len(values), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all is as promised."""
    parser = argparse.ArgumentParser(description="Freeze and kill one output channel, and measure the other.")
    parser.add_argument("--before", type=float, default=150.0, help="seconds measured before the freeze")
    parser.add_argument("--frozen", type=float, default=300.0, help="seconds for which Valkey is frozen")
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    result = counted("channels", path=options.result, **measure(options.before, options.frozen))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
