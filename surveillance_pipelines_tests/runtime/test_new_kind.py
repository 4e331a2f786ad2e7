"""A new model kind with a window of 20 bars: one file and one row of the registry, and the whole platform uses it."""

from datetime import date

import numpy as np
import pytest

from surveillance_pipelines.batch.backfill import score_days
from surveillance_pipelines.engine.scoring_rows import row_config
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.kinds import KINDS
from surveillance_pipelines.replay.replayer import Replayer
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.predictors import load_predictor
from surveillance_pipelines.training.bundle_training import save_bundle, train_bundle
from surveillance_pipelines.training.deadline import Deadline
from surveillance_pipelines.training.report import evaluate
from surveillance_pipelines.training.training_set import build_training_set
from surveillance_pipelines_tests.engine.market import sessions, stream
from surveillance_pipelines_tests.live_lane_fixtures import LiveLane
from surveillance_pipelines_tests.models.toy_kind import LENGTH, TOY
from surveillance_pipelines_tests.training.tiny_bundle import TINY_CONFIGS, TINY_FIRST, TINY_LAST, tiny_market


@pytest.fixture(scope="module")
def toy_bundle(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, TOY.name, TOY)
        bars, calendar = tiny_market()
        rows = build_training_set(bars, calendar, first=TINY_FIRST, last=TINY_LAST, seed=7)
        trained = train_bundle(rows, seed=7, deadline=Deadline.after(300.0), configs=TINY_CONFIGS)
        path = tmp_path_factory.mktemp("toy") / "v1"
        save_bundle(trained, path)
        judged = evaluate(rows, Ensemble(load_bundle(path)), min_rows=1_000, min_accuracy=0.75, seed=1)
        yield path, trained, judged


@pytest.fixture
def lane(live_lane: LiveLane, toy_bundle, monkeypatch) -> LiveLane:
    monkeypatch.setitem(KINDS, TOY.name, TOY)
    path, _, _ = toy_bundle
    live_lane.promote(load_bundle(path).bundle_hash, path)
    return live_lane


def test_training_and_evaluation_cover_the_new_kind(toy_bundle):
    path, trained, judged = toy_bundle
    assert list(trained.members) == ["tail_detector", "autoencoder", "classifier", "direction", "toy"]
    assert all(check.passed for member in trained.members.values() for check in member.checks)
    assert 0.5 < judged.metrics["toy_roc_auc"] <= 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, TOY.name, TOY)
        ensemble = Ensemble(load_bundle(path))
    assert ensemble.window_length == LENGTH
    assert [name for name in ensemble.detectors if name == "toy"]
    assert ensemble.model_ids[-1].startswith("toy@0.1#")


def test_live_rows_and_predictions_rest_on_the_new_kind_and_replay(lane: LiveLane, toy_bundle):
    lane.send(stream(40))
    report = lane.drain(window_seconds=60)
    assert report.stopped_by in ("idle", "window")
    rows = lane.query(
        "SELECT model_ids, excluded_models, config_hash, runtime_hash FROM surveillance.predictions GROUP BY 1, 2, 3, 4"
    )
    (model_ids, excluded, config_hash, _) = rows[0]
    assert len(rows) == 1
    assert [name.split("@")[0] for name in model_ids] == ["tail_detector", "autoencoder", "classifier", "toy"]
    assert (excluded, config_hash) == ([], lane.settings.config_hash)
    explained = lane.column("SELECT explanation->'detectors'->'toy' FROM surveillance.anomalies")
    assert explained
    assert all(0.0 <= score <= 1.0 for score in explained)
    with lane.connect() as connection:
        lake = Lake(lane.endpoints.lake_url, lane.endpoints.lake_storage_options)
        replayer = Replayer(connection, lake, lane.settings)
        results = list(replayer.replay(replayer.sample(200, seed=3)))
    assert len(results) > 50
    assert {result.outcome for result in results} == {"equal"}, [r.summary for r in results if r.outcome != "equal"][:3]


def test_restarted_run_continues_with_the_windows_that_it_had(lane: LiveLane):
    first = stream(20)  # its last tick ends a minute, so the run does not wait for an open bar
    lane.send(first)
    lane.drain(window_seconds=60)
    lane.send(stream(40)[len(first) :])
    lane.drain(window_seconds=60)
    with lane.connect() as connection:
        lake = Lake(lane.endpoints.lake_url, lane.endpoints.lake_storage_options)
        replayer = Replayer(connection, lake, lane.settings)
        results = list(replayer.replay(replayer.sample(300, seed=4)))
    assert {result.outcome for result in results} == {"equal"}, [r.summary for r in results if r.outcome != "equal"][:3]


def test_batch_scores_of_a_served_day_are_the_served_ones(lane: LiveLane, toy_bundle):
    from surveillance_pipelines.stores.live_rows import read_live_bars

    lane.send(stream(40))
    lane.drain(window_seconds=60)
    lake = Lake(lane.endpoints.lake_url, lane.endpoints.lake_storage_options)
    served = dict(lane.query("SELECT id, anomaly_score FROM surveillance.predictions"))
    with lane.connect() as connection:
        bars = read_live_bars(connection, date(2024, 1, 1), date(2024, 12, 31))
        days = bars["date"].unique().to_list()
        features = features_of_days(bars, days, sessions())
        lake.write_days("features_core_v1", features, days=days)
        predictor = load_predictor(connection, lane.settings)
        config = row_config(lane.settings, predictor)
    with lane.connect() as connection:
        connection.autocommit = False
        done = list(
            score_days(lake, connection, predictor, config, first=min(days), last=max(days), sessions=sessions())
        )
    scored = {id_: score for day in done for id_, score in day.scored.scores.select("id", "anomaly_score").iter_rows()}
    assert scored == served
    assert sum(day.stored.predictions for day in done) == 0
    assert np.isfinite(list(scored.values())).all()
