"""The live lane with a real model bundle."""

import shutil

import pytest

from surveillance_pipelines.batch.scoring import score_day
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.runtime import drain as drain_module
from surveillance_pipelines.runtime.bundle_watch import RETRY_CHECKS, BundleWatch
from surveillance_pipelines.stores.database import Reconnector
from surveillance_pipelines.stores.predictors import NoModelError, load_serving_predictor
from surveillance_pipelines_tests.batch.test_scoring import bars_frame, identity
from surveillance_pipelines_tests.engine.market import SYMBOLS, plain_settings, sessions, stream
from surveillance_pipelines_tests.engine.test_engine import feed
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "v1"
    build_tiny_bundle(folder)
    return load_bundle(folder)


@pytest.fixture(scope="module")
def scorer(bundle):
    return Ensemble(bundle)


def make_engine(scorer) -> Engine:
    return Engine(engine_config(plain_settings(), scorer), scorer, sessions(), SYMBOLS)


@pytest.fixture(scope="module")
def whole(scorer):
    return feed(make_engine(scorer), [stream(120)])


@pytest.mark.parametrize("size", [1, 2, 7, 10])
def test_micro_batches_of_any_size_give_the_same_scores_bit_for_bit(scorer, whole, size):
    messages = stream(120)
    batches = [messages[start : start + size] for start in range(0, len(messages), size)]
    assert feed(make_engine(scorer), batches) == whole


def test_batch_rows_equal_those_of_the_live_lane(scorer, whole):
    bars = bars_frame(whole.bars)
    features = features_of_days(bars, bars["date"].unique().to_list(), sessions())
    config = engine_config(plain_settings(), scorer).rows
    batch = score_day(features, scorer, config, sessions=sessions())
    assert len(batch.anomalies) > 0
    assert identity(batch.anomalies) == identity([a for a in whole.anomalies if a.alert_status == "confirmed"])
    assert identity(batch.signals) == identity(whole.signals)
    assert set(batch.scores["id"]) == {row.id for row in whole.predictions}


@pytest.mark.requirement("INF-05")
def test_drain_loads_the_promoted_bundle_once_and_marks_rows_with_it(live_lane, bundle, monkeypatch):
    loads = []
    monkeypatch.setattr(
        drain_module, "load_serving_predictor", lambda *args: loads.append(args) or load_serving_predictor(*args)
    )
    live_lane.promote(bundle.bundle_hash, bundle.path)
    live_lane.send(stream(30))
    report = live_lane.drain(window_seconds=30)
    assert (report.bundle_hash, report.warmup, len(loads)) == (bundle.bundle_hash, False, 1)
    served = live_lane.query("SELECT DISTINCT bundle_hash, warmup FROM surveillance.predictions")
    assert served == [(bundle.bundle_hash, False)]


def test_run_that_starts_after_a_bad_promotion_serves_with_the_bundle_before(live_lane, bundle, tmp_path):
    live_lane.promote(bundle.bundle_hash, bundle.path)
    first = stream(4)  # its last tick ends a minute, so the run does not wait for an open bar
    messages = first + stream(30)[len(first) :]
    live_lane.send(first)
    live_lane.drain(window_seconds=30)
    live_lane.promote("0" * 64, tmp_path / "nothing", version=2)
    live_lane.send(messages[len(first) :])
    news: list[str] = []
    report = live_lane.drain(window_seconds=30, on_status=news.append)
    assert report.bundle_hash == bundle.bundle_hash
    assert live_lane.outcomes() == {"scored": len(messages)}
    assert any(line.startswith("bundle 000000000000 is the champion and cannot serve (") for line in news)


def without_rules(live_lane) -> None:
    object.__setattr__(live_lane, "settings", live_lane.settings.model_copy(update={"warmup_mode_enabled": False}))


def test_bad_promotion_does_not_bring_forbidden_rules_back(live_lane, tmp_path):
    live_lane.send(stream(10))
    live_lane.drain(window_seconds=30)
    live_lane.promote("0" * 64, tmp_path / "nothing")
    assert live_lane.drain(window_seconds=0.5).warmup
    without_rules(live_lane)
    with pytest.raises(NoModelError, match="expected a bundle that can be loaded, got v1 000000000000"):
        live_lane.drain(window_seconds=0.5)


def test_damaged_sole_champion_leaves_the_queue_to_the_rules(live_lane, tmp_path):
    live_lane.promote("0" * 64, tmp_path / "nothing")
    live_lane.send(stream(10))
    news: list[str] = []
    report = live_lane.drain(window_seconds=30, on_status=news.append)
    assert (report.warmup, live_lane.outcomes()) == (True, {"scored": len(stream(10))})
    assert any("is the champion and cannot serve" in line and "warmup serves instead" in line for line in news)
    assert live_lane.query("SELECT DISTINCT bundle_hash, warmup FROM surveillance.predictions") == [("warmup", True)]


def test_oldest_champion_serves_when_all_later_ones_are_damaged(live_lane, bundle, tmp_path):
    without_rules(live_lane)
    live_lane.promote(bundle.bundle_hash, bundle.path)
    for version in (2, 3):
        live_lane.promote(str(version) * 64, tmp_path / "nothing", version=version)
    assert live_lane.drain(window_seconds=0.5).bundle_hash == bundle.bundle_hash, "it never served this queue"


def test_restored_champion_serves_within_the_run(live_lane, bundle, tmp_path):
    live_lane.promote(bundle.bundle_hash, tmp_path / "v1")
    with live_lane.connect() as connection:
        serving = load_serving_predictor(connection, live_lane.settings, live_lane.queue_url)
        watch = BundleWatch(Reconnector(lambda: connection), live_lane.settings, serving, lambda *_: {})
        watch.poll()
        assert "cannot serve" in str(watch.claim_refusal())
        shutil.copytree(bundle.path, tmp_path / "v1")
        for _ in range(RETRY_CHECKS + 1):
            watch.poll()
        swap = watch.claim()
    assert swap is not None
    assert swap.predictor.bundle_hash == bundle.bundle_hash
    assert watch.claim_refusal() is None


@pytest.mark.requirement("INF-05")
def test_failing_warm_up_is_only_a_warning(live_lane, monkeypatch, capsys):
    def fail(_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(WarmupRules, "warm_up", fail)
    live_lane.send(stream(2))
    assert live_lane.drain(window_seconds=30).totals["scored"] == 18
    assert "warm-up failed" in capsys.readouterr().err
