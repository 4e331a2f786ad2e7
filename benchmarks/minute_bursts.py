"""Measures of a live load: the closed bars at the end of each minute, and the latency of messages."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.conservation import ReceivedRow
from surveillance_pipelines.clock import MICROSECONDS, to_iso
from surveillance_pipelines.engine.bar_builder import MINUTE_US

COLD_MINUTES: Final = 1
"""Minutes in which each symbol has its first tick; not part of the steady state."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Burst:
    """The bars of one minute. Times are in seconds after its end.

    Attributes:
        bars: number of bars.
        largest_commit: bars of the largest transaction.
        last_committed: commit of the last bar.
        last_published: publication of the last bar's final row.
        last_received: its receipt by the consumer.
        published: publication of each bar's final row, ascending.
    """

    bars: int
    largest_commit: int
    last_committed: float
    last_published: float
    last_received: float
    published: list[float]


@dataclass(frozen=True, slots=True)
class Latencies:
    """The latency of each message in seconds.

    Attributes:
        sent: SentTimestamp, relative to the first tick.
        received: from SentTimestamp to the receipt of the message's score.
        published: from SentTimestamp to its publication.
        is_burst: whether the message was sent after a minute's end, before the last final row of it was received.
    """

    sent: Floats
    received: Floats
    published: Floats
    is_burst: npt.NDArray[np.bool_]

    @property
    def is_cold(self) -> npt.NDArray[np.bool_]:
        """Whether a message was sent in the cold minutes."""
        return self.sent < 60.0 * COLD_MINUTES

    @property
    def is_steady(self) -> npt.NDArray[np.bool_]:
        """Whether a message was sent after the cold minutes and outside the bursts."""
        return ~self.is_cold & ~self.is_burst


def bursts(rows: Sequence[ReceivedRow], begin_us: int, minutes: int) -> list[Burst]:
    """Return the burst of each minute.

    Args:
        rows: of the output queue.
        begin_us: beginning of the first minute.
        minutes: number of minutes.

    Raises:
        ValueError: if a minute has no closed bar.
    """
    return [_burst(rows, begin_us + number * MINUTE_US) for number in range(minutes)]


def _burst(rows: Sequence[ReceivedRow], start_us: int) -> Burst:
    name, end = to_iso(start_us), start_us + MINUTE_US
    closed = [row for row in rows if row.closes and row.bar_start == name]
    if not closed:
        raise ValueError(f"expected closed bars of the minute {name}, got none")
    published = sorted((row.t_published - end) / MICROSECONDS for row in closed)
    return Burst(
        bars=len(closed),
        largest_commit=max(Counter(row.t_committed for row in closed).values()),
        last_committed=(max(row.t_committed for row in closed) - end) / MICROSECONDS,
        last_published=published[-1],
        last_received=(max(row.received_at for row in closed) - end) / MICROSECONDS,
        published=published,
    )


def latencies(
    rows: Sequence[ReceivedRow], sent_at: Mapping[str, int], begin_us: int, found: Sequence[Burst]
) -> Latencies:
    """Return the latency of all messages.

    Args:
        rows: of the output queue.
        sent_at: message id → SentTimestamp in microseconds.
        begin_us: beginning of the first minute.
        found: bursts of all minutes.

    Raises:
        ValueError: if a message has no score.
    """
    answers = {row.answers: row for row in rows}
    if missing := len(sent_at.keys() - answers.keys()):
        raise ValueError(f"expected a score of each of {len(sent_at):,} messages, {missing:,} have none")
    sent = np.array([(at - begin_us) / MICROSECONDS for at in sent_at.values()])
    is_burst = np.zeros(len(sent), bool)
    for number, burst in enumerate(found, start=1):
        is_burst |= (sent >= 60.0 * number) & (sent <= 60.0 * number + burst.last_received)
    return Latencies(
        sent=sent,
        received=np.array([(answers[id_].received_at - at) / MICROSECONDS for id_, at in sent_at.items()]),
        published=np.array([(answers[id_].t_published - at) / MICROSECONDS for id_, at in sent_at.items()]),
        is_burst=is_burst,
    )


def percentiles_ms(seconds: Floats) -> dict[str, float]:
    """Return count, median, 99th percentile and maximum in milliseconds; no percentile of nothing."""
    if len(seconds) == 0:
        return {"n": 0}
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return {"n": len(seconds), "p50": float(p50), "p99": float(p99), "max": float(seconds.max()) * 1e3}
