"""Everything that a producer or SQS can get wrong, through the shell, PostgreSQL and a real queue: nothing is lost.

Which messages end as dead or duplicate is foreseen here, message by message, without the engine.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.market import Refusal, Tick
from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.contracts.text import storable
from surveillance_pipelines.market.messages import (
    MAX_BODY_CHARACTERS,
    REFUSAL_CODES,
    decode_tick,
    encode_tick,
    read_tick,
)
from surveillance_pipelines.runtime.shell import Shell
from surveillance_pipelines_tests.engine.market import SYMBOLS, received, ticks
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine
from surveillance_pipelines_tests.live_lane_fixtures import LiveLane
from surveillance_pipelines_tests.market.test_messages import JSON_VALUES, MALFORMED
from surveillance_pipelines_tests.runtime.test_shell import ListQueue, Wire, drive, make_shell

MakeShell = Callable[..., Shell]
Foreseen = dict[str, tuple[str, str | None]]
"""MessageId → how it ends (``accepted`` for scored or late), and the code of a dead one."""

_shell_of_a_test = make_shell  # pytest finds a fixture by its name in the module
TICKS = ticks(12)
LITERALS = (
    "NaN", "-Infinity", "1e999", "9" * 400, "9" * 5_000, "0", "-1", "1e13", "true", "null", '"150.25"', "[1]", "{}",
    '"aapl"', '"NOPE"', '"\\ud800"', '"2024-03-05"', '"9999-12-31T23:59:59Z"', '"1969-12-31T23:59:59Z"',
    "[" * 70 + "]" * 70,
)  # fmt: skip
EMPTIED = (
    "ops.inbox, ops.ledger, ops.outbox, ops.dead_letters, ops.live_bars, ops.clock_rows, ops.feature_state, "
    "ops.leases, ops.in_flight, ops.lane_seeds, surveillance.anomalies, surveillance.signals, surveillance.predictions"
)


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """Return a message near a good one, or far from one."""
    good = encode_tick(draw(st.sampled_from(TICKS)))
    kind = draw(st.sampled_from(("good", "good", "literal", "value", "cut", "doubled", "list", "text", "huge")))
    field = draw(st.sampled_from(("symbol", "price", "volume", "timestamp", "change", "venue")))
    if kind == "literal":
        return json.dumps(json.loads(good) | {field: "@"}).replace('"@"', draw(st.sampled_from(LITERALS)))
    if kind == "value":
        return json.dumps(json.loads(good) | {field: draw(JSON_VALUES)})
    changed = {
        "cut": good[: draw(st.integers(0, len(good) - 1))],
        "doubled": f'{good[:-1]},"price":1}}',
        "list": draw(st.sampled_from(("[]", "null", "150.25", '"AAPL"', f"[{good}]"))),
        "text": draw(st.text()) if kind == "text" else "",
        "huge": good[:-1] + f',"venue":"{"x" * draw(st.sampled_from((MAX_BODY_CHARACTERS, 200_000)))}"}}',
    }
    return changed.get(kind, good)


@st.composite
def streams(draw: st.DrawFn) -> list[Received]:
    """Return messages in the order of delivery: reordered, late, with dedup ids used twice, and delivered again."""
    messages = [received(draw(bodies()), number) for number in range(draw(st.integers(1, 40)))]
    messages = draw(st.permutations(messages)) if draw(st.booleans()) else messages
    delivered: list[Received] = []
    for message in messages:
        again = draw(st.sampled_from(("new", "new", "new", "dedup", "redelivered")))
        earlier = draw(st.sampled_from(delivered)) if delivered else message
        delivered.append(replace(message, dedup_id=earlier.dedup_id) if again == "dedup" else message)
        if again == "redelivered":
            delivered.append(replace(earlier, receive_count=2, receipt_handle=f"again-{len(delivered)}"))
    return delivered


def foreseen(delivered: Sequence[Received]) -> Foreseen:
    """Say how each message ends, by the rules of docs/live-lane.md."""
    ends: Foreseen = {}
    taken: dict[str | None, str] = {}
    for message in delivered:
        if message.message_id in ends:
            continue
        answer = read_tick(message.body, sent_at=message.sent_at, instruments=SYMBOLS)
        if message.dedup_id in taken:
            same = is_repetition(taken[message.dedup_id], message.body)
            ends[message.message_id] = ("duplicate", None) if same else ("dead", "conflict")
            continue
        taken[message.dedup_id] = message.body
        ends[message.message_id] = ("dead", answer.code) if isinstance(answer, Refusal) else ("accepted", None)
    return ends


def is_repetition(first: str, body: str) -> bool:
    """Return whether two bodies are equal or have the same tick."""
    ticks = [decode_tick(each, sent_at=None) for each in (first, body)]
    return first == body or (ticks[0] == ticks[1] and isinstance(ticks[0], Tick))


def check_books(live_lane: LiveLane, ends: Foreseen, bodies_of: dict[str, str]) -> Counter[str]:
    """Compare inbox, ledger and dead letters with what was foreseen; return the outcomes."""
    ledger = dict(live_lane.query("SELECT message_id, outcome FROM ops.ledger"))
    assert {id_: "accepted" if end in ("scored", "late") else end for id_, end in ledger.items()} == {
        id_: end for id_, (end, _) in ends.items()
    }
    assert sorted(live_lane.column("SELECT message_id FROM ops.inbox")) == sorted(ends)
    letters = live_lane.query("SELECT message_id, code, body, reason FROM ops.dead_letters")
    assert {id_: code for id_, code, _, _ in letters} == {id_: code for id_, (_, code) in ends.items() if code}
    for id_, _, body, reason in letters:
        assert body == storable(bodies_of[id_])
        assert reason.startswith("expected ")
    return Counter(ledger.values())


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(delivered=streams())
def test_any_stream_ends_in_the_books_as_foreseen(
    live_lane: LiveLane, make_shell: MakeShell, delivered: list[Received]
):
    with live_lane.connect() as connection:
        connection.execute(f"TRUNCATE {EMPTIED} CASCADE".encode())
    inputs, wire = ListQueue(delivered), Wire()
    drive(make_shell(inputs, wire), inputs)
    bodies_of = {message.message_id: message.body for message in reversed(delivered)}
    outcomes = check_books(live_lane, foreseen(delivered), bodies_of)
    assert outcomes.total() == len(bodies_of)
    whole = feed(make_engine(), [delivered])
    assert outcomes == Counter(row.outcome for row in whole.outcomes)
    assert len(wire.sent) == len(set(wire.sent))


def rowdy_market() -> list[tuple[str, str, str]]:
    """Return bodies, groups and dedup ids: a market with every fault between its ticks, in the order of sending."""
    good = [encode_tick(tick) for tick in TICKS]
    faults = [body for name, body, _ in MALFORMED if name not in ("null byte", "utf-16 read as latin-1")]
    faults += [
        json.dumps(json.loads(good[0]) | {"symbol": "NOPE"}),
        '{"symbol":"AAPL","price":NaN}',
        "[" * 16_000,
        "x" * 100_000,
    ]
    faults = [body for body in faults if 0 < len(body) < 200_000]  # SQS itself refuses the others
    sent = [(body, json.loads(body)["symbol"], f"d{number}") for number, body in enumerate(good)]
    for number, body in enumerate(faults):
        sent.insert((7 * number) % len(sent), (body, "faults", f"f{number}"))
    sent += [(body, "SPY", f"late-{number}") for number, body in enumerate(good[:5])]
    return [sent[1], sent[0], *sent[2:]]


@pytest.mark.requirement("ING-07")
def test_rowdy_market_through_a_real_queue_loses_nothing_and_scores_the_rest(live_lane: LiveLane):
    sent = rowdy_market()
    ids: list[str] = []
    for body, group, dedup_id in sent:
        ids += live_lane.inputs.send([SendEntry(body, group, dedup_id)])
    report = live_lane.drain()
    now_us = received(TICKS[0], 0).received_at + 10**9 * MICROSECONDS
    ends: Foreseen = {}
    for id_, (body, _, _) in zip(ids, sent, strict=True):
        answer = read_tick(body, sent_at=now_us, instruments=SYMBOLS)
        ends[id_] = ("dead", answer.code) if isinstance(answer, Refusal) else ("accepted", None)
    outcomes = check_books(live_lane, ends, dict(zip(ids, (body for body, _, _ in sent), strict=True)))
    assert report.totals["messages"] == outcomes.total() + report.totals.get("redelivered", 0)
    assert outcomes["scored"] + outcomes["late"] >= len(TICKS) + 5
    codes = {code for _, code in ends.values() if code}
    assert codes == {*REFUSAL_CODES, "unknown_symbol"}
    assert live_lane.inputs.depth().total == 0
