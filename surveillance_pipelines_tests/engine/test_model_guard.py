"""Models that fail while they serve: who answers instead, when they are tried again, what the rows say."""

from copy import copy
from dataclasses import fields

import numpy as np
import pytest

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.engine.effects import Known
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.engine.model_guard import CACHE_SECONDS, ModelGuard, without_members
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines_tests.engine.market import SYMBOLS, plain_settings, sessions, stream
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle

COOLDOWN = 30 * MICROSECONDS


class FlakySession:
    """An ONNX session that fails while it is told to."""

    def __init__(self, session, answer=None) -> None:
        self.session = session
        self.answer = answer
        self.calls = 0
        self.broken = True

    def get_inputs(self):
        return self.session.get_inputs()

    def get_outputs(self):
        return self.session.get_outputs()

    def run(self, outputs, inputs):
        self.calls += 1
        if not self.broken:
            return self.session.run(outputs, inputs)
        if self.answer is None:
            raise RuntimeError("out of memory")
        return [np.full_like(part, self.answer) for part in self.session.run(outputs, inputs)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "v1"
    build_tiny_bundle(folder)
    return load_bundle(folder)


@pytest.fixture
def scorer(bundle) -> Ensemble:
    return Ensemble(bundle)


@pytest.fixture
def features(scorer):
    return np.random.default_rng(3).normal(size=(6, len(CORE_V1.columns)))


def break_model(scorer: Ensemble, model: str, answer=None) -> FlakySession:
    broken = copy(scorer.models[model])
    session = broken.session = FlakySession(broken.session, answer)  # pyright: ignore[reportAttributeAccessIssue]
    scorer.models = {**scorer.models, model: broken}
    return session


def assert_same(first: BundlePredictions, second: BundlePredictions) -> None:
    for field in fields(BundlePredictions):
        left, right = getattr(first, field.name), getattr(second, field.name)
        if isinstance(left, dict):
            assert left.keys() == right.keys()
            for key, values in left.items():
                np.testing.assert_array_equal(values, right[key], err_msg=f"{field.name} {key}")
        else:
            np.testing.assert_array_equal(left, right, err_msg=field.name)


@pytest.mark.requirement("INF-03", "INF-10")
@pytest.mark.parametrize("answer", [None, np.nan, np.inf])
def test_failing_model_is_left_out_and_tried_again_after_its_time(scorer, features, answer):
    healthy = scorer.predict(features)
    session = break_model(scorer, "classifier", answer)
    guard = ModelGuard(scorer, COOLDOWN)
    failed = guard.predict(features, 0)
    assert failed.excluded == ("classifier",)
    assert set(failed.kinds) <= {"normal", "unclassified"}
    np.testing.assert_array_equal(failed.anomaly_score, healthy.detector_score("autoencoder"))
    guard.predict(features + 1.0, COOLDOWN - 1)
    assert session.calls == 1, "a model that is out is not asked"

    guard.predict(features + 2.0, COOLDOWN)
    assert session.calls == 2, "it is tried once"
    session.broken = False
    assert guard.predict(features + 3.0, COOLDOWN + 1).excluded == ("classifier",)
    assert guard.predict(features, 2 * COOLDOWN).excluded == ()
    assert_same(guard.predict(features + 4.0, 2 * COOLDOWN), scorer.predict(features + 4.0))
    events = [(event.model, event.state) for event in guard.breakers.pop_events()]
    states = ["open", "half_open", "open", "half_open", "closed"]
    assert events == [("classifier", state) for state in states]


@pytest.mark.requirement("INF-10")
def test_every_model_has_a_substitute(scorer, features):
    out = scorer.without({"autoencoder"}).predict(features)
    assert np.isnan(out.statistic("reconstruction_error")).all()
    assert (out.detector_score("autoencoder") == 0.0).all()
    np.testing.assert_array_equal(out.anomaly_score, out.detector_score("classifier"))
    out = scorer.without({"direction"}).predict(features)
    assert not out.direction_ready
    np.testing.assert_array_equal(out.direction_probabilities, WarmupRules().predict(features).direction_probabilities)
    rules = without_members(scorer, {"autoencoder", "classifier"}).predict(features)
    assert rules.excluded == ("autoencoder", "classifier")
    np.testing.assert_array_equal(rules.anomaly_score, WarmupRules().predict(features).anomaly_score)


@pytest.mark.requirement("INF-06", "NUM-003-cache-1000-30s")
def test_prediction_of_equal_features_is_taken_from_the_cache_for_thirty_seconds(scorer, features):
    session = break_model(scorer, "autoencoder")
    session.broken = False
    guard = ModelGuard(scorer, COOLDOWN)
    first = guard.predict(features, 0)
    assert_same(guard.predict(features, MICROSECONDS), first)
    assert session.calls == 1
    mixed = np.concatenate([features[:3], features[:2] + 9.0, features[3:]])
    assert_same(guard.predict(mixed, MICROSECONDS), scorer.predict(mixed))
    guard.predict(features, round(CACHE_SECONDS * MICROSECONDS) + 1)
    assert session.calls == 4, "once for the two new rows, once by this test, once after the time"


@pytest.mark.requirement("INF-06", "NUM-003-cache-1000-30s")
def test_cache_holds_a_thousand_predictions(scorer):
    rows = np.random.default_rng(4).normal(size=(1001, len(CORE_V1.columns)))
    session = break_model(scorer, "autoencoder")
    session.broken = False
    guard = ModelGuard(scorer, COOLDOWN)
    guard.predict(rows[:1000], 0)
    guard.predict(rows[:1000], 1)
    assert session.calls == 1
    guard.predict(rows[1000:], 2)
    guard.predict(rows[1:], 3)
    assert session.calls == 2
    guard.predict(rows[:1], 4)
    assert session.calls == 3, "the oldest of 1,001 predictions was dropped"


def test_trial_of_a_model_asks_it_whatever_is_cached(scorer, features):
    guard = ModelGuard(scorer, 1 * MICROSECONDS)
    guard.predict(features, 0)
    session = break_model(scorer, "classifier")
    assert guard.predict(features + 1.0, 1).excluded == ("classifier",)
    assert guard.predict(features, 2 * MICROSECONDS).excluded == ("classifier",)
    assert session.calls == 2, "equal features were scored before it failed, which says nothing about it now"


def test_rows_of_the_engine_say_which_models_were_out(scorer):
    break_model(scorer, "classifier")
    engine = Engine(engine_config(plain_settings(publish_scores="all"), scorer), scorer, sessions(), SYMBOLS)
    for symbol in SYMBOLS:
        engine.seed(symbol, Seed())
    effects = engine.process(engine.read(stream(3)), Known())
    assert effects.fallbacks == effects.scored == len(effects.scores)
    assert {row.fallback_used for row in effects.scores} == {True}
    assert [row.explanation for row in effects.scores[:1]] == [{"excluded_models": ["classifier"]}]
    assert [(event.model, event.state) for event in effects.breakers] == [("classifier", "open")]


def test_breaker_is_on_record_and_no_message_is_lost(live_lane, bundle, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of memory")

    live_lane.promote(bundle.bundle_hash, bundle.path)
    monkeypatch.setattr("surveillance_pipelines.models.autoencoder.reconstruct", fail)
    live_lane.send(stream(20))
    report = live_lane.drain(window_seconds=30)
    assert live_lane.outcomes() == {"scored": len(stream(20))}
    assert report.fallback_rate == 1.0
    assert live_lane.query("SELECT model, state, reason FROM ops.breaker_events") == [
        ("autoencoder", "open", "expected finite outputs of the autoencoder, got RuntimeError('out of memory')")
    ]
