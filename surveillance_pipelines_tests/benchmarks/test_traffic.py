"""The helpers of the benches over queues: pacing, matching answers to inputs, comparing answers."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.dagster_lane import equal_answers, first_ticks
from benchmarks.live_lane import random_ticks
from benchmarks.traffic import (
    LEAD_US,
    Consumer,
    Receipt,
    answered_id,
    latencies,
    percentiles,
    produce,
)
from surveillance_pipelines.clock import MICROSECONDS, ManualClock
from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.hashing import canonical_json


def row(correlation_id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "score", "bar_status": "provisional", "correlation_id": correlation_id, **fields}


class ScriptedQueue:
    """Hands out rows once, and keeps what is sent and when."""

    queue_url = "scripted.fifo"

    def __init__(self, clock: ManualClock | None = None, *rows: dict[str, Any]) -> None:
        self._clock = clock
        self._rows = list(rows)
        self.calls: list[tuple[int, list[SendEntry]]] = []

    def receive(self, max_messages: int, **_: int) -> list[Received]:
        batch, self._rows = self._rows[:max_messages], self._rows[max_messages:]
        time.sleep(0.0 if batch else 0.01)
        return [
            Received(str(i), canonical_json(r), "SIM0", None, "", 0, 100 + i, 1, str(i)) for i, r in enumerate(batch)
        ]

    def delete(self, receipts: list[str]) -> None: ...

    def send(self, entries: list[SendEntry]) -> list[str]:
        assert self._clock is not None
        self.calls.append((self._clock.now_us(), entries))
        self._clock.advance(0.03)  # a slow server
        return [str(entry.dedup_id) for entry in entries]


def test_only_the_score_of_a_bar_in_progress_answers_its_message():
    assert answered_id(row("a")) == "a"
    assert answered_id(row("a", bar_status="final")) is None, "the message that closes a bar has its own score as well"
    assert answered_id(row("a", type="anomaly")) is None


def test_latency_is_the_receipt_minus_sent_timestamp():
    receipts = {"a": Receipt(3 * MICROSECONDS, {}), "b": Receipt(5 * MICROSECONDS, {}), "other": Receipt(9, {})}
    assert latencies({"a": MICROSECONDS, "b": 4_500_000}, receipts) == [2.0, 0.5]


def test_input_without_an_answer_is_refused():
    with pytest.raises(ValueError, match="each of 2 inputs, 1 have none"):
        latencies({"a": 0, "b": 0}, {"a": Receipt(1, {})})


def test_percentiles_are_in_milliseconds():
    assert percentiles("x", [0.001, 0.002, 0.003]) == pytest.approx({"x_p50_ms": 2.0, "x_p99_ms": 2.98})


@pytest.mark.parametrize(("per_call", "calls"), [(1, 6), (4, 2)])
def test_producer_keeps_its_schedule_however_slow_the_queue_is(per_call: int, calls: int):
    clock = ManualClock(datetime(2024, 3, 5, 15, tzinfo=UTC))
    begin = clock.now_us() + LEAD_US
    ticks = random_ticks(6, begin_us=begin, step_us=100_000)
    queue: Any = ScriptedQueue(clock)
    ids = produce(queue, ticks, "round", per_call=per_call, clock=clock)
    assert ids == [f"round-{i}" for i in range(6)]
    assert [at for at, _ in queue.calls] == [ticks[i * per_call].event_time for i in range(calls)]
    assert [entry.group_id for _, entries in queue.calls for entry in entries] == [tick.symbol for tick in ticks]


def test_consumer_keeps_the_first_answer_to_each_message():
    queue: Any = ScriptedQueue(None, row("a", score=1.0), row("a", score=2.0), row("b", bar_status="final"), row("b"))
    with Consumer(queue) as consumer:
        found = consumer.wait_for(["b", "a"])
    assert list(found) == ["b", "a"]
    assert found["a"].row["score"] == 1.0
    assert found["b"].row["bar_status"] == "provisional"


def test_consumer_says_how_many_answers_are_missing():
    queue: Any = ScriptedQueue(None, row("a"))
    with Consumer(queue) as consumer, pytest.raises(TimeoutError, match=r"expected 2 answers on scripted\.fifo, 1 are"):
        consumer.wait_for(["a", "b"], seconds=1.0)


def test_answers_compare_by_what_was_computed():
    fields = dict.fromkeys(("symbol", "event_time", "input_hash", "bundle_hash", "config_hash", "kind"), "x")
    ours, theirs = Receipt(1, row("a", score=0.5, **fields)), Receipt(2, row("b", score=0.5, **fields))
    assert equal_answers([ours], [theirs]).passed
    other = equal_answers([ours], [Receipt(2, row("b", **fields, score=0.6))])
    assert not other.passed
    assert other.statement == "1 scores of the same messages are unlike in score"
    assert not equal_answers([], []).passed


def test_first_ticks_are_of_one_minute():
    assert len({tick.event_time // (60 * MICROSECONDS) for tick in first_ticks()}) == 1
