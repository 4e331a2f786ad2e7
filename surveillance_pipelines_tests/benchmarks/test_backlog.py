"""Planned messages and the check of their conservation: every kind of loss and repetition is counted."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks.backlog import summary
from benchmarks.conservation import DeadLetterRow, ReceivedRow, Stored, received_row, violations
from benchmarks.drain_processes import wait_for
from benchmarks.p13_parallel_queues import summary as parallel_summary
from benchmarks.queue_drains import SYMBOLS_PER_QUEUE, Drain, symbols_by_queue
from benchmarks.waiting_messages import (
    BAD_SHARE,
    CALL_BYTES,
    CALL_ENTRIES,
    LATE_SHARE,
    MALFORMATIONS,
    Planned,
    calls,
    plan_backlog,
)
from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.market import Refusal, Tick
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.market.messages import REFUSAL_CODES, read_tick
from surveillance_pipelines.transports.queue_routing import queue_for_symbol

SYMBOLS = tuple(f"SIM{number}" for number in range(20))
END_US = 1_709_650_800 * MICROSECONDS
COUNT = 2_000


@pytest.fixture(scope="module")
def planned() -> list[Planned]:
    return plan_backlog(COUNT, SYMBOLS, end_us=END_US, name="test", seed=1)


def test_plan_has_the_shares_and_every_code_of_refusal(planned):
    dead = [message.code for message in planned if message.outcome == "dead"]
    assert len(dead) == BAD_SHARE * COUNT
    assert set(dead) == set(MALFORMATIONS) == {*REFUSAL_CODES, "unknown_symbol"}
    assert 0 < sum(message.outcome == "late" for message in planned) <= LATE_SHARE * COUNT
    assert len({message.entry.dedup_id for message in planned}) == COUNT


def test_decoder_agrees_with_the_plan(planned):
    for message in planned:
        read = read_tick(message.entry.body, sent_at=END_US, instruments=SYMBOLS)
        assert (read.code if isinstance(read, Refusal) else None) == message.code


def test_late_ticks_are_of_a_closed_minute_and_scored_ones_are_not(planned):
    newest: dict[str, int] = {}
    for message in planned:
        tick = read_tick(message.entry.body, sent_at=END_US, instruments=SYMBOLS)
        if isinstance(tick, Tick):
            minute = tick.event_time // MINUTE_US
            assert (minute < newest.get(tick.symbol, minute)) == (message.outcome == "late")
            newest[tick.symbol] = max(minute, newest.get(tick.symbol, minute))


def test_calls_keep_the_order_and_the_limits_of_sqs(planned):
    split = list(calls(planned))
    assert [message for call in split for message in call] == planned
    assert max(len(call) for call in split) == CALL_ENTRIES
    sizes = [sum(len(message.entry.body) for message in call) for call in split]
    assert max(sizes) <= CALL_BYTES
    assert all(len(one) == CALL_ENTRIES or size + len(two[0].entry.body) > CALL_BYTES
               for (one, two), size in zip(pairwise(split), sizes, strict=False))  # fmt: skip


def test_symbols_follow_the_rule_of_the_producer_contract():
    urls = [f"queue-{number}.fifo" for number in range(3)]
    groups = symbols_by_queue(urls)
    assert {len(group) for group in groups.values()} == {SYMBOLS_PER_QUEUE}
    assert all(queue_for_symbol(symbol, urls) == url for url, group in groups.items() for symbol in group)


World = tuple[dict[str, Planned], Stored, list[ReceivedRow]]


@pytest.fixture
def world(planned) -> World:
    """What a faultless lane stores and publishes for the first messages."""
    sent = {f"m{number}": message for number, message in enumerate(planned[:400])}
    dead = [
        DeadLetterRow(id_, str(one.code), "expected …", hashlib.md5(one.entry.body.encode()).hexdigest())
        for id_, one in sent.items()
        if one.outcome == "dead"
    ]
    rows = [score(f"s{id_}", *one.bar, answers=id_) for id_, one in sent.items() if one.bar]
    bars = dict.fromkeys(one.bar for one in sent.values() if one.bar)
    rows += [score(f"b{symbol}{start}", symbol, start) for symbol, start in bars]
    ledger = [(id_, one.outcome) for id_, one in sent.items()]
    return sent, Stored(ledger, dead, [(row.id, row.group) for row in rows]), rows


def score(id_: str, symbol: str, bar_start: str, answers: str | None = None) -> ReceivedRow:
    return ReceivedRow(id_, symbol, answers, answers is None, symbol, bar_start, 0, 0, 0)


def found(sent: dict[str, Planned], stored: Stored, rows: list[ReceivedRow]) -> dict[str, int]:
    return {name: number for name, number in violations(sent, stored, rows).items() if number}


def test_faultless_lane_violates_nothing(world):
    assert found(*world) == {}


def test_lost_repeated_and_invented_messages_are_counted(world):
    sent, stored, rows = world
    first, *rest = stored.ledger
    assert found(sent, replace(stored, ledger=rest), rows) == {"messages_lost": 1}
    assert found(sent, replace(stored, ledger=[*stored.ledger, first]), rows) == {"messages_with_two_outcomes": 1}
    invented = replace(stored, ledger=[*stored.ledger, ("other", "dead")])
    assert found(sent, invented, rows) == {"messages_invented": 1}
    changed = replace(stored, ledger=[(first[0], "duplicate"), *rest])
    assert found(sent, changed, rows) == {"messages_with_another_outcome": 1}


def test_lost_and_changed_dead_letters_are_counted(world):
    sent, stored, rows = world
    first, *rest = stored.dead_letters
    cases = {
        "dead_letters_lost": rest,
        "dead_letters_invented": [*stored.dead_letters, first._replace(message_id="other")],
        "dead_letters_with_another_reason": [first._replace(reason=""), *rest],
        "dead_letters_with_another_body": [first._replace(body_md5="0"), *rest],
    }
    for name, dead_letters in cases.items():
        assert found(sent, replace(stored, dead_letters=dead_letters), rows) == {name: 1}


def test_lost_repeated_and_reordered_rows_are_counted(world):
    sent, stored, rows = world
    closed = next(row for row in rows if row.closes)
    without = [row for row in rows if row is not closed]
    assert found(sent, stored, rows[1:]) == {"scores_lost": 1, "rows_never_arrived": 1}
    assert found(sent, stored, without) == {"closed_bars_lost": 1, "rows_never_arrived": 1}
    assert found(sent, stored, [*rows, closed]) == {"closed_bars_repeated": 1, "rows_repeated": 1}
    again = rows[0]._replace(id="again")
    assert found(sent, stored, [*rows, again]) == {"scores_repeated": 1, "rows_invented": 1}
    assert found(sent, stored, rows[::-1])["symbols_out_of_order"] == len(SYMBOLS)


def test_row_of_an_output_message_is_read():
    message = {
        "type": "score", "id": "r", "bar_status": "provisional", "correlation_id": "m1", "symbol": "SIM0",
        "bar_start": "2024-03-05T15:00:00.000000Z", "t_committed": "1970-01-01T00:00:01.000000Z",
        "t_published": "1970-01-01T00:00:02.500000Z",
    }  # fmt: skip
    row = received_row(json.dumps(message), "SIM0", 9)
    assert (row.answers, row.closes, row.t_committed, row.t_published, row.received_at) == (
        "m1", False, MICROSECONDS, 2_500_000, 9,
    )  # fmt: skip
    closed = received_row(json.dumps(message | {"bar_status": "final", "correlation_id": None}), "SIM0", 9)
    assert (closed.answers, closed.closes) == (None, True)


def drain(cpu_ms: float, *, seconds: float = 10.0, queues: int = 1, **wrong: int) -> Drain:
    return Drain(
        queues=queues, sent=1_000 * queues, outcomes={"scored": 1_000 * queues, "dead": 0}, dead_letters={}, rows=1,
        runs=queues, seconds=seconds, cpu_ms=cpu_ms, violations={"messages_lost": 0} | wrong,
    )  # fmt: skip


def test_backlog_is_met_only_without_violations_and_within_the_ratio():
    def met(deep: Drain) -> bool:
        return summary({"shallow": drain(1.0), "deep": deep, "ten": drain(1.2)})["met"]

    assert met(drain(1.2))
    assert not met(drain(1.3))
    assert not met(drain(1.2, messages_lost=1))
    assert not met(replace(drain(1.2), sent=1_001)), "the outcomes do not add up"


def test_parallel_queues_are_judged_by_the_worst_round_and_by_throughput_on_many_cores():
    def rounds(cpu: float, seconds: float) -> list[dict[int, Drain]]:
        usual = {1: drain(1.0), 2: drain(1.05, queues=2), 4: drain(1.05, queues=4)}
        return [usual] * 6 + [usual | {2: drain(cpu, seconds=seconds, queues=2)}]

    loops = [{1: 2.0, 2: 2.0, 4: 2.2}] * 6 + [{1: 2.0, 2: 2.6, 4: 2.4}]
    assert parallel_summary(rounds(1.1, 10.0), loops, cores=8)["met"]
    assert not parallel_summary(rounds(1.11, 10.0), loops, cores=8)["met"]
    assert not parallel_summary(rounds(1.0, 12.0), loops, cores=8)["met"]
    shown = parallel_summary(rounds(1.0, 12.0), loops, cores=2)
    assert shown["met"]
    assert any("shares nothing" in line and "2: 1.00× (1.00 to 1.30); 4: 1.10×" in line for line in shown["found"])


def test_wait_ends_when_the_count_is_reached_and_gives_up_without_progress(monkeypatch):
    counts = iter([0, 1, 3])
    assert wait_for(lambda: next(counts), 3, what="messages")
    monkeypatch.setattr("benchmarks.drain_processes.LONGEST_WAIT", 0.05)
    assert not wait_for(lambda: 2, 3, what="messages")
