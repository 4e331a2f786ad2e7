"""The pure core: what it makes of messages and clock readings."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surveillance_pipelines.clock import DAY_US, MICROSECONDS
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.decisions import CERTAIN_SCORE, EARLIEST_ALERT
from surveillance_pipelines.engine.effects import ClockRow, Effects, Known
from surveillance_pipelines.engine.engine import Engine, EngineConfig, engine_config
from surveillance_pipelines.engine.event_clock import ClockReading
from surveillance_pipelines.engine.repeats import kept_content
from surveillance_pipelines.engine.scoring_rows import row_config
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.strategies.pacing import SignalGate, SignalPace
from surveillance_pipelines_tests.engine.market import (
    MINUTE,
    OPEN,
    SYMBOLS,
    merged,
    plain_settings,
    received,
    sessions,
    stream,
)


def make_config(**overrides) -> EngineConfig:
    config = engine_config(plain_settings(publish_scores="all"), WarmupRules(), run_id="run-1")
    return replace(config, **overrides)


def make_engine(**overrides) -> Engine:
    return Engine(make_config(**overrides), WarmupRules(), sessions(), SYMBOLS)


def feed(engine: Engine, batches: list[list[Received]], known: Known = Known()) -> Effects:  # noqa: B008 (frozen)
    parts, message_ids, dedup_ids = [], set(known.message_ids), dict(known.dedup_ids)
    for batch in batches:
        readings = engine.read(batch)
        for symbol in engine.symbols_to_seed(readings):
            engine.seed(symbol, Seed())
        parts.append(engine.process(readings, Known(frozenset(message_ids), dict(dedup_ids))))
        message_ids |= {message.message_id for message in batch}
        for message in batch:
            if message.dedup_id:
                dedup_ids.setdefault(message.dedup_id, kept_content(message.body))
    return merged(parts)


def tick(symbol: str, minute: int, second: float, price: float, volume: float = 10.0) -> Tick:
    return Tick(symbol, price, volume, OPEN + minute * MINUTE + round(second * MICROSECONDS))


def run(*ticks: Tick, **overrides) -> Effects:
    return feed(make_engine(**overrides), [[received(t, i) for i, t in enumerate(ticks)]])


def test_message_of_the_same_minute_updates_the_bar_in_progress():
    effects = run(tick("SPY", 0, 1, 10.0), tick("SPY", 0, 30, 12.0), tick("SPY", 1, 0, 11.0))
    (bar,) = effects.bars
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades) == (10.0, 12.0, 10.0, 12.0, 20.0, 2)
    assert (bar.bar_start, bar.revision, bar.bar_status, bar.source_message_id) == (OPEN, 0, "final", "m000001")


def test_every_message_is_scored_provisionally_and_a_closed_bar_again():
    effects = run(tick("SPY", 0, 1, 10.0), tick("SPY", 0, 30, 12.0), tick("SPY", 1, 0, 11.0))
    assert [row.bar_status for row in effects.scores] == ["provisional", "provisional", "final", "provisional"]
    assert [row.revision for row in effects.predictions] == [0]


def test_out_of_order_tick_within_its_minute_sets_the_open_not_the_close():
    effects = run(tick("SPY", 0, 30, 10.0), tick("SPY", 0, 5, 9.0), tick("SPY", 1, 0, 11.0))
    assert (effects.bars[0].open, effects.bars[0].close) == (9.0, 10.0)


def test_late_tick_makes_a_revision_and_leaves_revision_zero():
    effects = run(tick("SPY", 0, 1, 10.0), tick("SPY", 1, 0, 11.0), tick("SPY", 0, 59, 15.0), tick("SPY", 0, 2, 5.0))
    first, second, third = effects.bars
    assert (first.revision, first.close, first.low) == (0, 10.0, 10.0)
    assert (second.revision, second.close, second.bar_status) == (1, 15.0, "revised")
    assert (third.revision, third.low, third.close, third.trades) == (2, 5.0, 15.0, 3)
    assert [row.outcome for row in effects.outcomes] == ["scored", "scored", "late", "late"]
    assert len(effects.scores) == 3


def test_tick_older_than_every_bar_at_hand_is_late_without_a_bar():
    effects = run(tick("SPY", 30, 1, 10.0), tick("SPY", 31, 0, 11.0), tick("SPY", 0, 0, 11.0))
    assert [bar.revision for bar in effects.bars] == [0]
    assert effects.outcomes[-1].outcome == "late"


def test_bar_records_the_peers_return_it_was_scored_with():
    effects = run(
        tick("SPY", 0, 1, 10.0), tick("SPY", 1, 1, 11.0), tick("SPY", 2, 1, 11.0),
        tick("AAPL", 2, 1, 50.0), tick("AAPL", 3, 1, 50.0),
    )  # fmt: skip
    aapl = effects.bars[-1]
    assert aapl.symbol == "AAPL"
    assert (aapl.market_return, aapl.market_peers) == (pytest.approx(0.0953, abs=1e-4), 1)


def test_clock_reading_closes_bars_whose_grace_has_passed_and_is_recorded():
    engine = make_engine()
    batch = [received(tick("SPY", 0, 50, 10.0), 0), received(tick("AAPL", 0, 55, 10.0), 1)]
    feed(engine, [batch])
    spy, aapl = (message.sent_at for message in batch)
    assert engine.next_close() == aapl + 7 * MICROSECONDS
    assert engine.close_due(ClockReading(aapl + 6 * MICROSECONDS), OPEN).is_empty()
    effects = engine.close_due(ClockReading(spy + 12 * MICROSECONDS), OPEN)
    assert [bar.symbol for bar in effects.bars] == ["AAPL", "SPY"]
    assert effects.clock_rows == [ClockRow(spy + 12 * MICROSECONDS, OPEN, ("AAPL", "SPY"))]
    assert engine.next_close() is None


def test_clock_reading_closes_a_limited_number_of_bars_in_the_order_of_all():
    batch = [
        received(tick(symbol, minute, 50, 10.0), i)
        for i, (symbol, minute) in enumerate([("SPY", 0), ("AAPL", 1), ("MSFT", 0)])
    ]
    later, whole, parts = ClockReading(OPEN + 3 * DAY_US), make_engine(), make_engine()
    feed(whole, [batch])
    feed(parts, [batch])
    closed = whole.close_due(later, OPEN)
    assert [bar.symbol for bar in closed.bars] == ["MSFT", "SPY", "AAPL"], "by minute, then symbol"
    first, second = parts.close_due(later, OPEN, limit=2), parts.close_due(later, OPEN, limit=2)
    assert [*first.bars, *second.bars] == closed.bars
    assert [row.symbols for row in (*first.clock_rows, *second.clock_rows)] == [("MSFT", "SPY"), ("AAPL",)]
    assert parts.close_due(later, OPEN, limit=2).is_empty()


def test_clock_reading_closes_no_bar_whose_group_is_blocked():
    engine = make_engine()
    feed(engine, [[received(tick("SPY", 0, 50, 10.0), 0), received(tick("AAPL", 0, 50, 10.0), 1)]])
    later = OPEN + 3 * DAY_US
    assert [bar.symbol for bar in engine.close_due(ClockReading(later, frozenset({"SPY"})), OPEN).bars] == ["AAPL"]
    assert [bar.symbol for bar in engine.close_due(ClockReading(later), OPEN).bars] == ["SPY"]


def test_symbol_whose_timestamps_run_ahead_closes_no_bar_of_another():
    engine = make_engine()
    ahead, others = tick("SPY", 4, 10, 10.0), tick("AAPL", 0, 10, 10.0)
    batch = [received(others, 0), received(ahead, 1)]
    feed(engine, [batch])
    assert engine.close_due(ClockReading(batch[1].sent_at + 51 * MICROSECONDS), OPEN).is_empty()
    assert engine.next_close() == batch[0].sent_at + 52 * MICROSECONDS


def test_symbols_of_different_days_close_by_their_own_event_clocks():
    engine = make_engine()
    newer, older = tick("SPY", 1440, 0, 10.0), tick("AAPL", 0, 30, 10.0)
    batch = [received(newer, 0), received(older, 1)]
    feed(engine, [batch])
    due = engine.close_due(ClockReading(batch[1].sent_at + 32 * MICROSECONDS), OPEN)
    assert [bar.symbol for bar in due.bars] == ["AAPL"]


def test_alert_is_opened_once_then_confirmed_or_retracted():
    effects = feed(make_engine(), [stream(120)])
    by_alert: dict[str, list[str]] = {}
    for row in effects.anomalies:
        by_alert.setdefault(row.alert_id, []).append(row.alert_status)
    endings = Counter(tuple(statuses) for statuses in by_alert.values())
    assert set(endings) <= {("opened",), ("confirmed",), ("opened", "confirmed"), ("opened", "retracted")}
    assert endings["opened", "confirmed"] > 0
    opened = [row for row in effects.anomalies if row.alert_status == "opened"]
    assert len({(row.symbol, row.bar_start) for row in opened}) == len(opened)
    assert all(row.event_time - row.bar_start >= EARLIEST_ALERT or row.score >= CERTAIN_SCORE for row in opened)


@pytest.mark.requirement("SIG-06")
def test_signals_keep_the_cooldown_in_event_time():
    effects = feed(make_engine(rows=replace(make_config().rows, pace=SignalPace(5 * MINUTE, MINUTE))), [stream(120)])
    starts = [row.bar_start for row in effects.signals if row.symbol == "AAPL"]
    assert len(starts) > 1
    assert min(b - a for a, b in pairwise(starts)) >= 5 * MINUTE
    assert all(row.bar_status == "final" and row.action != "HOLD" for row in effects.signals)


@pytest.mark.requirement("SIG-06", "NUM-001-cooldown-60s")
@pytest.mark.parametrize(("changed", "seconds"), [({}, 60), ({"signal_cooldown_seconds": 90.0}, 90)])
def test_signal_within_the_cooldown_of_the_setting_is_held_back(changed, seconds):
    gap = row_config(plain_settings(**changed), WarmupRules()).pace.gap(warmup=False)
    gate = SignalGate(OPEN)
    assert not gate.passes(OPEN + seconds * MICROSECONDS - 1, gap)
    assert gate.passes(OPEN + seconds * MICROSECONDS, gap)


@pytest.mark.requirement("INF-11")
def test_warm_up_signals_keep_the_frequency_of_the_setting_and_say_that_they_are():
    often, seldom = (
        feed(
            make_engine(rows=row_config(plain_settings(warmup_signal_frequency=seconds), WarmupRules())), [stream(120)]
        )
        for seconds in (60.0, 1800.0)
    )
    assert len(often.signals) > len(seldom.signals) > 0
    assert all(row.warmup for row in (*often.signals, *seldom.signals))
    for symbol in SYMBOLS:
        starts = [row.bar_start for row in seldom.signals if row.symbol == symbol]
        assert all(later - earlier >= 30 * MINUTE for earlier, later in pairwise(starts))


@pytest.mark.requirement("SIG-01")
def test_signal_has_the_probability_of_its_action_and_the_anomaly_score_of_its_bar_as_risk():
    effects = feed(make_engine(), [stream(120)])
    scores = {(row.symbol, row.bar_start): row for row in effects.scores if row.bar_status == "final"}
    assert len(effects.signals) > 5
    for signal in effects.signals:
        score = scores[signal.symbol, signal.bar_start]
        probabilities = {"BUY": score.buy_probability, "HOLD": score.hold_probability, "SELL": score.sell_probability}
        assert signal.confidence == probabilities[signal.action] == max(probabilities.values())
        assert signal.risk_score == score.score
    assert len({signal.risk_score for signal in effects.signals}) > 1


def test_unknown_symbol_is_dead_unless_registration_is_on():
    refused = run(tick("NOPE", 0, 1, 10.0))
    assert [row.code for row in refused.dead_letters] == ["unknown_symbol"]
    taken = run(tick("NOPE", 0, 1, 10.0), unknown_symbols="register")
    assert [row.symbol for row in taken.instruments] == ["NOPE"]
    assert taken.count("scored") == 1


def test_repeated_dedup_id_is_a_duplicate_unless_derived_from_content():
    pair = [received(tick("SPY", 0, 1, 10.0), i, dedup_id="same") for i in range(2)]
    assert [row.outcome for row in feed(make_engine(), [pair]).outcomes] == ["scored", "duplicate"]
    content = feed(make_engine(content_based_dedup=True), [pair])
    assert [(row.outcome, row.dedup_id) for row in content.outcomes] == [("scored", None), ("scored", None)]


@pytest.mark.parametrize("apart", [False, True], ids=["one batch", "two batches"])
def test_known_dedup_id_with_another_content_is_a_conflict(apart: bool):
    first, other = (received(tick("SPY", 0, second, 10.0), second, dedup_id="7") for second in (1, 2))
    spelled = replace(first, message_id="m9", body=json.dumps({**json.loads(first.body), "venue": "XNAS"}))
    batches = [[first], [other, spelled]] if apart else [[first, other, spelled]]
    effects = feed(make_engine(), batches)
    assert [(row.outcome, row.reason, row.dedup_id) for row in effects.outcomes] == [
        ("scored", None, "7"),
        ("dead", "conflict", None),
        ("duplicate", "its dedup id was already taken in", "7"),
    ]
    (letter,) = effects.dead_letters
    assert (letter.code, letter.body) == ("conflict", other.body)
    assert "got '7' again: use ids that never repeat" in letter.reason


def test_known_dedup_id_without_stored_content_is_a_duplicate():
    again = feed(make_engine(), [[received(tick("SPY", 0, 1, 10.0), 1, dedup_id="7")]], Known(dedup_ids={"7": None}))
    assert [row.outcome for row in again.outcomes] == ["duplicate"]


def test_redelivered_message_has_no_effect():
    engine = make_engine()
    batch = [received(tick("SPY", 0, 1, 10.0), 0)]
    feed(engine, [batch])
    again = feed(engine, [batch], Known(frozenset({"m000000"})))
    assert again.redelivered == ["m000000"]
    assert again.is_empty()


def test_malformed_message_is_kept_with_its_reason_and_the_batch_goes_on():
    effects = feed(make_engine(), [[received("{", 0), received(tick("SPY", 0, 1, 10.0), 1)]])
    (dead,) = effects.dead_letters
    assert (dead.code, dead.body) == ("not_json", "{")
    assert [row.outcome for row in effects.outcomes] == ["dead", "scored"]


def test_cumulative_volumes_become_tick_sizes():
    effects = run(
        tick("SPY", 0, 1, 10.0, 500.0), tick("SPY", 0, 2, 10.0, 530.0), tick("SPY", 1, 2, 10.0, 600.0),
        volume_is_cumulative=True,
    )  # fmt: skip
    assert effects.bars[0].volume == 30.0


def test_message_of_an_unseeded_symbol_is_an_error():
    engine = make_engine()
    readings = engine.read([received(tick("SPY", 0, 1, 10.0), 0)])
    with pytest.raises(RuntimeError, match="seeded"):
        engine.process(readings, Known())


def dirty_stream() -> list[Received]:
    """A stream with late, repeated, redelivered, malformed and unknown messages in it."""
    messages = stream(130)
    n = len(messages)
    extra = [received(tick("SPY", m, 5.5, 299.0), n + m) for m in (3, 40, 90, 100)]
    extra += [received("[]", n + 200), received(tick("NOPE", 2, 0, 1.0), n + 201), messages[50]]
    extra += [received(tick("AAPL", 100, 3, 101.0), n + 202, dedup_id=messages[10].dedup_id)]
    extra += [replace(messages[20], message_id="repeated", receipt_handle="repeated")]
    for i, message in enumerate(extra):
        messages.insert(60 + i * 120, message)
    return messages


@cache
def whole() -> Effects:
    return feed(make_engine(), [dirty_stream()])


@settings(max_examples=12)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_any_split_into_micro_batches_gives_identical_effects(sizes):
    messages, batches = dirty_stream(), []
    while messages:
        size = sizes[len(batches) % len(sizes)]
        batches.append(messages[:size])
        messages = messages[size:]
    assert feed(make_engine(), batches) == whole()


def test_effects_conserve_their_inputs():
    effects = whole()
    counts = {name: effects.count(name) for name in ("scored", "late", "dead", "duplicate")}
    assert sum(counts.values()) == len(dirty_stream()) - len(effects.redelivered)
    assert min(counts.values()) > 0


def test_core_imports_neither_database_nor_queue_nor_frames():
    banned = ("psycopg", "boto3", "deltalake", "dagster", "polars", "pandas", "torch", "mlflow")
    code = f"import sys, surveillance_pipelines.engine.engine; print([m for m in {banned!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
