"""Ticks put on the input queues: in order of event time, each to its symbol's queue, as fast or slow as asked."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.commands.console import progress
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.hashing import sha256_text
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.transports.sqs import BATCH_SIZE, QueueClient, queue_for_symbol

if TYPE_CHECKING:
    import polars as pl

_PACE_SECONDS: Final = 0.25
"""How far ahead of the replayed clock a batch may run: shorter pauses would only add calls."""


def send_ticks(
    ticks: "pl.DataFrame", queues: Sequence[QueueClient], *, speed: float | None, clock: Clock, feed_id: str = ""
) -> int:
    """Send ticks in order of event time and return how many went out.

    Args:
        ticks: ``TICK_SCHEMA``.
        queues: all input queues, in the order of SQS_QUEUE_URL.
        speed: seconds of the market per second; None for as fast as the queues take them.
        clock: paces the replay.
        feed_id: part of every deduplication id. With an equal one, a repeat of the same ticks is recognised as such,
            by SQS for five minutes and by the ledger for good.
    """
    by_url = {queue.queue_url: queue for queue in queues}
    waiting: dict[str, list[SendEntry]] = {url: [] for url in by_url}
    ordered = ticks.sort("event_time", "symbol", maintain_order=True)
    sent, pace = 0, _Pace(speed, clock)
    with progress("ticks sent", total=ordered.height) as bar:
        for tick, entry in _entries(ordered, feed_id):
            url = queue_for_symbol(tick.symbol, list(by_url))
            if pace.is_due(tick.event_time):
                sent += _flush(by_url, waiting)
                bar.set(sent)
                pace.wait(tick.event_time)
            waiting[url].append(entry)
            if len(waiting[url]) == BATCH_SIZE:
                sent += len(by_url[url].send(waiting[url]))
                waiting[url] = []
                bar.set(sent)
        sent += _flush(by_url, waiting)
        bar.set(sent)
    return sent


def _flush(queues: dict[str, QueueClient], waiting: dict[str, list[SendEntry]]) -> int:
    sent = sum(len(queues[url].send(entries)) for url, entries in waiting.items() if entries)
    for entries in waiting.values():
        entries.clear()
    return sent


def _entries(ticks: "pl.DataFrame", feed_id: str) -> Iterator[tuple[Tick, SendEntry]]:
    """Yield messages as the producer's contract has them; equal trades get ids of their own by counting them."""
    import polars as pl

    repeats: Counter[str] = Counter()
    columns = ("symbol", "price", "volume", "event_time", "change", "change_percent")
    for row in ticks.select(columns).with_columns(pl.col("event_time").dt.timestamp("us")).iter_rows():
        tick = Tick(*row)
        body = encode_tick(tick)
        repeats[body] += 1
        yield tick, SendEntry(body, tick.symbol, sha256_text(f"{feed_id}\n{body}\n{repeats[body]}"))


class _Pace:
    """Maps event time to wall time from the first tick on."""

    def __init__(self, speed: float | None, clock: Clock) -> None:
        self._speed, self._clock = speed, clock
        self._began: tuple[int, int] | None = None

    def is_due(self, event_time: int) -> bool:
        """Return whether the replay is so far ahead that it must wait before this tick."""
        return self._ahead(event_time) > _PACE_SECONDS

    def wait(self, event_time: int) -> None:
        self._clock.sleep(max(0.0, self._ahead(event_time)))

    def _ahead(self, event_time: int) -> float:
        if self._speed is None:
            return 0.0
        if self._began is None:
            self._began = (event_time, self._clock.now_us())
        first_event, first_wall = self._began
        due = first_wall + (event_time - first_event) / self._speed
        return (due - self._clock.now_us()) / MICROSECONDS
