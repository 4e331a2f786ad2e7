"""Outcomes of predictions."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import psycopg

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.evaluation.direction_labels import HORIZON_MINUTES
from surveillance_pipelines.evaluation.outcomes import outcomes
from surveillance_pipelines.stores.predictions import open_predictions, settle

OPEN = datetime(2024, 3, 5, 14, 30, tzinfo=UTC)


def features(closes: list[float]) -> pl.DataFrame:
    starts = [OPEN + timedelta(minutes=minute) for minute in range(len(closes))]
    return pl.DataFrame({"symbol": "SPY", "date": date(2024, 3, 5), "bar_start": starts, "close": closes}).with_columns(
        pl.col("bar_start").cast(pl.Datetime("us", "UTC")), realised_volatility=pl.lit(float("nan"))
    )


def predict(connection: psycopg.Connection, minute: int) -> None:
    connection.execute(
        "INSERT INTO surveillance.predictions (id, symbol, timeframe, bar_start, revision, source, event_time,"
        " knowledge_time, price, anomaly_score, buy_probability, hold_probability, sell_probability, horizon_minutes,"
        " bundle_hash, feature_view, warmup) VALUES (%s, 'SPY', '1m', %s, 0, 'sqs', %s, %s, 100, 0, 1, 0, 0, %s, 'b',"
        " 'core_v1', false)",
        (f"p{minute}", OPEN + timedelta(minutes=minute), OPEN, OPEN, HORIZON_MINUTES),
    )


def test_outcomes_have_the_move_over_the_horizon():
    found = outcomes(features([100.0] * 10 + [101.0] * 20))
    first = found.row(0, named=True)
    assert first["outcome_direction"] == "BUY"
    assert first["outcome_at"] == OPEN + timedelta(minutes=HORIZON_MINUTES)
    assert found.filter(pl.col("bar_start") == OPEN + timedelta(minutes=12))["outcome_direction"].to_list() == ["HOLD"]


def test_outcomes_of_bars_without_a_future_are_absent():
    assert outcomes(features([100.0] * 5)).is_empty()


def test_settle_writes_each_outcome_once(connection: psycopg.Connection):
    predict(connection, 0)
    predict(connection, 29)
    day = date(2024, 3, 5)
    known = outcomes(features([100.0] * 10 + [99.0] * 20))
    assert open_predictions(connection, day, day) == (2, 2)
    assert settle(connection, known, horizon_minutes=HORIZON_MINUTES) == 1
    assert settle(connection, known, horizon_minutes=HORIZON_MINUTES) == 0
    assert open_predictions(connection, day, day) == (1, 2)
    row = connection.execute("SELECT outcome_direction FROM surveillance.predictions WHERE id = 'p0'").fetchone()
    assert row == ("SELL",)


def test_settle_on_the_current_day_waits_for_the_end_of_the_horizon(connection: psycopg.Connection):
    predict(connection, 0)
    half = features([100.0] * 11 + [99.0])  # up to minute 11: enough for an outcome of minute 0, but not final
    clock = ManualClock(OPEN + timedelta(minutes=12))
    assert settle(connection, outcomes(half), horizon_minutes=HORIZON_MINUTES, clock=clock) == 0

    whole = outcomes(features([100.0] * 11 + [99.0] * 4 + [101.0]))
    assert settle(connection, whole, horizon_minutes=HORIZON_MINUTES, clock=clock) == 1
    row = connection.execute("SELECT outcome_direction FROM surveillance.predictions WHERE id = 'p0'").fetchone()
    assert row == ("BUY",)


def test_settle_of_a_past_day_writes_all_outcomes(connection: psycopg.Connection):
    predict(connection, 0)
    half = features([100.0] * 11 + [99.0])
    clock = ManualClock(OPEN + timedelta(days=1))
    assert settle(connection, outcomes(half), horizon_minutes=HORIZON_MINUTES, clock=clock) == 1
