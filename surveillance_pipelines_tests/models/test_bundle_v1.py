"""A bundle of format 1, written by the release that introduced it, predicts and explains as it did then."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.explanations import explanation
from surveillance_pipelines.models.runtime import runtime_hash
from surveillance_pipelines.models.warmup import WarmupRules

FOLDER = Path(__file__).parent / "v1"
RECORDED: dict[str, Any] = json.loads((FOLDER / "outputs.json").read_text())
FEATURES = np.array([[float.fromhex(value) for value in row] for row in RECORDED["features"]])
NUMBERS = {
    "anomaly_score": lambda found: found.anomaly_score,
    "confidence": lambda found: found.confidence,
    "reconstruction_error": lambda found: found.statistic("reconstruction_error"),
    "autoencoder_score": lambda found: found.detector_score("autoencoder"),
    "classifier_score": lambda found: found.detector_score("rules" if "rules" in found.detectors else "classifier"),
    "probabilities": lambda found: found.probabilities,
    "top_shares": lambda found: found.top_shares,
    "top_values": lambda found: found.top_values,
    "direction_probabilities": lambda found: found.direction_probabilities,
}


def assert_recorded(found: BundlePredictions, recorded: dict[str, Any]) -> None:
    exact = runtime_hash() == RECORDED["runtime_hash"]
    for name, read in NUMBERS.items():
        expected = np.array([[float.fromhex(value) for value in row] for row in recorded[name]])
        got = read(found).reshape(expected.shape)
        if exact:
            np.testing.assert_array_equal(got, expected, err_msg=name)
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6, err_msg=name)
    assert found.kinds == recorded["kind"]
    assert list(found.excluded) == recorded["models_out"]
    told = [explanation(found, i) for i in range(len(found))]
    assert [list(each) for each in told] == [list(each) for each in recorded["explanations"]], "keys and their order"
    if exact:
        assert json.dumps(told) == json.dumps(recorded["explanations"])


@pytest.mark.parametrize("case", list(RECORDED["cases"]))
def test_bundle_v1_predicts_and_explains_as_recorded(case: str):
    excluded = tuple(name for name in case.split(",") if name)
    ensemble = Ensemble(load_bundle(FOLDER / "bundle", expected_hash=RECORDED["bundle_hash"]))
    if ensemble.detectors <= set(excluded):
        assert_recorded(WarmupRules(excluded).predict(FEATURES), RECORDED["cases"][case])
    else:
        assert_recorded(ensemble.without(excluded).predict(FEATURES), RECORDED["cases"][case])


def test_warmup_rules_predict_and_explain_as_recorded():
    assert_recorded(WarmupRules().predict(FEATURES), RECORDED["warmup"])


def test_bundle_v1_lists_its_three_models_as_members():
    bundle = load_bundle(FOLDER / "bundle")
    assert bundle.format == 1
    assert [(spec.name, spec.kind, spec.serves) for spec in bundle.members] == [
        ("autoencoder", "autoencoder", True),
        ("classifier", "classifier", True),
        ("direction", "direction", False),
    ]
    assert bundle.member("classifier").input.derived_columns == ("autoencoder.reconstruction_error",)
