"""The models of one bundle as one predictor, used by the live lane, batch scoring and replay.

Results are bit-identical however rows are split into batches: sums run in a fixed order, on one thread.
"""

from collections.abc import Collection, Mapping
from copy import copy
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.outputs import UNCLASSIFIED
from surveillance_pipelines.contracts.predictions import (
    NORMAL,
    AnomalyKinds,
    AnomalyScores,
    Directions,
    EmbeddingDistances,
    Predictions,
)
from surveillance_pipelines.models.alert_explainer import AlertExplainer
from surveillance_pipelines.models.arrays import as_window, pad_rows
from surveillance_pipelines.models.bundle import Bundle
from surveillance_pipelines.models.bundle_predictions import (
    BundlePredictions,
    Wording,
    concatenate,
    first_rows,
    top_contributions,
)
from surveillance_pipelines.models.calibration import THRESHOLD, Calibration, calibration_of
from surveillance_pipelines.models.contract import SEPARATOR, FeatureWindow, Model, ModelFailedError
from surveillance_pipelines.models.fusion import (
    FLOORED,
    FLOORS_DETECTOR,
    FUSIONS,
    Fused,
    floor_column_scores,
    floor_scores,
    fuse_largest,
    fuse_with_floors,
)
from surveillance_pipelines.models.kinds import load_model
from surveillance_pipelines.models.member_checks import (
    DETECTOR_KINDS,
    OTHER_BUNDLE,
    find_problem,
    require_detector,
    require_members,
)
from surveillance_pipelines.models.members import BundleError, MemberSpec
from surveillance_pipelines.models.momentum import MOMENTUM_HORIZON_MINUTES, momentum_probabilities
from surveillance_pipelines.models.ordinary_values import ORDINARY, parse_ordinary
from surveillance_pipelines.models.runtime import MAX_BATCH_ROWS, MIN_BATCH_ROWS
from surveillance_pipelines.models.tail_detector import TailDetector
from surveillance_pipelines.models.training_domain import TrainingDomain

Floats = npt.NDArray[np.float64]


class Predictor(Protocol):
    """Predicts from feature windows: the models of a bundle, or the warm-up rules."""

    @property
    def bundle_hash(self) -> str: ...

    @property
    def feature_view(self) -> str: ...

    @property
    def window_length(self) -> int:
        """Bars per window, including the scored bar."""
        ...

    @property
    def model_ids(self) -> tuple[str, ...]:
        """Ids of the serving models; empty for the warm-up rules."""
        ...

    @property
    def training_domain(self) -> TrainingDomain | None:
        """Domain of the training data; None for the warm-up rules, which are not trained."""
        ...

    @property
    def warmup(self) -> bool: ...

    @property
    def horizon_minutes(self) -> int: ...

    def warm_up(self) -> None: ...

    def predict(self, window: FeatureWindow) -> BundlePredictions: ...


class Ensemble:
    """Predicts with the models of one bundle.

    Raises:
        BundleError: if a member cannot be loaded, or the members do not fit each other or the bundle's feature view.
    """

    warmup: bool = False

    def __init__(self, bundle: Bundle) -> None:
        if bundle.fusion not in FUSIONS:
            raise BundleError(
                f"expected a fusion rule among {list(FUSIONS)}, got {bundle.fusion!r}", remedy="use a newer release"
            )
        require_members(bundle.members, bundle.view)
        self.bundle_hash: Final = bundle.bundle_hash
        self.feature_view: Final = bundle.view.name
        self.training_domain: Final = TrainingDomain.of_manifest(bundle.manifest)
        self.members: Final = {spec.name: spec for spec in bundle.members}
        self.models: dict[str, Model] = {spec.name: load_model(spec, bundle.files) for spec in bundle.members}
        self.window_length: Final = max(spec.input.length for spec in bundle.members)
        self.model_ids: Final = tuple(spec.id for spec in bundle.members if spec.serves)
        self.horizon_minutes: Final = _horizon(bundle.members)
        self._columns: Final = bundle.view.columns
        serving = [spec for spec in bundle.members if spec.serves]
        require_detector(bundle.members)
        self._member_inputs: Final = {spec.name: _MemberInput.of(spec, bundle.view.columns) for spec in serving}
        self._calibrations: Final[dict[str, Calibration]] = {
            spec.name: calibration_of(spec.calibration) for spec in serving if spec.calibration is not None
        }
        self._statistics: Final = {spec.output.statistic: spec.name for spec in serving if spec.output.statistic}
        self._wording: Final[Wording] = "v1" if bundle.format == 1 else "v2"
        self._has_floors: Final = bundle.fusion == FLOORED
        self.ordinary: Final = parse_ordinary(bundle.features.get(ORDINARY), bundle.view.columns)
        self._excluded: frozenset[str] = frozenset()

    @property
    def detectors(self) -> frozenset[str]:
        """Serving members whose score can raise an alert."""
        return frozenset(self._calibrations)

    def without(self, members: Collection[str]) -> "Ensemble":
        """Return an ensemble of the same bundle that does not run some of its members.

        An excluded detector has score 0, and its statistic is missing for members that read it. Without the classifying
        member, anomalous bars are ``unclassified``. Without the direction model, momentum probabilities are used.

        Args:
            members: names of members.
        """
        other = copy(self)
        other._excluded = frozenset(members)  # noqa: SLF001 (same class)
        return other

    def warm_up(self) -> None:
        """Run every serving model once, so that lazy initialisation does not delay the first bar."""
        self.predict(np.zeros((MIN_BATCH_ROWS, self.window_length, len(self._columns))))

    def predict(self, window: FeatureWindow) -> BundlePredictions:
        """Return the predictions for n bars.

        Args:
            window: float64[n, length, F], the view's columns in order, NaN for missing features; the last
                ``window_length`` rows of each window are used. float64[n, F] is accepted for windows of one bar.

        Raises:
            ValueError: if the shape does not match.
            ModelFailedError: if a member or its calibration raises, or returns NaN, infinity or predictions of another
                kind or shape.
        """
        window = as_window(window, len(self._columns), self.window_length)
        starts = range(0, max(len(window), 1), MAX_BATCH_ROWS)
        return concatenate([self._predict_piece(window[start : start + MAX_BATCH_ROWS]) for start in starts])

    def explain(self, window: Floats) -> dict[str, Any]:
        """Return contributions, changes and words that explain an alert (``alert_explainer.py``), JSON-safe.

        Raises:
            ValueError: if the bundle records no ordinary values.
            ModelFailedError: if a member fails.
        """
        if self.ordinary is None:
            raise ValueError("expected a bundle with ordinary values, got one without")
        return AlertExplainer(self, self.ordinary, self._columns).explain(window).to_json()

    def column_scores(self, window: FeatureWindow) -> Floats:
        """Return the largest score per column that the tail detectors and the floors give a bar, float64[F].

        Args:
            window: float64[length, F].
        """
        found = floor_column_scores(window[-1], self._columns) if self._has_floors else np.zeros(len(self._columns))
        for name, calibration in self._calibrations.items():
            if name not in self._excluded and isinstance(self.models[name], TailDetector):
                scored: Any = self.predict_member(name, window[np.newaxis])
                places, sizes = self._member_inputs[name].indices, scored.contributions[0]
                found[places] = np.maximum(found[places], np.where(sizes > 0.0, calibration(sizes), 0.0))
        return found

    def predict_member(self, name: str, window: FeatureWindow) -> Predictions:
        """Return one member's predictions, whether or not it serves; for evaluation.

        Raises:
            ValueError: if the member reads statistics of other members.
        """
        spec = self.members[name]
        if spec.input.derived_columns:
            raise ValueError(f"expected a member that reads features only, {name} reads {spec.input.derived_columns}")
        padded = pad_rows(as_window(window, len(self._columns), self.window_length), MIN_BATCH_ROWS)
        return first_rows(
            self._run_member(name, self._select(padded, _MemberInput.of(spec, self._columns))), len(window)
        )

    def _predict_piece(self, window: FeatureWindow) -> BundlePredictions:
        rows = len(window)
        predictions, inputs = self._predict_members(pad_rows(window, MIN_BATCH_ROWS))
        scores = {name: self._score(name, predictions[name], rows) for name in self._calibrations}
        classifier, kinds = self._kinds(predictions, rows)
        if self._has_floors:
            scores[FLOORS_DETECTOR] = floor_scores(window[:, -1, :], self._columns)
        fused = self._fuse(classifier, kinds, scores, window[:, -1, :])
        names, top, shares, values = self._top_contributions(predictions, inputs, rows)
        return BundlePredictions(
            anomaly_score=fused.score,
            threshold=THRESHOLD,
            kind_codes=fused.kind_codes,
            kind_names=(*kinds.labels, UNCLASSIFIED),
            confidence=fused.confidence,
            detectors=tuple(scores),
            detector_scores=np.array(list(scores.values())).T.reshape(rows, len(scores)),
            statistics={key: _statistic(predictions[name])[:rows] for key, name in self._statistics.items()},
            labels=kinds.labels,
            probabilities=kinds.probabilities,
            feature_names=names,
            top_features=top,
            top_shares=shares,
            top_values=values,
            direction_probabilities=self._directions(predictions, window),
            direction_ready=any(isinstance(each, Directions) for each in predictions.values()),
            others=self._others(predictions, rows),
            refused_kinds=fused.refused,
            excluded=tuple(sorted(self._excluded)),
            wording=self._wording,
            explainer=None if self.ordinary is None else self,
        )

    def _fuse(self, classifier: str, kinds: AnomalyKinds, scores: Mapping[str, Floats], features: Floats) -> Fused:
        own = scores.get(classifier, np.zeros(len(features)))
        others = [score for name, score in scores.items() if name != classifier]
        if self._has_floors:
            return fuse_with_floors(kinds, own, others, features=features, columns=self._columns)
        return fuse_largest(kinds, own, others)

    def _predict_members(self, padded: FeatureWindow) -> tuple[dict[str, Predictions], dict[str, FeatureWindow]]:
        """Run every serving member in order; return predictions and inputs of the padded rows, by member."""
        predictions: dict[str, Predictions] = {}
        inputs: dict[str, FeatureWindow] = {}
        selected: dict[tuple[Any, ...], FeatureWindow] = {}
        statistics: dict[str, Floats] = {}
        for name, member in self._member_inputs.items():
            excluded = name in self._excluded
            if excluded and member.spec.output.kind not in DETECTOR_KINDS:
                continue
            if member.key not in selected:
                selected[member.key] = self._select(padded, member)
            inputs[name] = _with_statistics(selected[member.key], member.derived, statistics)
            predictions[name] = (
                _placeholder(member.spec, len(padded)) if excluded else self._run_member(name, inputs[name])
            )
            if member.provides is not None:
                statistics[member.provides] = _statistic(predictions[name])
        return predictions, inputs

    def _select(self, padded: FeatureWindow, member: "_MemberInput") -> FeatureWindow:
        recent = padded if member.length == padded.shape[1] else padded[:, -member.length :, :]
        return recent.take(member.indices, axis=2)

    def _run_member(self, name: str, window: FeatureWindow) -> Predictions:
        try:
            predictions = self.models[name].predict(window)
            problem = find_problem(self.members[name], predictions, len(window))
        except Exception as error:  # ONNX Runtime raises many types; the breaker needs to know which member failed
            raise ModelFailedError(name, repr(error)) from error
        if problem is not None:
            raise ModelFailedError(name, problem)
        return predictions

    def _score(self, name: str, prediction: Predictions, rows: int) -> Floats:
        if name in self._excluded:
            return np.zeros(rows)
        try:
            score = self._calibrations[name](_statistic(prediction)[:rows])
        except Exception as error:  # as in _run_member
            raise ModelFailedError(name, f"{error!r} from its calibration") from error
        if not np.isfinite(score).all():
            raise ModelFailedError(name, "NaN or infinity from its calibration")
        return score

    def _kinds(self, predictions: Mapping[str, Predictions], rows: int) -> tuple[str, AnomalyKinds]:
        """Return the classifying member and its probabilities; without such a member, only the label ``normal``."""
        for name, prediction in predictions.items():
            if isinstance(prediction, AnomalyKinds):
                return name, AnomalyKinds(prediction.labels, prediction.probabilities[:rows])
        return "", AnomalyKinds.absent(rows, (NORMAL,))

    def _top_contributions(
        self, predictions: Mapping[str, Predictions], inputs: Mapping[str, FeatureWindow], rows: int
    ) -> tuple[tuple[str, ...], npt.NDArray[np.int64], Floats, Floats]:
        """Return a detector's column names, and the columns, shares and values of its largest contributions."""
        for name, prediction in predictions.items():
            if isinstance(prediction, AnomalyScores) and prediction.contributions is not None:
                values = inputs[name][:rows, -1, :]
                return self.members[name].input.columns, *top_contributions(prediction.contributions[:rows], values)
        zeros = np.zeros((rows, len(self._columns)))
        return self._columns, *top_contributions(zeros, zeros)

    def _directions(self, predictions: Mapping[str, Predictions], window: FeatureWindow) -> Floats:
        for prediction in predictions.values():
            if isinstance(prediction, Directions):
                return prediction.probabilities[: len(window)]
        return momentum_probabilities(window[:, -1, :], self._columns)

    def _others(self, predictions: Mapping[str, Predictions], rows: int) -> dict[str, Predictions]:
        return {
            name: first_rows(prediction, rows)
            for name, prediction in predictions.items()
            if not isinstance(prediction, Directions) and prediction.kind not in DETECTOR_KINDS
        }


def warmed_ensemble(bundle: Bundle) -> Ensemble:
    """Return the models of a bundle, after every serving one has predicted once.

    Raises:
        BundleError: if the bundle cannot serve: its models cannot be loaded, or one of them fails on ordinary input.
    """
    ensemble = Ensemble(bundle)
    try:
        ensemble.warm_up()
    except ModelFailedError as error:
        raise BundleError(f"expected the bundle in {bundle.path} to serve: {error}", remedy=OTHER_BUNDLE) from error
    return ensemble


class _MemberInput(NamedTuple):
    """A member's input and statistic, prepared once: reading the specification takes longer than a small model."""

    spec: MemberSpec
    length: int
    indices: npt.NDArray[np.intp]  # of its view columns
    key: tuple[int, tuple[str, ...]]  # equal for members that read the same features
    derived: tuple[str, ...]
    provides: str | None

    @classmethod
    def of(cls, spec: MemberSpec, columns: tuple[str, ...]) -> "_MemberInput":
        names, statistic = spec.input.view_columns, spec.output.statistic
        return cls(
            spec=spec,
            length=spec.input.length,
            indices=np.array([columns.index(name) for name in names], dtype=np.intp),
            key=(spec.input.length, names),
            derived=spec.input.derived_columns,
            provides=None if statistic is None else f"{spec.name}{SEPARATOR}{statistic}",
        )


def _statistic(prediction: Predictions) -> Floats:
    if isinstance(prediction, (AnomalyScores, AnomalyKinds, EmbeddingDistances)):
        return prediction.statistic
    raise TypeError(f"expected a prediction with a statistic, got {prediction.kind}")


def _placeholder(spec: MemberSpec, rows: int) -> Predictions:
    """Return the placeholder predictions of a detector out of service."""
    if spec.output.kind == "anomaly_kind":
        return AnomalyKinds.absent(rows, spec.output.labels)
    if spec.output.kind == "embedding_distance":
        return EmbeddingDistances.absent(rows)
    return AnomalyScores.absent(rows, len(spec.input.columns))


def _with_statistics(
    window: FeatureWindow, derived: tuple[str, ...], statistics: Mapping[str, Floats]
) -> FeatureWindow:
    """Return a window with the statistics of earlier members as its last columns."""
    if not derived:
        return window
    rows, length, columns = window.shape
    joined = np.empty((rows, length, columns + len(derived)))
    joined[:, :, :columns] = window
    for place, name in enumerate(derived, start=columns):
        joined[:, 0, place] = statistics[name]
    return joined


def _horizon(members: tuple[MemberSpec, ...]) -> int:
    """Return the horizon of the bundle's direction model or, without one, of momentum."""
    horizons = [spec.output.horizons_minutes[0] for spec in members if spec.output.kind == "direction"]
    return horizons[0] if horizons else MOMENTUM_HORIZON_MINUTES
