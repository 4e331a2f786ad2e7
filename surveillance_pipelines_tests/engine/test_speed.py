"""Models of the size that training makes by default load and answer in time."""

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from surveillance_pipelines.engine.effects import Known
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.training.bundle_training import save_bundle, train_bundle
from surveillance_pipelines.training.deadline import Deadline
from surveillance_pipelines_tests.engine.market import SYMBOLS, plain_settings, sessions, stream
from surveillance_pipelines_tests.training.tiny_bundle import tiny_training_set

COMPUTE_LIMIT_SECONDS = 0.015
PREDICTION_LIMIT_SECONDS = 0.1
LOAD_LIMIT_SECONDS = 2.0


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a bundle that was trained with the parameters of production."""
    path = tmp_path_factory.mktemp("models") / "v1"
    save_bundle(train_bundle(tiny_training_set(), seed=7, deadline=Deadline.after(120.0)), path)
    return path


@pytest.mark.requirement("NUM-004-load-2s")
def test_bundle_loads_and_warms_up_within_two_seconds(bundle_path: Path) -> None:
    begin = perf_counter()
    Ensemble(load_bundle(bundle_path)).warm_up()
    assert perf_counter() - begin < LOAD_LIMIT_SECONDS


@pytest.mark.requirement("NUM-004-prediction-100ms")
def test_single_predictions_take_less_than_100_ms(bundle_path: Path) -> None:
    ensemble = Ensemble(load_bundle(bundle_path))
    rows = np.random.default_rng(5).normal(size=(500, len(VIEWS[ensemble.feature_view].columns)))
    seconds = []
    for row in rows:
        begin = perf_counter()
        ensemble.predict(row[np.newaxis, :])
        seconds.append(perf_counter() - begin)
    assert np.percentile(seconds, 99) < PREDICTION_LIMIT_SECONDS


@pytest.mark.requirement("NUM-003-compute-15ms")
def test_features_and_models_of_a_message_take_less_than_15_ms(bundle_path: Path) -> None:
    """The limit holds for the 99th percentile of warm calls, each with one message, decoded and scored."""
    ensemble = Ensemble(load_bundle(bundle_path))
    ensemble.warm_up()
    engine = Engine(engine_config(plain_settings(publish_scores="all"), ensemble), ensemble, sessions(), SYMBOLS)
    for symbol in SYMBOLS:
        engine.seed(symbol, Seed())
    seconds = []
    for message in stream(120):
        begin = perf_counter()
        effects = engine.process(engine.read([message]), Known())
        seconds.append(perf_counter() - begin)
        assert effects.count("scored") == 1
    assert len(seconds) > 1000
    assert np.percentile(seconds, 99) < COMPUTE_LIMIT_SECONDS
