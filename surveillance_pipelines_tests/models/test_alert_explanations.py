"""Explanations of alerts: additive contributions, ordinary values, and a change that prevents the alert."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surveillance_pipelines.contracts.predictions import AnomalyKinds
from surveillance_pipelines.evaluation.independent_anomalies import plant_independent
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.views import CORE_V2
from surveillance_pipelines.models.bundle import FEATURES_FILE, load_bundle
from surveillance_pipelines.models.bundle_predictions import BundlePredictions, gather_rows
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.explanations import alert_explanation, explanation
from surveillance_pipelines.models.feature_groups import CONTEXT, GROUPS, groups_of, in_words
from surveillance_pipelines.models.ordinary_values import ORDINARY
from surveillance_pipelines_tests.models.edited_bundles import edit_json, write_v2
from surveillance_pipelines_tests.training.tiny_bundle import TINY_LAST, build_tiny_bundle, tiny_market

Explained = dict[str, Any]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("explained") / "bundle"
    build_tiny_bundle(found)
    return found


@pytest.fixture(scope="module")
def ensemble(path: Path) -> Ensemble:
    return Ensemble(load_bundle(path))


@pytest.fixture(scope="module")
def columns(path: Path) -> tuple[str, ...]:
    return load_bundle(path).view.columns


@pytest.fixture(scope="module")
def alerts(ensemble: Ensemble, columns: tuple[str, ...]) -> np.ndarray:
    """Alerting bars with planted anomalies of other shapes than those of the training."""
    bars, sessions = tiny_market()
    changed = plant_independent(bars, sessions, size="full", seed=1)
    rows = features_of_days(changed.bars, [TINY_LAST], sessions).select(columns).to_numpy()
    found = rows[ensemble.predict(rows).is_anomaly]
    assert len(found) > 30
    return found


@pytest.fixture
def quiet(ensemble: Ensemble, columns: tuple[str, ...]) -> np.ndarray:
    bars, sessions = tiny_market()
    rows = features_of_days(bars, [TINY_LAST], sessions).select(columns).to_numpy()
    known = np.isfinite(rows).all(axis=1)
    return rows[known][ensemble.predict(rows[known]).anomaly_score.argmin()]


def explained(ensemble: Ensemble, bar: np.ndarray) -> tuple[Explained, BundlePredictions]:
    predictions = ensemble.predict(bar[np.newaxis])
    told = alert_explanation(predictions, 0, bar[np.newaxis])
    return json.loads(json.dumps(told, allow_nan=False)), predictions


def deciding(predictions: BundlePredictions) -> str:
    return predictions.detectors[int(predictions.detector_scores[0].argmax())]


@pytest.mark.requirement("BEY-09")
def test_contributions_add_up_to_the_score_whichever_detector_decides(
    ensemble: Ensemble, alerts: np.ndarray, quiet: np.ndarray, columns: tuple[str, ...]
):
    floored = quiet.copy()
    floored[columns.index("volume_z")] = 29.0
    without_tails = ensemble.without(["tail_detector"])
    cases = [(ensemble, bar) for bar in alerts] + [(ensemble.without(["tail_detector", "classifier"]), floored)]
    cases += [(without_tails, bar) for bar in alerts if without_tails.predict(bar[np.newaxis]).is_anomaly[0]]
    decided = set()
    for models, bar in cases:
        told, predictions = explained(models, bar)
        parts = [part["contribution"] for part in told["contributions"]]
        assert sum(map(abs, parts)) == pytest.approx(predictions.anomaly_score[0], abs=1e-9)
        assert [abs(part) for part in parts] == sorted(map(abs, parts), reverse=True)
        assert not {part["name"] for part in told["contributions"]} & CONTEXT
        decided.add(deciding(predictions))
    assert decided == {"tail_detector", "classifier", "floors"}


def test_contribution_is_negative_below_the_expected_value_and_positive_above(
    ensemble: Ensemble, alerts: np.ndarray, columns: tuple[str, ...]
):
    for bar in alerts:
        told, _ = explained(ensemble, bar)
        for part in told["contributions"]:
            assert part["value"] == bar[columns.index(part["name"])]
            assert (part["contribution"] < 0.0) == (part["value"] < part["expected"])


@pytest.mark.requirement("BEY-09")
@pytest.mark.parametrize(("name", "size"), [("volume_z", 29.0), ("return_z", -29.0), ("range_ratio", 60.0)])
def test_single_extreme_value_has_the_largest_contribution(
    ensemble: Ensemble, quiet: np.ndarray, columns: tuple[str, ...], name: str, size: float
):
    bar = quiet.copy()
    bar[columns.index(name)] = size
    bar[columns.index("new_session")] = 0.0
    calm = ensemble.without(["classifier"])
    told, _ = explained(calm, bar)
    (largest, *_) = told["contributions"]
    assert largest["name"] == name
    assert largest["contribution"] * size > 0.0
    (change,) = told["would_not_alert_if"]
    assert change["name"] == name
    assert min(size, 0.0) < change["instead"] < max(size, 0.0) or abs(change["instead"]) < abs(size)


@pytest.mark.requirement("BEY-09")
def test_change_prevents_the_alert_and_moves_towards_the_expected_values(
    ensemble: Ensemble, alerts: np.ndarray, columns: tuple[str, ...]
):
    found = 0
    for bar in alerts:
        changes = explained(ensemble, bar)[0]["would_not_alert_if"]
        if changes is None:
            continue
        changed = bar.copy()
        for change in changes:
            changed[columns.index(change["name"])] = change["instead"]
        assert not ensemble.predict(changed[np.newaxis]).is_anomaly[0]
        found += 1
    assert found >= 0.95 * len(alerts)


def test_explanation_is_the_same_in_every_batch(ensemble: Ensemble, alerts: np.ndarray):
    whole = ensemble.predict(alerts)
    single = [ensemble.predict(bar[np.newaxis]) for bar in alerts[:5]]
    gathered = gather_rows([(each, 0) for each in single])
    for i in range(5):
        window = alerts[i][np.newaxis]
        assert alert_explanation(whole, i, window) == alert_explanation(gathered, i, window)


def test_bar_without_an_alert_is_explained_without_another_run_of_the_models(
    ensemble: Ensemble, quiet: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    predictions = ensemble.predict(quiet[np.newaxis])
    monkeypatch.setattr(Ensemble, "predict", lambda *_: pytest.fail("the models ran again"))
    assert alert_explanation(predictions, 0, quiet[np.newaxis]) == explanation(predictions, 0)


def test_summary_names_the_value_the_expected_value_and_the_change_in_words(
    ensemble: Ensemble, quiet: np.ndarray, columns: tuple[str, ...]
):
    bar = quiet.copy()
    bar[columns.index("volume_z")], bar[columns.index("volume_ratio")] = 12.0, 14.0
    told, _ = explained(ensemble.without(["classifier"]), bar)
    assert "volume 14 times its usual size (expected " in told["summary"]
    assert "would not alert with volume " in told["summary"]


def test_model_that_fails_during_the_explanation_leaves_the_alert_and_its_reason(
    ensemble: Ensemble, alerts: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    predictions = ensemble.predict(alerts[:1])

    def fail(window: np.ndarray) -> AnomalyKinds:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ensemble.models["classifier"], "predict", fail)
    told = alert_explanation(predictions, 0, alerts[:1])
    assert "out of memory" in told["explanation_incomplete"]
    assert {name: value for name, value in told.items() if name != "explanation_incomplete"} == explanation(
        predictions, 0
    )


def test_bundle_without_ordinary_values_explains_as_before(tmp_path: Path, path: Path, alerts: np.ndarray):
    old = Ensemble(load_bundle(write_v2(tmp_path / "v2")))
    rows = np.full((1, alerts.shape[1]), 1e3)
    predictions = old.predict(rows)
    assert predictions.is_anomaly[0]
    assert alert_explanation(predictions, 0, rows) == explanation(predictions, 0)
    with pytest.raises(ValueError, match="expected a bundle with ordinary values"):
        old.explain(rows)

    copied = tmp_path / "copied"
    build_tiny_bundle(copied)
    edit_json(copied, FEATURES_FILE, lambda reference: reference.pop(ORDINARY))
    predictions = Ensemble(load_bundle(copied)).predict(alerts)
    assert alert_explanation(predictions, 0, alerts[:1]) == explanation(predictions, 0)


def test_every_model_column_is_context_or_in_one_group():
    listed = [name for names in GROUPS.values() for name in names]
    assert len(listed) == len(set(listed))
    assert set(listed) | CONTEXT == set(CORE_V2.model_columns)
    assert not set(listed) & CONTEXT
    assert sorted(k for group in groups_of(CORE_V2.columns) for k in group) == sorted(
        place for place, name in enumerate(CORE_V2.columns) if name not in CONTEXT
    )


def test_feature_without_words_is_named():
    assert in_words("volume_ratio", 14.2) == "volume 14.2 times its usual size"
    assert in_words("log_return", 0.031) == "move of 3.1% in the minute"
    assert in_words("rsi_14", 91.0) == "rsi_14 91"
