"""An hour of messages over four queues: ``python -m benchmarks.soak [--minutes 60]``.

Each queue has a drain run and a standby, with a handover at the end of every window. Every few seconds the benchmark
samples values that must not grow: memory, open files, threads and connections of the runs, the latency from SQS to
the commit, and the tables. Finally, retention runs as on the day on which the week is dropped, before and after the
lake has the ticks.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from benchmarks.drain_processes import Runs, until
from benchmarks.harness import REPOSITORY, counted
from benchmarks.live_lane import Lane, make_lane, random_ticks, services
from benchmarks.models import SYMBOLS, proof_models
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, utc_date
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.services.retention import retain
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.live_rows import read_ticks
from surveillance_pipelines.stores.partitions import WEEK
from surveillance_pipelines.transports.queue_routing import queue_for_symbol
from surveillance_pipelines.transports.sqs import QueueClient

PICTURE: Final = REPOSITORY / "docs" / "images" / "proof-soak.svg"
QUEUES: Final = 4
RATE: Final = 100.0
WINDOW_SECONDS: Final = 300.0
SAMPLE_SECONDS: Final = 10.0
GROWTH: Final = {"memory_mb": 1.15, "open_files": 1.1, "threads": 1.0, "p99_ms": 2.0}
"""Accepted growth factor from the second to the last quarter of the time; caches fill in the first quarter."""
RATE_HELD: Final = 0.99
"""Minimum share of ``RATE`` reached by the producer; below, the run does not count."""
TABLE_GROWTH: Final = 1.15
"""Accepted factor of table growth in the last quarter relative to the second; growth must follow the messages."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample. Memory, files and threads are those of the largest run; sizes cover all partitions of a table."""

    seconds: float
    runs: int
    memory_mb: float
    open_files: int
    threads: int
    connections: int
    p50_ms: float
    p99_ms: float
    messages: int
    tables_mb: dict[str, float]


_WAITS: Final = """
    SELECT count(*), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
        ORDER BY 1000 * extract(epoch FROM l.committed_at - i.sent_at))
    FROM ops.ledger l JOIN ops.inbox i USING (message_id)
    WHERE l.committed_at > clock_timestamp() - interval '10 seconds'
"""
_SIZES: Final = """
    SELECT n.nspname || '.' || c.relname, sum(pg_total_relation_size(coalesce(p.inhrelid, c.oid))) / 1e6
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_inherits p ON p.inhparent = c.oid
    WHERE n.nspname IN ('ops', 'surveillance') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    GROUP BY 1 HAVING sum(pg_total_relation_size(coalesce(p.inhrelid, c.oid))) > 1e6
"""
_LEFT: Final = """
    SELECT (SELECT count(*) FROM ops.inbox) + (SELECT count(*) FROM ops.ledger) + (SELECT count(*) FROM ops.outbox)
"""


def look(lane: Lane, runs: Runs, begin_us: int) -> Sample:
    """Return a sample of all values."""
    processes = [psutil.Process(pid) for pid in runs.living()]
    ((messages, waits),) = lane.query(_WAITS)
    ((connections,),) = lane.query("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    p50, p99 = waits or (0.0, 0.0)
    return Sample(
        seconds=(SYSTEM_CLOCK.now_us() - begin_us) / MICROSECONDS,
        runs=len(processes),
        memory_mb=max(process.memory_info().rss for process in processes) / 1e6,
        open_files=max(process.num_fds() for process in processes),
        threads=max(process.num_threads() for process in processes),
        connections=connections,
        p50_ms=float(p50),
        p99_ms=float(p99),
        messages=messages,
        tables_mb={name: round(float(size), 1) for name, size in lane.query(_SIZES)},
    )


def produce(lane: Lane, stop: threading.Event, sent: list[int]) -> None:
    """Send a tick every 1/RATE seconds to the queue of its symbol; overdue ticks are sent together."""
    urls = lane.endpoints.queue_urls
    clients = {url: lane.queue(url) for url in urls}
    queues = {symbol: clients[queue_for_symbol(symbol, urls)] for symbol in SYMBOLS}
    shape, begin = random_ticks(20_000, begin_us=0), SYSTEM_CLOCK.now_us()
    while not stop.is_set():
        now = SYSTEM_CLOCK.now_us()
        batches: dict[QueueClient, list[SendEntry]] = {}
        for number in range(sent[0], int((now - begin) * RATE / MICROSECONDS) + 1):
            tick = shape[number % len(shape)]
            body = encode_tick(Tick(tick.symbol, tick.price, tick.volume, now))
            batches.setdefault(queues[tick.symbol], []).append(SendEntry(body, tick.symbol, f"tick-{number}"))
        for queue, entries in batches.items():
            queue.send(entries)
            sent[0] += len(entries)
        due = begin + round(sent[0] / RATE * MICROSECONDS)
        stop.wait(max(0.0, (due - SYSTEM_CLOCK.now_us()) / MICROSECONDS))


def soak(lane: Lane, runs: Runs, minutes: float) -> tuple[list[Sample], int]:
    """Keep two runs per queue, as the sensor does, and sample them; return the samples and the number of sent ticks."""
    stop, sent, samples = threading.Event(), [0], []
    producer = threading.Thread(target=produce, args=(lane, stop, sent))
    producer.start()
    begin = SYSTEM_CLOCK.now_us()
    try:
        while (elapsed := (SYSTEM_CLOCK.now_us() - begin) / MICROSECONDS) < minutes * 60:
            for url in lane.endpoints.queue_urls:
                if runs.count(url) < 2:
                    runs.start(url)
            SYSTEM_CLOCK.sleep(SAMPLE_SECONDS)
            samples.append(look(lane, runs, begin))
            if len(samples) % 6 == 0:
                print(f"  {elapsed / 60:.0f} of {minutes:.0f} minutes, p99 {samples[-1].p99_ms:.0f} ms", flush=True)
    finally:
        stop.set()
        producer.join()
    until(lambda: lane.query("SELECT count(*) FROM ops.ledger")[0][0] >= sent[0])
    return samples, sent[0]


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the ratio of the medians of the last and the second quarter for each value in GROWTH."""
    count = len(samples)
    second, last = samples[count // 4 : count // 2], samples[3 * count // 4 :]
    return {
        name: float(
            np.median([getattr(s, name) for s in last]) / max(np.median([getattr(s, name) for s in second]), 1e-9)
        )
        for name in GROWTH
    }


def table_growth(samples: Sequence[Sample]) -> float:
    """Return the table growth in the last quarter of the time relative to the second quarter."""
    count = len(samples)
    sizes = [sum(sample.tables_mb.values()) for sample in samples]
    return (sizes[-1] - sizes[3 * count // 4]) / max(sizes[count // 2] - sizes[count // 4], 1e-9)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The result of retention on the day on which the week of the soak is due.

    Attributes:
        refused: partitions kept while the lake lacked their ticks → why.
        kept: partitions kept afterwards, which should be none.
        books_mb: inbox, ledger and outbox before, and after the ticks were in the lake and retention ran again.
        left: their rows afterwards.
        landed: ticks in the lake.
    """

    refused: dict[str, str]
    kept: dict[str, str]
    books_mb: tuple[float, float]
    left: int
    landed: int

    @property
    def sentence(self) -> str:
        before, after = self.books_mb
        return (
            f"retention, once due: {len(self.refused)} partitions kept while the lake lacked their ticks; with "
            f"{self.landed:,} in the lake, the books went from {before:.0f} to {after:.1f} MB, {self.left} rows left"
        )


def forget(lane: Lane, folder: Path) -> Forgotten:
    """Run retention past ``LEDGER_RETENTION_DAYS``, fill the lake, run it again."""
    now, keep = utc_date(SYSTEM_CLOCK.now_us()), lane.settings.ledger_retention_days
    lake, due = Lake(str(folder / "retained")), now + WEEK + timedelta(days=keep)
    with connect(lane.endpoints.database_url, autocommit=True) as connection:
        early = retain(connection, lake, today=due, retention_days=keep)
        ticks = read_ticks(connection, now - timedelta(days=1), now)
        lake.write_days("ticks", ticks, days=ticks["date"].unique().to_list())
        done = retain(connection, lake, today=due, retention_days=keep)
    ((left,),) = lane.query(_LEFT)
    size_mb = [sum(partition.size_bytes for partition in outcome.now) / 1e6 for outcome in (early, done)]
    return Forgotten(early.kept, done.kept, (size_mb[0], size_mb[1]), left, len(ticks))


def draw(samples: Sequence[Sample], path: Path) -> None:
    """Draw memory, files and threads, latency, and the largest tables over time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    minutes = [sample.seconds / 60 for sample in samples]
    tables = sorted(samples[-1].tables_mb, key=lambda name: -samples[-1].tables_mb[name])[:6]
    panels: list[tuple[str, dict[str, list[float]]]] = [
        ("memory of the largest run, MB", {"": [s.memory_mb for s in samples]}),
        ("of the largest run", {"files": [s.open_files for s in samples], "threads": [s.threads for s in samples]}),
        ("SQS to commit, ms", {"p50": [s.p50_ms for s in samples], "p99": [s.p99_ms for s in samples]}),
        ("tables, MB", {name: [s.tables_mb.get(name, 0.0) for s in samples] for name in tables}),
    ]
    with mpl.rc_context({"svg.hashsalt": "proof", "font.size": 9}):
        figure = Figure(figsize=(9, 6), layout="constrained")
        for axes, (title, lines) in zip(figure.subplots(2, 2).flat, panels, strict=True):
            for label, values in lines.items():
                axes.plot(minutes, values, label=label, linewidth=1)
            axes.set_title(title, loc="left")
            axes.set_xlabel("minutes")
            axes.set_ylim(bottom=0)
            if any(lines):
                axes.legend(fontsize=7, loc="upper left")
        figure.savefig(path, metadata={"Date": None})


def prove(minutes: float) -> dict[str, Any]:
    """Run the soak and return what ``harness.counted`` is to write."""
    with services() as found, tempfile.TemporaryDirectory() as folder:
        lane = make_lane(found, Path(folder), proof_models(), queues=QUEUES)
        runs = Runs(lane, Path(folder), DRAIN_WINDOW_SECONDS=str(WINDOW_SECONDS))
        try:
            samples, sent = soak(lane, runs, minutes)
        finally:
            runs.end()
        ((outcomes, distinct),) = lane.query("SELECT count(*), count(DISTINCT message_id) FROM ops.ledger")
        forgotten = forget(lane, Path(folder))
    draw(samples, PICTURE)
    factors, rate, last = growth(samples), table_growth(samples), samples[-1]
    flat = all(factors[name] <= limit for name, limit in GROWTH.items()) and rate <= TABLE_GROWTH
    kept = forgotten.landed == sent and bool(forgotten.refused) and not forgotten.kept and forgotten.left == 0
    tables, rate_reached = sum(last.tables_mb.values()), sent / last.seconds
    return {
        "work": f"{minutes:g} minutes at {RATE:.0f} messages/s over {QUEUES} queues, a standby for each, a handover "
        f"every {WINDOW_SECONDS:.0f} s",
        "goal": "nothing lost; memory, files, threads and latency flat; tables grow with the messages they keep, and "
        "retention drops the week once the lake has its ticks",
        "found": [
            f"{sent:,} sent, {rate_reached:.1f} a second; {distinct:,} with an outcome, {outcomes - distinct} with two",
            f"{runs.started} runs, one after the other on each queue",
            f"largest run {last.memory_mb:.0f} MB, {last.open_files} files, {last.threads} threads",
            f"from SQS to commit at the end: p50 {last.p50_ms:.0f}, p99 {last.p99_ms:.0f} ms",
            "last quarter against the second: " + ", ".join(f"{name} {value:.2f}×" for name, value in factors.items()),
            f"tables {tables:.0f} MB, {1e6 * tables / max(sent, 1):.0f} bytes a message; growing {rate:.2f}× as fast",
            forgotten.sentence,
            "![over time](images/proof-soak.svg)",
        ],
        "met": flat and kept and rate_reached >= RATE_HELD * RATE and outcomes == distinct == sent,
        "figures": {"growth": factors, "tables": rate, "samples": [asdict(sample) for sample in samples]},
    }


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all goals are met, else 1."""
    parser = argparse.ArgumentParser(description="Serve four queues for a long time, and look at what must not grow.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    return 0 if counted("r5_soak", path=options.result, **prove(options.minutes))["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
