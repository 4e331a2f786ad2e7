"""Many symbols served live by one drain run: ``python -m benchmarks.many_symbols [--symbols 500 --minutes 3]``.

A producer sends ticks of all symbols in turn, at a fixed rate in open loop, so that each symbol has a tick in every
minute. The benchmark samples the memory of the run, reads the output queue, and measures how long after a minute's end
all bars of that minute are committed, published and received. ``docs/images/proof-many-symbols.png`` shows the result.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.cold_symbols import names_of
from benchmarks.conservation import OutputReader, ReceivedRow, Stored, violations
from benchmarks.drain_processes import PROGRESS_SECONDS, Runs, until, wait_for
from benchmarks.harness import REPOSITORY, counted
from benchmarks.live_lane import DRAINED, Lane, make_lane, random_ticks, services
from benchmarks.many_symbols_picture import draw
from benchmarks.minute_bursts import COLD_MINUTES, Burst, Latencies, bursts, latencies, percentiles_ms
from benchmarks.models import proof_models
from benchmarks.queue_drains import RunCpu, load_sentence, spread
from benchmarks.traffic import produce
from benchmarks.waiting_messages import Planned, plan_tick
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, to_us
from surveillance_pipelines.engine.bar_builder import MINUTE_US

PICTURE: Final = REPOSITORY / "docs" / "images" / "proof-many-symbols.png"
SYMBOLS: Final = 5_000
RATE: Final = 200.0
MINUTES: Final = 8
PER_CALL: Final = 10
SAMPLE_SECONDS: Final = 1.0
RATE_HELD: Final = 0.99
"""Minimum share of the rate reached by the producer; below, the result does not count."""
MAX_MEMORY_MB: Final = 1_024.0
"""The bound of P11 for 5,000 symbols."""
MAX_BURST_SECONDS: Final = 60.0
"""The rows of a minute must be out before the next minute ends."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the producer sends, beginning with a minute. Each symbol has a tick in every minute.

    Raises:
        ValueError: if the rate is too low for that, or nothing follows the cold minutes.
    """

    symbols: int
    rate: float
    minutes: int

    def __post_init__(self) -> None:
        if self.rate * 60 < self.symbols:
            raise ValueError(
                f"expected at least {self.symbols / 60:.0f} messages/s for {self.symbols:,} symbols, was {self.rate:g}"
            )
        if self.minutes <= COLD_MINUTES:
            raise ValueError(f"expected more than {COLD_MINUTES} minutes, was {self.minutes}")

    @property
    def messages(self) -> int:
        return round(self.rate * 60 * self.minutes)


@dataclass(frozen=True, slots=True)
class Served:
    """The raw measurements of a load.

    Attributes:
        load: what was sent.
        begin_us: event time of the first tick.
        memory: seconds since the first tick, and megabytes of the drain run.
        cpu_seconds: CPU time of the drain run from before the first tick to the last closed bar.
        sent: message id → message.
        sent_at: message id → SentTimestamp.
        rows: read from the output queue.
        stored: tables of the live lane.
    """

    load: Load
    begin_us: int
    memory: list[tuple[float, float]]
    cpu_seconds: float
    sent: dict[str, Planned]
    sent_at: dict[str, int]
    rows: list[ReceivedRow]
    stored: Stored

    @property
    def rate(self) -> float:
        """Return the rate reached by the producer."""
        calls = len(self.sent) / PER_CALL
        span = (max(self.sent_at.values()) - min(self.sent_at.values())) / MICROSECONDS
        return len(self.sent) / span * (calls - 1) / calls


def serve(load: Load) -> Served:
    """Serve a load with a drain run in a separate process."""
    with services() as found, tempfile.TemporaryDirectory() as folder:
        lane = make_lane(found, Path(folder), proof_models(), publish_scores="all")
        served = ",".join(names_of(load.symbols))
        runs = Runs(lane, Path(folder), DRAIN_WINDOW_SECONDS="100000", SYMBOLS=served)
        try:
            run_id = runs.start()
            until(lambda: runs.has("holder", run_id))
            return _carry(load, lane, runs, run_id)
        finally:
            runs.end()


def _carry(load: Load, lane: Lane, runs: Runs, run_id: str) -> Served:
    reader, newest, cpu = OutputReader(lane.outputs), {}, RunCpu(runs.process)
    begin = (SYSTEM_CLOCK.now_us() // MINUTE_US + 1) * MINUTE_US
    ticks = random_ticks(
        load.messages, begin_us=begin, step_us=round(MICROSECONDS / load.rate), symbols=names_of(load.symbols)
    )
    planned = [plan_tick(tick, f"load-{i}", newest) for i, tick in enumerate(ticks)]
    bars = len({message.bar for message in planned})
    cpu.look([run_id])
    with reader.running(), _watched(runs.process(run_id), reader, begin) as memory:
        ids = produce(lane.inputs[0], ticks, "load", per_call=PER_CALL)
        wait_for(lambda: lane.query("SELECT count(*) FROM ops.ledger")[0][0], len(ids), what="messages")
        wait_for(lambda: reader.closed_bars, bars, what="closed bars")
        until(lambda: lane.query(DRAINED.decode(), len(ids)) == [(True,)])
        cpu.look([run_id])
    sent_at = {id_: to_us(at) for id_, at in lane.query("SELECT message_id, sent_at FROM ops.inbox")}
    sent = dict(zip(ids, planned, strict=True))
    return Served(load, begin, memory, cpu.seconds, sent, sent_at, reader.rows, Stored.of(lane))


@contextmanager
def _watched(process: psutil.Process, reader: OutputReader, begin_us: int) -> Iterator[list[tuple[float, float]]]:
    """Sample the memory of a process every ``SAMPLE_SECONDS`` in a ``with`` block, and print the progress."""
    memory: list[tuple[float, float]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            seconds = (SYSTEM_CLOCK.now_us() - begin_us) / MICROSECONDS
            memory.append((seconds, process.memory_info().rss / 1e6))
            if len(memory) % round(PROGRESS_SECONDS / SAMPLE_SECONDS) == 0:
                print(f"  {seconds:.0f} s: {memory[-1][1]:.0f} MB, {reader.closed_bars:,} bars closed", flush=True)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield memory
    finally:
        stop.set()
        thread.join()


def summary(served: Served, found: list[Burst], measured: Latencies) -> dict[str, Any]:
    """Return the content of the result."""
    load, wrong = served.load, violations(served.sent, served.stored, served.rows)
    warm = found[COLD_MINUTES:]
    times = {
        name: spread([getattr(burst, f"last_{name}") for burst in warm])
        for name in ("committed", "published", "received")
    }
    groups = {"steady": measured.is_steady, "bursts": measured.is_burst & ~measured.is_cold, "cold": measured.is_cold}
    waits = {name: percentiles_ms(measured.received[chosen]) for name, chosen in groups.items()}
    to_publication = percentiles_ms(measured.published[measured.is_steady])
    memory = [size for _, size in served.memory]
    sound = not any(wrong.values()) and served.rate >= RATE_HELD * load.rate
    outcomes, bars = served.stored.outcomes(), sum(burst.bars for burst in found)
    cpu_ms = 1e3 * served.cpu_seconds / (len(served.sent) + bars)
    largest = max(burst.largest_commit for burst in warm)
    return {
        "work": f"{load.symbols:,} symbols, one queue, a drain run, {load.minutes} minutes at {load.rate:g} messages/s"
        f" in open loop, {PER_CALL} a call; an own producer and consumer; cold: the first {COLD_MINUTES} minute(s)",
        "goal": "each message scored and each bar closed exactly once; the last final row of a minute published "
        f"≤ {MAX_BURST_SECONDS:g} s after its end; ≤ {MAX_MEMORY_MB:,.0f} MB",
        "found": [
            f"{len(served.sent):,} messages at {served.rate:.1f}/s, {outcomes['scored']:,} scored; {bars:,} bars; "
            + _wrong(wrong),
            f"memory of the drain run: {memory[0]:.0f} MB before the first tick, {max(memory):.0f} MB at most",
            "last bar of a minute, seconds after its end: "
            + ", ".join(f"{name} {one['median']:.1f} (at most {one['max']:.1f})" for name, one in times.items()),
            f"largest transaction: {largest:,} bars; CPU of the run per bar in progress or closed: {cpu_ms:.2f} ms",
            *(f"SentTimestamp to receipt, {name}: {_text(one)}" for name, one in waits.items()),
            f"SentTimestamp to publication, steady: {_text(to_publication)}",
            load_sentence(),
            f"![over time](images/{PICTURE.name})",
        ],
        "met": sound and times["published"]["max"] <= MAX_BURST_SECONDS and max(memory) <= MAX_MEMORY_MB,
        "figures": {
            "rate": served.rate,
            "violations": wrong,
            "outcomes": outcomes,
            "memory_mb": {"first": memory[0], "last": memory[-1], "max": max(memory)},
            "cpu_ms_per_scored_bar": cpu_ms,
            "burst_seconds": times,
            "bursts": [{name: value for name, value in asdict(one).items() if name != "published"} for one in found],
            "latency_ms": waits | {"steady, to publication": to_publication},
        },
    }  # fmt: skip


def _text(found: dict[str, float]) -> str:
    shown = f"p50 {found['p50']:.0f}, p99 {found['p99']:.0f}, max {found['max']:.0f} ms" if found["n"] else "none"
    return f"{shown} (n {found['n']:,})"


def _wrong(counts: dict[str, int]) -> str:
    found = [f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items() if number]
    return ", ".join(found) or "no violation"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all goals are met, else 1."""
    parser = argparse.ArgumentParser(description="Serve many symbols live with one drain run.")
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    parser.add_argument("--rate", type=float, default=RATE, help="messages per second")
    parser.add_argument("--minutes", type=int, default=MINUTES)
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw the picture")
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    served = serve(Load(options.symbols, options.rate, options.minutes))
    found = bursts(served.rows, served.begin_us, served.load.minutes)
    measured = latencies(served.rows, served.sent_at, served.begin_us, found)
    draw(served.memory, measured, found, options.picture)
    return 0 if counted("many_symbols", path=options.result, **summary(served, found, measured))["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
