"""Sends ticks of a file, ticks made from its bars, or simulated ticks to the input queues, at a chosen speed."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.hashing import sha256_text
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.services.instruments import register, require_registered, span
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.transports.queue_routing import queue_for_symbol
from surveillance_pipelines.transports.sqs import BATCH_SIZE, QueueClient

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.market.files.options import FileOptions

_PACE_SECONDS: Final = 0.25
"""Maximum lead of a batch over the replayed clock; a smaller one only adds calls."""


_LAST_BARS: Final = """
    SELECT asked.symbol, last.bar_start, last.close
    FROM unnest(%s::text[]) AS asked (symbol)
    CROSS JOIN LATERAL (
        SELECT bar_start, close FROM ops.live_bars
        WHERE symbol = asked.symbol AND queue_url = ANY(%s)
        ORDER BY bar_start DESC, revision DESC LIMIT 1
    ) AS last
"""


@dataclass(frozen=True, slots=True)
class FileTicks:
    """Ticks of a file.

    Attributes:
        ticks: ``TICK_SCHEMA``.
        rows_in: rows of the file.
        refused: refusal code → number of rows left out.
        first_reason: position and reason of the first refused row; empty if none was refused.
        notes: assumptions of the reader.
    """

    ticks: "pl.DataFrame"
    rows_in: int
    refused: Counter[str]
    first_reason: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LastBar:
    """The newest closed bar of a symbol in the live lane."""

    bar_start: datetime
    close: float


def ticks_of_file(path: Path, options: "FileOptions", *, per_bar: int, seed: int) -> FileTicks:
    """Return the ticks of a file, or ticks made from its bars. Refused rows are left out, with their reasons.

    Raises:
        FileError: if the file as a whole cannot be read.
        InvalidInputError: if all rows are refused.
    """
    from surveillance_pipelines.market.bars_to_ticks import ticks_from_bars
    from surveillance_pipelines.market.files.bars import read_bars
    from surveillance_pipelines.market.files.ticks import holds_trades, read_ticks

    has_trades = holds_trades(path, options)
    found = read_ticks(path, options) if has_trades else read_bars(path, options)
    if found.frame.is_empty():
        raise InvalidInputError(
            f"expected ticks or bars in {path}, got no valid row: {found.first_reason or 'the file has no rows'}",
            remedy="correct the rows, or name the columns with --columns",
        )
    ticks = found.frame if has_trades else ticks_from_bars(found.frame, per_bar, seed)
    counts = Counter(refusal.code for refusal in found.refusals)
    return FileTicks(ticks, found.rows_in, counts, found.first_reason, found.notes)


def simulated_ticks(
    stores: Stores, symbols: tuple[str, ...], day: date | None, *, per_bar: int, seed: int
) -> "pl.DataFrame":
    """Return the ticks of one simulated session: of ``day``, else the first after the last served bar, else the last.

    After a served session, prices continue from its last prices.
    """
    from surveillance_pipelines.market.bars_to_ticks import ticks_from_bars
    from surveillance_pipelines.services.simulation import last_sessions, session_after, simulated_bars

    served = {} if day is not None else last_served(stores, symbols)
    if served:
        sessions = session_after(max(bar.bar_start for bar in served.values()), stores.clock)
    else:
        sessions = last_sessions(1, day, stores.clock)
    prices = {symbol: bar.close for symbol, bar in served.items()}
    return ticks_from_bars(simulated_bars(symbols, sessions, seed, prices), per_bar, seed)


def filter_ticks(ticks: "pl.DataFrame", symbols: tuple[str, ...], day: date | None) -> "pl.DataFrame":
    """Return the ticks of the given symbols (empty means all) and UTC day (None means all).

    Raises:
        InvalidInputError: if no tick is left.
    """
    import polars as pl

    kept = ticks if not symbols else ticks.filter(pl.col("symbol").is_in(symbols))
    kept = kept if day is None else kept.filter(pl.col("event_time").dt.date() == day)
    if kept.is_empty():
        first, last = ticks["event_time"].min(), ticks["event_time"].max()
        raise InvalidInputError(
            f"expected ticks of {', '.join(symbols) or 'any symbol'} on {day or 'any day'}, got only "
            f"ticks of {ticks['symbol'].n_unique()} symbols from {first} to {last}",
            remedy="set other --symbols or another --day",
        )
    return kept


def last_served(stores: Stores, symbols: Iterable[str]) -> dict[str, LastBar]:
    """Return symbol → newest bar served on the configured queues; symbols that were never served are absent."""
    queues = list(stores.endpoints.queue_urls)
    with stores.connect() as connection:
        rows = connection.execute(_LAST_BARS, (sorted(set(symbols)), queues)).fetchall()
    return {symbol: LastBar(bar_start, close) for symbol, bar_start, close in rows}


def late_symbols(ticks: "pl.DataFrame", served: Mapping[str, LastBar]) -> dict[datetime, list[str]]:
    """Return start of the newest served bar → symbols served up to it with ticks that are not newer."""
    import polars as pl

    begins = dict(ticks.group_by("symbol").agg(pl.col("event_time").min().dt.truncate("1m")).iter_rows())
    late: dict[datetime, list[str]] = {}
    for symbol, last in sorted(served.items()):
        if symbol in begins and begins[symbol] <= last.bar_start:
            late.setdefault(last.bar_start, []).append(symbol)
    return late


def prepare_feed(stores: Stores, ticks: "pl.DataFrame") -> dict[datetime, list[str]]:
    """Register the symbols of the ticks and their sessions; return the symbols with late ticks (``late_symbols``).

    Raises:
        NotFoundError: if a symbol is not registered and ``UNKNOWN_SYMBOLS`` is ``refuse``: its ticks would be refused.
    """
    symbols = ticks["symbol"].unique()
    require_registered(stores, symbols)
    first, last = span(ticks["event_time"].dt.date())
    register(stores, symbols, source="feed", first=first, last=last)
    return late_symbols(ticks, last_served(stores, symbols))


def send_ticks(
    ticks: "pl.DataFrame",
    queues: Sequence[QueueClient],
    *,
    speed: float | None,
    clock: Clock,
    feed_id: str = "",
    advanced: Callable[[int], None] = lambda _sent: None,
) -> int:
    """Send ticks in order of event time and return the number of sent ticks.

    Args:
        ticks: ``TICK_SCHEMA``.
        queues: all input queues, in the order of SQS_QUEUE_URL.
        speed: market seconds per second; None sends without pauses.
        clock: clock that paces the replay.
        feed_id: part of every deduplication id. Ticks repeated with the same id are recognised as duplicates, by SQS
            for five minutes and by the ledger within its retention.
        advanced: progress callback, called with the number of ticks sent so far.
    """
    by_url = {queue.queue_url: queue for queue in queues}
    waiting: dict[str, list[SendEntry]] = {url: [] for url in by_url}
    ordered = ticks.sort("event_time", "symbol", maintain_order=True)
    sent, pace = 0, _Pace(speed, clock)
    for tick, entry in _entries(ordered, feed_id):
        url = queue_for_symbol(tick.symbol, list(by_url))
        if pace.is_due(tick.event_time):
            sent += _flush(by_url, waiting)
            advanced(sent)
            pace.wait(tick.event_time)
        waiting[url].append(entry)
        if len(waiting[url]) == BATCH_SIZE:
            sent += len(by_url[url].send(waiting[url]))
            waiting[url] = []
            advanced(sent)
    sent += _flush(by_url, waiting)
    advanced(sent)
    return sent


def _flush(queues: dict[str, QueueClient], waiting: dict[str, list[SendEntry]]) -> int:
    sent = sum(len(queues[url].send(entries)) for url, entries in waiting.items() if entries)
    for entries in waiting.values():
        entries.clear()
    return sent


def _entries(ticks: "pl.DataFrame", feed_id: str) -> Iterator[tuple[Tick, SendEntry]]:
    """Yield messages in the producer's format; a counter makes the deduplication ids of equal trades distinct."""
    import polars as pl

    repeats: Counter[str] = Counter()
    columns = ("symbol", "price", "volume", "event_time", "change", "change_percent")
    for row in ticks.select(columns).with_columns(pl.col("event_time").dt.timestamp("us")).iter_rows():
        tick = Tick(*row)
        body = encode_tick(tick)
        repeats[body] += 1
        yield tick, SendEntry(body, tick.symbol, sha256_text(f"{feed_id}\n{body}\n{repeats[body]}"))


class _Pace:
    """Maps event time to wall-clock time, starting at the first tick."""

    def __init__(self, speed: float | None, clock: Clock) -> None:
        self._speed, self._clock = speed, clock
        self._began: tuple[int, int] | None = None

    def is_due(self, event_time: int) -> bool:
        """Return whether the replay must wait before it sends this tick."""
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
