"""Batch scoring writes what the live lane wrote."""

from collections.abc import Sequence
from dataclasses import asdict

import polars as pl
import pytest

from surveillance_pipelines.batch.scoring import SCORES_SCHEMA, score_day
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.outputs import IDENTITY_FREE, OutputRow, to_record
from surveillance_pipelines.features.batch import feature_schema, features_of_days
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines_tests.engine.market import sessions, stream
from surveillance_pipelines_tests.engine.test_engine import feed, make_config, make_engine


def bars_frame(bars: list[Bar]) -> pl.DataFrame:
    instants = ("bar_start", "event_time", "knowledge_time")
    frame = pl.DataFrame([asdict(bar) for bar in bars]).with_columns(
        *(pl.col(name).cast(pl.Datetime("us", "UTC")) for name in instants),
        timeframe=pl.lit("1m"),
        adjustment=pl.lit("none"),
        batch_id=pl.lit("live"),
    )
    return frame.with_columns(date=pl.col("bar_start").dt.date()).select(BAR_SCHEMA.names()).cast(BAR_SCHEMA)


def identity(rows: Sequence[OutputRow]) -> list[dict]:
    records = [{name: value for name, value in to_record(row).items() if name not in IDENTITY_FREE} for row in rows]
    return sorted(records, key=lambda record: record["id"])


@pytest.fixture(scope="module")
def live():
    return feed(make_engine(), [stream(180)])


@pytest.fixture(scope="module")
def batch(live):
    bars = bars_frame(live.bars)
    features = features_of_days(bars, bars["date"].unique().to_list(), sessions())
    return score_day(features, WarmupRules(), make_config().rows, sessions=sessions())


def test_batch_anomalies_equal_the_confirmed_ones_of_the_live_lane(live, batch):
    confirmed = [row for row in live.anomalies if row.alert_status == "confirmed"]
    assert len(confirmed) >= 3
    assert identity(batch.anomalies) == identity(confirmed)


def test_batch_signals_equal_those_of_the_live_lane(live, batch):
    assert len(live.signals) > 3
    assert identity(batch.signals) == identity(live.signals)


def test_batch_scores_equal_the_predictions_of_the_live_lane(live, batch):
    columns = ("id", "symbol", "price", "volume", "reconstruction_error", "input_hash", "buy_probability")
    served = {(*(to_record(row)[name] for name in columns), row.score, row.kind) for row in live.predictions}
    scored = set(batch.scores.select(*columns, "anomaly_score", "kind").iter_rows())
    assert scored == served
    assert batch.scores.schema == SCORES_SCHEMA


def test_last_signal_before_the_frame_holds_the_first_one_back(live, batch):
    first = min(batch.signals, key=lambda row: row.bar_start)
    bars = bars_frame(live.bars)
    features = features_of_days(bars, bars["date"].unique().to_list(), sessions())
    again = score_day(
        features, WarmupRules(), make_config().rows, last_signals={first.symbol: first.bar_start - 30_000_000}
    )
    assert first.id not in {row.id for row in again.signals}


def test_frame_without_bars_gives_empty_results():
    scored = score_day(feature_schema().to_frame(), WarmupRules(), make_config().rows)
    assert (scored.anomalies, scored.incidents, scored.signals) == ([], [], [])
    assert (scored.scores.schema, scored.scores.height) == (SCORES_SCHEMA, 0)
