"""Batch scoring of a range of days: one after the other, as if in one piece."""

from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import psycopg
import pytest

from surveillance_pipelines.batch import backfill
from surveillance_pipelines.batch import storage as batch_store
from surveillance_pipelines.batch.backfill import ScoredRange, score_days
from surveillance_pipelines.batch.scoring import SCORES_SCHEMA, score_day
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.scoring_rows import row_config
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.predictors import load_pinned_predictor
from surveillance_pipelines_tests.batch.test_scoring import identity
from surveillance_pipelines_tests.engine.market import plain_settings
from surveillance_pipelines_tests.training.tiny_bundle import TINY_FIRST, TINY_LAST, build_tiny_bundle, tiny_market

CONFIG = row_config(plain_settings(), WarmupRules())


@pytest.fixture(scope="module")
def market() -> tuple[pl.DataFrame, SessionTable]:
    """Features of six sessions of three symbols."""
    bars, sessions = tiny_market()
    return features_of_days(bars, bars["date"].unique().to_list(), sessions), sessions


@pytest.fixture
def filled(lake: Lake, market: tuple[pl.DataFrame, SessionTable]) -> Lake:
    features = market[0]
    lake.write_days("features_core_v1", features, days=features["date"].unique().to_list())
    return lake


def scored(
    lake: Lake, connection: psycopg.Connection, sessions: SessionTable, first: date, last: date, config=CONFIG
) -> list[backfill.ScoredDay]:
    return list(score_days(lake, connection, WarmupRules(), config, first=first, last=last, sessions=sessions))


def test_days_one_after_the_other_give_the_rows_of_one_piece(filled: Lake, connection, market):
    features, sessions = market
    whole = score_day(features, WarmupRules(), CONFIG, sessions=sessions)
    days = scored(filled, connection, sessions, TINY_FIRST, TINY_LAST)
    assert [done.day for done in days] == features["date"].unique().sort().to_list()
    assert identity([row for done in days for row in done.scored.anomalies]) == identity(whole.anomalies)
    assert identity([row for done in days for row in done.scored.signals]) == identity(whole.signals)
    assert len(whole.anomalies) > 3
    assert len(whole.signals) > 100
    kept = filled.read("scores").sort("symbol", "bar_start")
    assert kept.equals(whole.scores.select(kept.columns).sort("symbol", "bar_start"))
    counts = [connection.execute(f"SELECT count(*) FROM surveillance.{name}".encode()).fetchone()
              for name in ("anomalies", "signals", "predictions")]  # fmt: skip
    assert counts == [(len(whole.anomalies),), (len(whole.signals),), (len(features),)]


def test_predictions_equal_the_scores_value_by_value(filled: Lake, connection, market):
    config = replace(CONFIG, run_id='run "1", \\N')
    scored(filled, connection, market[1], TINY_FIRST, TINY_FIRST, config)
    columns = ["id", "symbol", "bar_start", "event_time", "knowledge_time", "source", "price", "reconstruction_error",
               "anomaly_score", "sell_probability", "horizon_minutes", "warmup", "run_id"]  # fmt: skip
    statement = f"SELECT {', '.join(columns)} FROM surveillance.predictions ORDER BY id"
    assert connection.execute(statement.encode()).fetchall() == filled.read("scores").select(columns).sort("id").rows()


def test_cooldown_reaches_from_day_to_day(filled: Lake, connection, market):
    features, sessions = market
    slow = replace(CONFIG, pace=replace(CONFIG.pace, warmup=30 * 3_600 * 1_000_000))
    whole = score_day(features, WarmupRules(), slow, sessions=sessions)
    days = scored(filled, connection, sessions, TINY_FIRST, TINY_LAST, slow)
    assert identity([row for done in days for row in done.scored.signals]) == identity(whole.signals)
    assert len(whole.signals) < 3 * len(days)


@pytest.mark.parametrize("other", [{"tenant": "fund"}, {"strategy": "momentum"}])
def test_cooldown_of_one_tenant_or_strategy_does_not_affect_another(filled: Lake, connection, market, other):
    features, sessions = market
    slow = replace(CONFIG, pace=replace(CONFIG.pace, warmup=30 * 3_600 * 1_000_000))
    second_day = TINY_FIRST + timedelta(days=1)
    scored(filled, connection, sessions, TINY_FIRST, TINY_FIRST, slow)
    same, another = (
        [
            row
            for done in scored(filled, connection, sessions, second_day, TINY_LAST, config)
            for row in done.scored.signals
        ]
        for config in (slow, replace(slow, **other))
    )
    alone = score_day(features.filter(pl.col("date") >= second_day), WarmupRules(), slow, sessions=sessions).signals
    starts = [(row.symbol, row.bar_start) for row in alone]
    assert sorted((row.symbol, row.bar_start) for row in another) == sorted(starts)
    assert sorted((row.symbol, row.bar_start) for row in same) != sorted(starts)


def test_repeat_writes_nothing_new_and_a_day_whose_features_are_gone_loses_its_scores(filled: Lake, connection, market):
    scored(filled, connection, market[1], TINY_FIRST, TINY_LAST)
    before = filled.read("scores")
    filled.write_days("features_core_v1", market[0].clear(), days=[TINY_LAST])
    again = ScoredRange()
    for done in scored(filled, connection, market[1], TINY_FIRST, TINY_LAST):
        again.add(done)
    assert again.stored == backfill.StoredCounts(0, 0, 0)
    assert again.days == filled.days("scores") == filled.days("features_core_v1")
    assert TINY_LAST not in again.days
    assert filled.read("scores").equals(before.filter(pl.col("date") < TINY_LAST))
    kept = before.filter(pl.col("date") < TINY_LAST)
    assert (again.rows, sum(again.out_of_range.values())) == (kept.height, 0)
    assert again.bars_of == dict(kept["symbol"].value_counts().iter_rows())
    assert again.alerts_of == dict(kept.filter("is_anomaly")["symbol"].value_counts().iter_rows())
    assert again.most_anomalous is not None


def test_day_that_is_partly_stored_gets_what_it_lacks_and_keeps_what_it_has(filled: Lake, connection, market):
    (first,) = scored(filled, connection, market[1], TINY_FIRST, TINY_FIRST)
    connection.execute(
        "DELETE FROM surveillance.predictions WHERE id NOT IN (SELECT min(id) FROM surveillance.predictions)"
    )
    connection.execute("UPDATE surveillance.predictions SET run_id = 'the first'")
    connection.commit()

    (again,) = scored(filled, connection, market[1], TINY_FIRST, TINY_FIRST)

    assert again.stored == backfill.StoredCounts(0, 0, first.stored.predictions - 1)
    kept = connection.execute("SELECT count(*), count(run_id) FROM surveillance.predictions").fetchone()
    assert kept == (first.stored.predictions, 1)


def test_failure_while_a_day_is_stored_keeps_the_days_before_it(filled: Lake, connection, market, monkeypatch):
    store, third = backfill.store_scores, TINY_FIRST + timedelta(days=2)

    def fail(connection, scored):
        if scored.scores["date"][0] == third:
            raise OSError("disk full")
        return store(connection, scored)

    monkeypatch.setattr(backfill, "store_scores", fail)
    with pytest.raises(OSError, match="disk full"):
        scored(filled, connection, market[1], TINY_FIRST, TINY_LAST)
    assert filled.days("scores") == [TINY_FIRST, TINY_FIRST + timedelta(days=1)]


def test_day_of_which_a_table_cannot_be_written_leaves_none_of_its_rows(filled: Lake, connection, market, monkeypatch):
    def fail(connection, table, frame, model_ids):
        written = connection.execute("SELECT count(*) FROM surveillance.signals").fetchone()
        assert written > (0,), "there is something to take back"
        raise OSError("disk full")

    monkeypatch.setattr(batch_store, "_store_frame", fail)
    with pytest.raises(OSError, match="disk full"):
        scored(filled, connection, market[1], TINY_FIRST, TINY_LAST)
    connection.rollback()
    for table in ("anomalies", "signals", "predictions"):
        assert connection.execute(f"SELECT count(*) FROM surveillance.{table}").fetchone() == (0,)


def test_range_without_features_has_no_days(lake: Lake, connection, market):
    assert scored(lake, connection, market[1], TINY_FIRST, TINY_LAST) == []
    assert lake.read("scores", schema=SCORES_SCHEMA).is_empty()


@pytest.mark.requirement("BEY-11")
def test_pinned_bundle_scores_although_it_was_never_promoted(connection, tmp_path, settings):
    bundle_hash = build_tiny_bundle(tmp_path / "v1")
    version = ModelVersion(version=1, bundle_hash=bundle_hash, path=tmp_path / "v1", training_duration_seconds=1.0,
                           training_dataset_size=10)  # fmt: skip
    record_version(connection, version)
    assert load_pinned_predictor(connection, settings, bundle_hash[:12]).bundle_hash == bundle_hash
    assert load_pinned_predictor(connection, settings, "warmup").warmup
    with pytest.raises(LookupError, match="expected one registered bundle"):
        load_pinned_predictor(connection, settings, "0123456789")
