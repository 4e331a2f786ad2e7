"""Refused messages on their way back: over a real queue, a real ledger and real drain runs."""

import json
from typing import Any

import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.contracts.errors import InvalidInputError, NotFoundError
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.services.dead_letters import (
    UNREADABLE_GROUP,
    dedup_id,
    find_letters,
    judge,
    replays_of,
    send,
)
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.transports.queue_routing import queue_for_symbol
from surveillance_pipelines.transports.sqs import QueueError
from surveillance_pipelines_tests.engine.market import ticks
from surveillance_pipelines_tests.live_lane_fixtures import LiveLane

GOOD = encode_tick(ticks(1, symbols=("AAPL",))[0])


def refused(live_lane: LiveLane, *bodies: str, group: str = "AAPL") -> list[str]:
    """Have a drain run refuse messages; return their ids in the order sent."""
    live_lane.inputs.send([SendEntry(body, group, f"broken-{number}") for number, body in enumerate(bodies)])
    live_lane.drain(window_seconds=3)
    return live_lane.column("SELECT message_id FROM ops.inbox ORDER BY position")


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(GOOD) | fields)


def replay(live_lane: LiveLane, *ids: str, code: str | None = None, **options: Any) -> tuple[list[Any], dict[str, str]]:
    with live_lane.connect() as connection:
        letters = find_letters(connection, ids, code=code)
        verdicts = judge(connection, letters, live_lane.settings, live_lane.endpoints.queue_urls, **options)
        return verdicts, send(connection, verdicts, lambda _: live_lane.inputs)


def outcome_of(live_lane: LiveLane, letter: str) -> list[str]:
    with live_lane.connect() as connection:
        return [found.summary for found in replays_of(connection, [letter])[letter]]


def test_repaired_letter_is_scored_once_however_often_the_command_is_repeated(live_lane: LiveLane):
    (letter,) = refused(live_lane, changed(symbol="aapl"))
    (verdict,), sent = replay(live_lane, letter, body=GOOD)
    assert (verdict.action, verdict.group_id, verdict.queue_url) == ("send", "AAPL", live_lane.queue_url)
    assert outcome_of(live_lane, letter) == [f"no outcome yet as {sent[letter]}"]
    (again,), nothing = replay(live_lane, letter, body=GOOD)
    assert (again.action, nothing) == ("known", {})
    live_lane.drain(window_seconds=3)
    assert live_lane.outcomes() == {"dead": 1, "scored": 1}
    assert outcome_of(live_lane, letter) == [f"scored as {sent[letter]}"]
    marked = live_lane.query("SELECT replayed_as, replayed_at > received_at FROM ops.dead_letters")
    assert marked == [(sent[letter], True)]
    assert live_lane.query("SELECT group_id, dedup_id, body FROM ops.inbox WHERE message_id = %s", sent[letter]) == [
        ("AAPL", dedup_id(letter, GOOD), GOOD)
    ]


def test_letter_that_would_be_refused_again_is_not_sent_unless_by_force(live_lane: LiveLane):
    (letter,) = refused(live_lane, "not json")
    (verdict,), sent = replay(live_lane, letter)
    assert (verdict.action, sent) == ("refused", {})
    assert verdict.summary.startswith("not_json: expected one JSON object")
    (verdict,), sent = replay(live_lane, letter, force=True)
    assert verdict.group_id == UNREADABLE_GROUP
    live_lane.drain(window_seconds=3)
    assert live_lane.outcomes() == {"dead": 2}
    (said,) = outcome_of(live_lane, letter)
    assert said == f"dead (not_json) as {sent[letter]}"
    (verdict,), _ = replay(live_lane, letter, force=True)
    assert verdict.summary.endswith(f"it was refused again: replay {sent[letter]}")


def test_unknown_symbol_goes_back_as_it_is_once_the_instrument_is_known(live_lane: LiveLane):
    letters = refused(live_lane, *(changed(symbol="NEW", price=100.0 + number) for number in range(12)), "not json")
    verdicts, sent = replay(live_lane, code="unknown_symbol")
    assert [verdict.action for verdict in verdicts] == ["refused"] * 12
    live_lane.query(
        "INSERT INTO surveillance.instruments (symbol, calendar, added_at, source) "
        "VALUES ('NEW', 'XNYS', now(), 'test') RETURNING 1"
    )
    verdicts, sent = replay(live_lane, code="unknown_symbol")
    assert [verdict.letter.message_id for verdict in verdicts] == letters[:12]
    assert list(sent) == letters[:12]
    live_lane.drain(window_seconds=3)
    assert live_lane.outcomes() == {"dead": 13, "scored": 12}
    prices = live_lane.column("SELECT body::jsonb->>'price' FROM ops.inbox WHERE symbol = 'NEW' ORDER BY position")
    assert [float(price) for price in prices] == [100.0 + number for number in range(12)]
    assert replay(live_lane, code="unknown_symbol") == ([], {})


def test_replay_that_sqs_refuses_is_sent_by_the_next_try(live_lane: LiveLane):
    (letter,) = refused(live_lane, changed(price="150 USD"))

    class Refusing:
        def send(self, entries: list[SendEntry]) -> list[str]:
            raise QueueError("send", "q", {0: "InternalError"}, len(entries))

    with live_lane.connect() as connection:
        letters = find_letters(connection, [letter])
        verdicts = judge(connection, letters, live_lane.settings, live_lane.endpoints.queue_urls, body=GOOD)
        with pytest.raises(QueueError):
            send(connection, verdicts, lambda _: Refusing())  # pyright: ignore[reportArgumentType]
    assert outcome_of(live_lane, letter) == ["not known to be sent"]
    assert live_lane.column("SELECT replayed_at FROM ops.dead_letters") == [None]
    _, sent = replay(live_lane, letter, body=GOOD)
    assert list(sent) == [letter]
    live_lane.drain(window_seconds=3)
    assert outcome_of(live_lane, letter) == [f"scored as {sent[letter]}"]


def test_replay_sent_twice_after_a_crash_has_one_effect(live_lane: LiveLane):
    (letter,) = refused(live_lane, changed(volume=-1))
    for round_ in range(2):
        replay(live_lane, letter, body=GOOD)
        live_lane.drain(window_seconds=3)
        if round_ == 0:  # as if the process had ended between sending and marking
            live_lane.query("UPDATE ops.dead_letter_replays SET replayed_as = NULL RETURNING 1")
    assert live_lane.outcomes()["scored"] == 1
    assert live_lane.outcomes().get("duplicate", 0) <= 1
    assert len(outcome_of(live_lane, letter)) == 1


def test_repaired_symbol_goes_to_the_queue_of_that_symbol(live_lane: LiveLane):
    (letter,) = refused(live_lane, changed(symbol="spy"))
    urls = (live_lane.queue_url, "https://sqs.us-east-1.amazonaws.com/000000000000/second.fifo")
    for symbol in ("AAPL", "SPY", "MSFT"):
        with live_lane.connect() as connection:
            letters = find_letters(connection, [letter])
            (verdict,) = judge(connection, letters, live_lane.settings, urls, body=changed(symbol=symbol))
        assert verdict.queue_url == queue_for_symbol(symbol, urls)
        assert verdict.summary.endswith("to the queue of that symbol") == (verdict.queue_url != live_lane.queue_url)


def test_symbol_that_the_serving_run_does_not_know_waits_for_the_next_run(live_lane: LiveLane):
    (letter,) = refused(live_lane, changed(symbol="NFLX"), group="NFLX")
    runs = live_lane.column("SELECT run_id FROM ops.scoring_runs")
    live_lane.query("UPDATE ops.leases SET expires_at = now() + interval '1 hour' RETURNING 1")  # as if it still served
    with live_lane.connect() as connection:
        register_instruments(connection, ["NFLX"], "XNYS", "test")
    (verdict,), sent = replay(live_lane, letter)
    assert (len(runs), verdict.action, sent) == (1, "refused", {})
    assert verdict.summary.startswith("the run that serves now started before NFLX was registered")
    live_lane.query("UPDATE ops.leases SET expires_at = now() RETURNING 1")
    (verdict,), sent = replay(live_lane, letter)
    assert (verdict.action, list(sent)) == ("send", [letter])


def test_row_of_a_file_is_sent_nowhere_and_says_what_to_do(live_lane: LiveLane):
    live_lane.query(
        "INSERT INTO ops.dead_letters (message_id, source, body, code, reason, received_at) "
        "VALUES ('row-of-a-file', 'file', '{}', 'missing_value', 'line 3', now()) RETURNING 1"
    )
    (verdict,), sent = replay(live_lane, "row-of-")
    assert (verdict.action, sent) == ("elsewhere", {})
    assert "`surveillance ingest` the file again" in verdict.summary


@pytest.mark.parametrize("wanted", ["same", "same-prefix-", "absent"])
def test_find_letters_of_no_or_several_letters_is_refused(live_lane: LiveLane, wanted: str):
    for number in range(2):
        live_lane.query(
            "INSERT INTO ops.dead_letters (message_id, body, code, reason, received_at) "
            "VALUES (%s, '{', 'not_json', '', now()) RETURNING 1",
            f"same-prefix-{number}",
        )
    with live_lane.connect() as connection:
        with pytest.raises(NotFoundError, match="expected the id of a dead letter"):
            find_letters(connection, [wanted])
        assert len(find_letters(connection, ["same-prefix-1"])) == 1
        with pytest.raises(InvalidInputError, match="one by one"):
            judge(
                connection,
                find_letters(connection, ["same-prefix-0", "same-prefix-1"]),
                live_lane.settings,
                ("q",),
                body="{}",
            )


def test_timestamp_from_the_future_is_judged_by_the_clock_of_now(live_lane: LiveLane):
    soon = Tick("AAPL", 100.0, 1.0, SYSTEM_CLOCK.now_us() + 400_000_000)
    (letter,) = refused(live_lane, encode_tick(soon))
    (verdict,), _ = replay(live_lane, letter)
    assert verdict.summary.startswith("future_timestamp")
