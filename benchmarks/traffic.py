"""Open-loop traffic: a producer with a fixed rate, a consumer of the output queue, and the latencies between them."""

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.transports.sqs import QueueClient

PATIENCE_SECONDS: Final = 300.0
"""Time limit without a result; even the anchor's run takes only a few seconds on a busy machine."""

LEAD_US: Final = MICROSECONDS // 2
"""Time between the creation of ticks and the first one's due time, because their creation takes time."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A result received from the output queue: time of receipt and row."""

    at: int
    row: Mapping[str, Any]


def answered_id(row: Mapping[str, Any]) -> str | None:
    """Return the id of the input message whose score a message contains; None for alerts and closed bars."""
    is_answer = row.get("type") == "score" and row.get("bar_status") == "provisional"
    return row["correlation_id"] if is_answer else None


class Consumer:
    """Receives messages from an output queue by long polls in a thread, while the block runs."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue: Final = queue
        self._stop: Final = threading.Event()
        self._changed: Final = threading.Condition()
        self._receipts: Final[dict[str, Receipt]] = {}
        self._thread: Final = threading.Thread(target=self._consume, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(
        self, ids: Collection[str], check: Callable[[], None] = lambda: None, seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Receipt]:
        """Return the first result of each input.

        Args:
            ids: of the inputs.
            check: called every second; raises if there is no use in waiting.
            seconds: how long to wait while no answer comes.

        Raises:
            TimeoutError: if none has come for so long.
        """
        wanted, idle, before = set(ids), 0.0, -1
        with self._changed:
            while missing := wanted - self._receipts.keys():
                idle, before = (idle, before) if len(missing) == before else (0.0, len(missing))
                if idle >= seconds:
                    raise TimeoutError(
                        f"expected {len(wanted)} answers on {self._queue.queue_url}, {len(missing)} are missing"
                    )
                self._changed.wait(1.0)
                idle += 1.0
                check()
            return {id_: self._receipts[id_] for id_ in ids}

    def _consume(self) -> None:
        while not self._stop.is_set():
            batch = self._queue.receive(10, wait_seconds=1, visibility_seconds=30)
            if not batch:
                continue
            self._queue.delete([message.receipt_handle for message in batch])
            rows = [(message.received_at, json.loads(message.body)) for message in batch]
            with self._changed:
                for at, row in rows:
                    if (id_ := answered_id(row)) is not None:
                        self._receipts.setdefault(id_, Receipt(at, row))
                self._changed.notify_all()


def produce(
    queue: QueueClient, ticks: Sequence[Tick], name: str, *, per_call: int = 1, clock: Clock = SYSTEM_CLOCK
) -> list[str]:
    """Send each tick at its event time regardless of earlier results; return the message ids.

    Args:
        queue: where to.
        ticks: ascending.
        name: unique to these ticks, as SQS drops what it has seen in the last five minutes.
        per_call: so many go out together, at the time of the first.
        clock: the seam for time.
    """
    ids: list[str] = []
    for start in range(0, len(ticks), per_call):
        call = ticks[start : start + per_call]
        clock.sleep(max(0.0, (call[0].event_time - clock.now_us()) / MICROSECONDS))
        ids += queue.send(
            [SendEntry(encode_tick(tick), tick.symbol, f"{name}-{start + i}") for i, tick in enumerate(call)]
        )
    return ids


def latencies(sent_at: Mapping[str, int], receipts: Mapping[str, Receipt]) -> list[float]:
    """Return the seconds from SQS's SentTimestamp of each input to the receipt of its result.

    Args:
        sent_at: message id → microseconds since the epoch.
        receipts: by the same ids; more of them do not matter.

    Raises:
        ValueError: if an input has no answer: a figure that leaves the slowest out is none.
    """
    if missing := sent_at.keys() - receipts.keys():
        raise ValueError(f"expected an answer to each of {len(sent_at)} inputs, {len(missing)} have none")
    return [(receipts[id_].at - instant) / MICROSECONDS for id_, instant in sent_at.items()]


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds, as figures for the report."""
    return {f"{name}_p{percent}_ms": float(np.percentile(seconds, percent)) * 1e3 for percent in (50, 99)}
