"""Members of other kinds than those of today's bundles: out of service, reading statistics, or declared wrongly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surveillance_pipelines.contracts.predictions import AnomalyScores, EmbeddingDistances, PredictionKind, Predictions
from surveillance_pipelines.engine.model_guard import ModelGuard
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.bundle import Bundle
from surveillance_pipelines.models.contract import InputSpec, ModelFailedError, OutputSpec
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.fusion import LARGEST
from surveillance_pipelines.models.kinds import KINDS, ModelKind
from surveillance_pipelines.models.members import BundleError, MemberSpec

ROWS = np.ones((3, len(CORE_V1.columns)))
SCORED = {"rule": "threshold", "threshold": 0.5}


class FakeModel:
    """Returns what a function makes of its window; fails while ``broken``."""

    def __init__(self, spec: MemberSpec, compute: Callable[[np.ndarray], Predictions]) -> None:
        self.id, self.input, self.output = spec.id, spec.input, spec.output
        self.broken = False
        self.seen: list[np.ndarray] = []
        self._compute = compute

    def predict(self, window: np.ndarray) -> Predictions:
        self.seen.append(window)
        if self.broken:
            raise RuntimeError("out of memory")
        return self._compute(window)


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(name: str, output: PredictionKind, compute: Callable[[np.ndarray], Predictions]) -> None:
        kind = ModelKind(name, output, lambda spec, _: FakeModel(spec, compute), "A fake.", frozenset())
        monkeypatch.setitem(KINDS, name, kind)

    add("distances", "embedding_distance", lambda window: EmbeddingDistances(np.full(len(window), 0.8)))
    add("scores", "anomaly_score", lambda window: AnomalyScores(np.full(len(window), 0.25)))


def member(name: str, kind: str, output: PredictionKind, **options) -> MemberSpec:
    columns, statistic = options.pop("columns", ("log_return",)), options.pop("statistic", None)
    input_spec = InputSpec(options.pop("view", "core_v1"), columns, timeframe=options.pop("timeframe", "1m"))
    return MemberSpec(
        name=name, kind=kind, version="1", files=(), file_hashes=(), input=input_spec,
        output=OutputSpec(output, statistic=statistic), calibration=options.pop("calibration", SCORED), **options,
    )  # fmt: skip


def memory(**options) -> MemberSpec:
    return member("memory", "distances", "embedding_distance", statistic="distance", **options)


def reader(**options) -> MemberSpec:
    return member("reader", "scores", "anomaly_score", columns=("log_return", "memory.distance"), **options)


def ensemble_of(*members: MemberSpec) -> Ensemble:
    return Ensemble(
        Bundle(
            path=Path(), bundle_hash="0" * 64, format=2, manifest={}, view=CORE_V1, files={}, members=members,
            fusion=LARGEST, features={}, config={},
        )
    )  # fmt: skip


def fake(ensemble: Ensemble, name: str) -> FakeModel:
    model = ensemble.models[name]
    assert isinstance(model, FakeModel)
    return model


def test_failing_embedding_member_is_excluded_with_score_0_and_a_missing_statistic():
    ensemble = ensemble_of(memory(), reader())
    guard = ModelGuard(ensemble, cooldown=1)
    whole = guard.predict(ROWS, 0)
    assert whole.anomaly_score.tolist() == [0.8] * 3
    assert whole.statistic("distance").tolist() == [0.8] * 3
    fake(ensemble, "memory").broken = True
    without = guard.predict(2 * ROWS, 1)
    assert (without.excluded, without.detectors) == (("memory",), ("memory", "reader"))
    assert without.detector_score("memory").tolist() == [0.0] * 3
    assert without.anomaly_score.tolist() == [0.25] * 3
    assert np.isnan(without.statistic("distance")).all()
    assert np.isnan(fake(ensemble, "reader").seen[-1][:, 0, 1]).all()


@pytest.mark.parametrize(
    "members",
    [
        (memory(serves=False), reader()),
        (reader(), memory()),
        (reader(),),
        (member("memory", "distances", "embedding_distance"), reader()),
    ],
    ids=["not_serving", "later", "absent", "without_statistic"],
)
def test_member_that_reads_a_statistic_that_no_serving_member_before_it_provides_is_a_bundle_error(members):
    with pytest.raises(BundleError, match=r"member 'reader' .* it reads \['memory.distance'\]") as refused:
        ensemble_of(*members)
    assert refused.value.remedy == "use another bundle, or train a new one"


def test_member_that_does_not_serve_may_read_any_statistic():
    assert ensemble_of(reader(serves=False), memory()).predict(ROWS).anomaly_score.tolist() == [0.8] * 3


@pytest.mark.parametrize("options", [{"calibration": SCORED}, {"calibration": None, "statistic": "move"}])
def test_statistic_of_a_member_that_is_no_detector_is_a_bundle_error(options, monkeypatch):
    kind = ModelKind("moves", "price_forecast", lambda spec, _: FakeModel(spec, AnomalyScores), "A fake.", frozenset())
    monkeypatch.setitem(KINDS, kind.name, kind)
    with pytest.raises(BundleError, match="'moves' with output 'price_forecast'"):
        ensemble_of(memory(), member("moves", "moves", "price_forecast", **options))


@pytest.mark.parametrize("serves", [True, False])
@pytest.mark.parametrize(
    ("options", "got"), [({"view": "core_v9"}, "'core_v9' of 1m bars"), ({"timeframe": "5m"}, "'core_v1' of 5m bars")]
)
def test_member_of_another_view_or_timeframe_is_a_bundle_error(options, got, serves):
    with pytest.raises(BundleError, match=f"feature view 'core_v1' of 1m bars, got {got}"):
        ensemble_of(memory(), member("other", "scores", "anomaly_score", serves=serves, **options))


def test_member_that_declares_another_output_than_its_kind_is_a_bundle_error():
    with pytest.raises(BundleError, match=r"expected the output 'anomaly_score' .* got 'embedding_distance'"):
        ensemble_of(member("other", "scores", "embedding_distance"))


def test_member_that_returns_another_output_than_it_declares_is_excluded(monkeypatch):
    def load(spec: MemberSpec, _) -> FakeModel:
        return FakeModel(spec, lambda window: EmbeddingDistances(np.ones(len(window))))

    monkeypatch.setitem(KINDS, "odd", ModelKind("odd", "anomaly_score", load, "A fake.", frozenset()))
    ensemble = ensemble_of(memory(), member("odd", "odd", "anomaly_score"))
    assert ModelGuard(ensemble, cooldown=1).predict(ROWS, 0).excluded == ("odd",)
    with pytest.raises(ModelFailedError, match="got predictions of kind embedding_distance"):
        ensemble.warm_up()


def odd_member(monkeypatch: pytest.MonkeyPatch, compute: Callable[[int], Predictions]) -> MemberSpec:
    """Return a detector beside the embedding's that returns what a function makes of the number of rows."""

    def load(spec: MemberSpec, _: object) -> FakeModel:
        return FakeModel(spec, lambda window: compute(len(window)))

    monkeypatch.setitem(KINDS, "odd", ModelKind("odd", "anomaly_score", load, "A fake.", frozenset()))
    knots = {"rule": "knots", "statistic": [-1e308, 1e308], "score": [0.0, 1.0]}
    return replace(memory(), name="odd", kind="odd", output=OutputSpec("anomaly_score"), calibration=knots)


INVALID: dict[str, Callable[[int], Any]] = {
    "calibrated_to_nan": lambda rows: AnomalyScores(np.full(rows, 1e308)),
    "too_few_rows": lambda rows: AnomalyScores(np.zeros(rows - 1)),
    "too_many_dimensions": lambda rows: AnomalyScores(np.zeros((rows, 1))),
    "objects": lambda rows: AnomalyScores(np.array(["a"] * rows, dtype=object)),
    "contributions_of_other_columns": lambda rows: AnomalyScores(np.zeros(rows), np.zeros((rows, 2))),
    "contributions_nan": lambda rows: AnomalyScores(np.zeros(rows), np.full((rows, 1), np.nan)),
    "nothing": lambda rows: None,
}


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
@pytest.mark.parametrize("name", INVALID)
def test_member_whose_answer_is_invalid_is_excluded_and_the_others_serve(monkeypatch, name: str) -> None:
    ensemble: Ensemble = ensemble_of(memory(), odd_member(monkeypatch, INVALID[name]))
    with pytest.raises(ModelFailedError) as failed:
        ensemble.predict(ROWS)
    assert failed.value.model == "odd"
    answer = ModelGuard(ensemble, cooldown=1).predict(ROWS, 0)
    assert answer.excluded == ("odd",)
    assert answer.anomaly_score.tolist() == [0.8] * 3
