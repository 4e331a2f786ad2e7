"""Windows of feature rows across midnight: equal live, after a restart and in batch."""

import math
from dataclasses import asdict
from datetime import date

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.batch.scoring import score_day
from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.market import Bar, Tick
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.engine import Engine, Swap
from surveillance_pipelines.engine.feature_history import BarInputs, with_missed
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.market.messages import decode_tick
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, SYMBOLS, received, sessions, ticks
from surveillance_pipelines_tests.engine.test_engine import feed, make_config
from surveillance_pipelines_tests.engine.test_tenants import restore

LENGTH = 20
DAYS = [date(2024, 3, 5), date(2024, 3, 6)]
NEXT_DAY = 1440 * MINUTE


class WideRules(WarmupRules):
    """The warm-up rules with a window of several bars, whose hash every score row carries."""

    window_length = LENGTH


def two_days() -> list[Received]:
    first = ticks(45)
    second = [Tick(tick.symbol, tick.price, tick.volume, tick.event_time + NEXT_DAY) for tick in ticks(30, seed=8)]
    last = [
        Tick(symbol, 100.0, 1.0, OPEN + NEXT_DAY + 30 * MINUTE + i * MICROSECONDS) for i, symbol in enumerate(SYMBOLS)
    ]
    return [received(tick, i) for i, tick in enumerate([*first, *second, *last])]


def engine_of() -> Engine:
    return Engine(make_config(), WideRules(), sessions(), SYMBOLS)


def hashes(scores: list) -> dict[tuple[str, int], str]:
    return {(row.symbol, row.bar_start): row.input_hash for row in scores if row.bar_status == "final"}


def frame_of(bars: list[Bar]) -> pl.DataFrame:
    rows = [asdict(bar) | {"timeframe": "1m", "adjustment": "none", "batch_id": "live"} for bar in bars]
    instants = ("bar_start", "event_time", "knowledge_time")
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        *(pl.from_epoch(name, time_unit="us").dt.replace_time_zone("UTC") for name in instants),
        market_return=pl.col("market_return").fill_nan(None),
    )
    frame = frame.with_columns(date=pl.col("bar_start").dt.date())
    return frame.select(BAR_SCHEMA.names()).cast(BAR_SCHEMA)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def served():
    return feed(engine_of(), [two_days()])


def test_batch_windows_of_the_second_day_are_the_served_ones(served):
    features = features_of_days(frame_of(served.bars), DAYS, sessions())
    before, day = (features.filter(pl.col("date") == day) for day in DAYS)
    earlier = before.group_by("symbol", maintain_order=True).tail(LENGTH - 1)
    scored = score_day(day, WideRules(), make_config().rows, earlier=earlier, sessions=sessions()).scores
    batch = {
        (symbol, start): hash_
        for symbol, start, hash_ in scored.select(
            "symbol", pl.col("bar_start").dt.timestamp("us"), "input_hash"
        ).iter_rows()
    }
    live = {key: hash_ for key, hash_ in hashes(served.scores).items() if key[1] >= OPEN + NEXT_DAY}
    assert len(live) == 30 * len(SYMBOLS)
    assert batch == live
    short = score_day(day, WideRules(), make_config().rows, sessions=sessions()).scores
    assert (short["input_hash"] != scored["input_hash"]).sum() == (LENGTH - 1) * len(SYMBOLS), "midnight matters"


@pytest.mark.parametrize("minutes", [0, 1, 10, 25])
def test_restart_on_the_second_day_rebuilds_the_windows_from_bars(served, minutes):
    at = OPEN + NEXT_DAY + minutes * MINUTE
    messages = two_days()
    place = next(i for i, message in enumerate(messages) if event_time(message) >= at)
    before = feed(engine_of(), [messages[:place]])
    engine = engine_of()
    restore(engine, before)
    expected = {key: hash_ for key, hash_ in hashes(served.scores).items() if key not in hashes(before.scores)}
    assert len(expected) >= (30 - minutes) * len(SYMBOLS)
    assert hashes(feed(engine, [messages[place:]]).scores) == expected


@pytest.mark.parametrize("length", [1, 10])
def test_swap_to_shorter_windows_gives_the_windows_of_models_that_always_had_them(length):
    class ShortRules(WarmupRules):
        bundle_hash = "short"
        window_length = length

    known = [tick for tick in ticks(50) if tick.symbol != "SPY" or tick.event_time >= OPEN + 30 * MINUTE]
    messages = [received(tick, i) for i, tick in enumerate(known)]
    place = next(i for i, message in enumerate(messages) if event_time(message) >= OPEN + 25 * MINUTE)
    engine = engine_of()
    feed(engine, [messages[:place]])
    engine.swap(Swap(ShortRules()), 0)
    swapped = feed(engine, [messages[place:]])
    always = Engine(make_config(), ShortRules(), sessions(), SYMBOLS)
    feed(always, [messages[:place]])
    expected = feed(always, [messages[place:]])
    assert {row.symbol for row in swapped.scores} == set(SYMBOLS)
    assert [row.input_hash for row in swapped.scores] == [row.input_hash for row in expected.scores]


def event_time(message: Received) -> int:
    tick = decode_tick(message.body, sent_at=message.sent_at)
    assert isinstance(tick, Tick)
    return tick.event_time


def test_missed_bars_replace_no_own_bar_and_supply_only_its_unknown_peers_return():
    def bar(close: float, peers_return: float) -> list[float]:
        return [close] * 5 + [0.0, 0.0, 390.0, peers_return, 2.0]

    own = BarInputs(np.array([20, 30]), np.array([bar(2.0, math.nan), bar(3.0, 0.03)]))
    others = BarInputs(np.array([10, 20, 30, 40]), np.array([bar(9.0, step) for step in (0.1, 0.2, 0.3, 0.4)]))
    found = with_missed(own, others, before=40)
    expected = {10: bar(9.0, 0.1), 20: bar(2.0, 0.2), 30: bar(3.0, 0.03)}
    assert {start: list(row) for start, row in found.items()} == expected
