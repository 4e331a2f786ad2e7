"""Features in, scores out: the one path from a feature vector to an anomaly score, for live, batch and replay.

Two detectors look at each bar. The autoencoder says how badly it reproduces the bar, the classifier how likely it
finds an anomaly of a known kind. Each is mapped to 0..1 with 0.5 at its own alert threshold, and the larger wins.
Everything here is the same bit for bit however rows are cut into batches: sums run in a fixed order, one thread.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.outputs import UNCLASSIFIED
from surveillance_pipelines.models.bundle import AUTOENCODER_FILE, CLASSIFIER_FILE, DIRECTION_FILE, Bundle, Scaling
from surveillance_pipelines.models.momentum import momentum_probabilities
from surveillance_pipelines.models.runtime import MAX_BATCH_ROWS, MIN_BATCH_ROWS, inference_session

Floats = npt.NDArray[np.float64]
_Answer = TypeVar("_Answer", Floats, tuple[Floats, Floats])

NORMAL: Final = "normal"
"""The label of a bar that nothing is wrong with, first among the classifier's labels."""

THRESHOLD: Final = 0.5
"""Where both detectors' scores cross their alert thresholds."""

DIRECTIONS: Final = ("SELL", "HOLD", "BUY")
"""Order of the direction probabilities; classes 0, 1, 2."""

AUTOENCODER: Final = "autoencoder"
CLASSIFIER: Final = "classifier"
DIRECTION: Final = "direction"
MODELS: Final = (AUTOENCODER, CLASSIFIER, DIRECTION)
"""Names of a bundle's models."""

TOP_FEATURES: Final = 3

FLOAT32_END: Final = float(np.finfo(np.float32).max)

_ENDS: Final[WeakKeyDictionary[Any, tuple[str, list[str]]]] = WeakKeyDictionary()
"""Names of a session's input and last output: asking it for them takes as long as running a small model."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scores:
    """What a scorer says about n bars.

    Attributes:
        anomaly_score: float64[n], 0..1.
        threshold: a bar is an anomaly where ``anomaly_score >= threshold``.
        is_anomaly: bool[n].
        kind: one of the labels, ``unclassified``, or ``normal`` where the bar is no anomaly.
        confidence: float64[n], the probability of ``kind``; for ``unclassified`` the autoencoder's score.
        reconstruction_error: float64[n], mean squared error in scaled units; NaN in warm-up.
        autoencoder_score: float64[n], 0..1; 0 in warm-up.
        classifier_score: float64[n], 0..1; the rules' score in warm-up.
        labels: names of the columns of ``probabilities``, ``normal`` first.
        probabilities: float64[n, len(labels)].
        feature_names: names that ``top_features`` points into.
        top_features: int64[n, 3], the features that explain the score best, best first.
        top_shares: float64[n, 3], their part of the whole, 0..1.
        top_values: float64[n, 3], their values as the kernel gave them; NaN where missing.
        direction_probabilities: float64[n, 3], order ``DIRECTIONS``.
        models_out: models that were not asked, because they have failed; what they say is a substitute.
        direction_ready: False while no direction model has passed its gate; the probabilities are then momentum's, and
            a signal made of them is marked as warm-up.
    """

    anomaly_score: Floats
    threshold: float
    is_anomaly: npt.NDArray[np.bool_]
    kind: list[str]
    confidence: Floats
    reconstruction_error: Floats
    autoencoder_score: Floats
    classifier_score: Floats
    labels: tuple[str, ...]
    probabilities: Floats
    feature_names: tuple[str, ...]
    top_features: npt.NDArray[np.int64]
    top_shares: Floats
    top_values: Floats
    direction_probabilities: Floats
    direction_ready: bool
    models_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.anomaly_score)


class ModelFailedError(SurveillanceError, code=ErrorCode.FAILED):
    """One model of a bundle raised, or gave what is no number; the others are well.

    Attributes:
        model: its name, of ``MODELS``.
    """

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"expected finite outputs of the {model}, got {reason}")
        self.model = model


class AnomalyScorer(Protocol):
    """Whatever can score feature vectors: a bundle's models, or the warm-up rules."""

    @property
    def bundle_hash(self) -> str: ...

    @property
    def feature_view(self) -> str: ...

    @property
    def warmup(self) -> bool: ...

    @property
    def horizon_minutes(self) -> int: ...

    def warm_up(self) -> None: ...

    def score(self, features: Floats) -> Scores: ...


class Scorer:
    """Scores feature vectors with the models of one bundle."""

    warmup: bool = False

    def __init__(self, bundle: Bundle) -> None:
        self.bundle_hash = bundle.bundle_hash
        self.feature_view = bundle.view.name
        self.horizon_minutes = int(bundle.config["direction"]["horizon_minutes"])
        self._direction_ready = bool(bundle.config["direction"]["ready"])
        self._view_columns = bundle.view.columns
        self._columns = np.array([bundle.view.columns.index(name) for name in bundle.model_columns], dtype=np.intp)
        self._names = bundle.model_columns
        self._scaling = bundle.scaling
        self._labels = tuple(bundle.config["labels"])
        self._classifier_threshold = float(bundle.config["classifier"]["threshold"])
        self._calibration = calibration_table(bundle.config["autoencoder"]["calibration"])
        files = (AUTOENCODER_FILE, CLASSIFIER_FILE, DIRECTION_FILE)
        self._sessions = {m: inference_session(bundle.models[file]) for m, file in zip(MODELS, files, strict=True)}
        self._out: frozenset[str] = frozenset()

    def leaving_out(self, models: Collection[str]) -> "Scorer":
        """Return a scorer of the same bundle that does not ask some of its models.

        Without the autoencoder, the classifier sees its error as missing. Without the classifier, no kind is known: a
        bar is at most ``unclassified``. Without the direction model, momentum's probabilities stand in.

        Args:
            models: of ``MODELS``.
        """
        other = copy(self)
        other._out = frozenset(models)  # noqa: SLF001 (its own class)
        return other

    def warm_up(self) -> None:
        """Run every model once, so that the first real bar pays for no lazy initialisation."""
        self.score(np.zeros((MIN_BATCH_ROWS, len(self._view_columns))))

    def score(self, features: Floats) -> Scores:
        """Score bars.

        Args:
            features: float64[n, F], the view's columns in order, NaN where a feature is missing.

        Raises:
            ValueError: if the shape is another.
        """
        features = require_features(features, self._view_columns)
        starts = range(0, max(len(features), 1), MAX_BATCH_ROWS)
        return concatenate([self._score_piece(features[start : start + MAX_BATCH_ROWS]) for start in starts])

    def _score_piece(self, features: Floats) -> Scores:
        rows = len(features)
        inputs = padded = pad_rows(features, MIN_BATCH_ROWS).take(self._columns, axis=1)
        error, squares = self._reconstruct(inputs)
        probabilities = self._classify(inputs, error)[:rows]
        inputs, error, squares = inputs[:rows], error[:rows], squares[:rows]
        nothing = np.zeros(rows)
        autoencoder_score = nothing if AUTOENCODER in self._out else calibrated(error, *self._calibration)
        classifier_score = nothing
        if CLASSIFIER not in self._out:
            classifier_score = centred_on_threshold(1.0 - probabilities[:, 0], self._classifier_threshold)
        score = np.maximum(autoencoder_score, classifier_score)
        kind, confidence = name_kinds(probabilities, self._labels, classifier_score, autoencoder_score)
        top, shares, values = top_contributions(squares, inputs)
        return Scores(
            anomaly_score=score,
            threshold=THRESHOLD,
            is_anomaly=score >= THRESHOLD,
            kind=kind,
            confidence=confidence,
            reconstruction_error=error,
            autoencoder_score=autoencoder_score,
            classifier_score=classifier_score,
            labels=self._labels,
            probabilities=probabilities,
            feature_names=self._names,
            top_features=top,
            top_shares=shares,
            top_values=values,
            direction_probabilities=self._directions(features, padded),
            direction_ready=self._direction_ready and DIRECTION not in self._out,
            models_out=tuple(sorted(self._out)),
        )

    def model_directions(self, features: Floats) -> Floats:
        """Return the direction model's own probabilities, float64[n, 3], whether or not it has passed its gate."""
        inputs = pad_rows(features, MIN_BATCH_ROWS).take(self._columns, axis=1)
        return self._ask(DIRECTION, run_model, as_float32(inputs))[: len(features)]

    def _reconstruct(self, inputs: Floats) -> tuple[Floats, Floats]:
        if AUTOENCODER in self._out:
            return np.full(len(inputs), np.nan), np.zeros_like(inputs)
        scaled = scale(inputs, self._scaling)
        return self._ask(AUTOENCODER, reconstruct, scaled, np.isnan(inputs))

    def _classify(self, inputs: Floats, error: Floats) -> Floats:
        if CLASSIFIER in self._out:
            return np.full((len(inputs), len(self._labels)), 1.0 / len(self._labels))
        return self._ask(CLASSIFIER, run_model, classifier_inputs(inputs, error))

    def _directions(self, features: Floats, inputs: Floats) -> Floats:
        if self._direction_ready and DIRECTION not in self._out:
            return self._ask(DIRECTION, run_model, as_float32(inputs))[: len(features)]
        return momentum_probabilities(features, self._view_columns)

    def _ask(self, model: str, call: Callable[..., _Answer], *inputs: Any) -> _Answer:
        try:
            answer = call(self._sessions[model], *inputs)
        except Exception as error:  # ONNX Runtime raises what it likes; the breaker wants to know which model
            raise ModelFailedError(model, repr(error)) from error
        values = answer[0] if isinstance(answer, tuple) else answer
        if not np.isfinite(values).all():
            raise ModelFailedError(model, "NaN or infinity")
        return answer


def require_features(features: Floats, columns: Sequence[str]) -> Floats:
    """Return ``features`` as float64 after checking that it has one column per column of the view."""
    if features.ndim != 2 or features.shape[1] != len(columns):
        raise ValueError(f"expected features of shape [n, {len(columns)}], was {features.shape}")
    return np.asarray(features, dtype=np.float64)


def pad_rows(values: Floats, rows: int) -> Floats:
    """Return ``values`` with zero rows appended up to ``rows``; longer input is returned as it is."""
    missing = rows - len(values)
    return values if missing <= 0 else np.concatenate([values, np.zeros((missing, values.shape[1]))])


def scale(inputs: Floats, scaling: Scaling) -> npt.NDArray[np.float32]:
    """Return the autoencoder's inputs, float32[n, d]: scaled, clipped, a missing value at the median."""
    scaled = _within((inputs - scaling.center) / scaling.scale, scaling.clip)
    scaled[np.isnan(scaled)] = 0.0
    return scaled.astype(np.float32)


def reconstruct(session: Any, scaled: npt.NDArray[np.float32], missing: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the mean squared error of the present values, float64[n], and its parts, float64[n, d]."""
    difference = scaled.astype(np.float64) - run_model(session, scaled)
    squares = np.where(missing, 0.0, difference * difference)
    present = np.maximum((~missing).sum(axis=1), 1)
    # A running sum adds the columns one after the other; `sum` may pair them otherwise for another number of rows.
    return np.add.accumulate(squares, axis=1)[:, -1] / present, squares


def classifier_inputs(inputs: Floats, error: Floats) -> npt.NDArray[np.float32]:
    """Return the classifier's inputs, float32[n, d + 1]: raw features, NaN as missing, then the error."""
    rows, columns = inputs.shape
    joined = np.empty((rows, columns + 1))
    joined[:, :columns] = inputs
    joined[:, columns] = error
    return as_float32(joined)


def as_float32(values: Floats) -> npt.NDArray[np.float32]:
    """Return ``values`` as float32, infinities and what float32 cannot hold at its ends; NaN stays."""
    return _within(values, FLOAT32_END).astype(np.float32)


def _within(values: Floats, bound: float) -> Floats:
    """Return values cut at ±bound, NaN kept: what ``numpy.clip`` returns, at a third of its overhead on a few rows."""
    return np.minimum(np.maximum(values, -bound), bound)


def run_model(session: Any, inputs: npt.NDArray[np.float32]) -> Floats:
    """Return the last output of an ONNX model (the values, or a classifier's probabilities) as float64."""
    ends = _ENDS.get(session)
    if ends is None:
        ends = _ENDS[session] = session.get_inputs()[0].name, [session.get_outputs()[-1].name]
    return session.run(ends[1], {ends[0]: inputs})[0].astype(np.float64)


def calibration_table(value: Mapping[str, Sequence[float]]) -> tuple[Floats, Floats]:
    """Return the knots (errors, scores) of the autoencoder's calibration, both ascending."""
    return np.asarray(value["error"], dtype=np.float64), np.asarray(value["score"], dtype=np.float64)


def calibrated(error: Floats, knots: Floats, scores: Floats) -> Floats:
    """Return scores of errors by straight lines between knots, flat outside.

    ``numpy.interp`` computes slopes in two ways, by how many values it is given; this has one.
    """
    right = np.minimum(np.maximum(knots.searchsorted(error, side="right"), 1), len(knots) - 1)
    left = right - 1
    part = np.minimum(np.maximum((error - knots[left]) / (knots[right] - knots[left]), 0.0), 1.0)
    return scores[left] + part * (scores[right] - scores[left])


def centred_on_threshold(probability: Floats, threshold: float) -> Floats:
    """Return probabilities bent by two straight lines so that ``threshold`` becomes 0.5, and 0 and 1 stay."""
    below = THRESHOLD * probability / threshold
    above = THRESHOLD + (1.0 - THRESHOLD) * (probability - threshold) / (1.0 - threshold)
    return np.minimum(np.maximum(np.where(probability < threshold, below, above), 0.0), 1.0)


def name_kinds(
    probabilities: Floats, labels: Sequence[str], classifier_score: Floats, autoencoder_score: Floats
) -> tuple[list[str], Floats]:
    """Return the kind of each bar and its confidence: the classifier's word where it is sure of an anomaly."""
    known = classifier_score >= THRESHOLD
    strange = ~known & (autoencoder_score >= THRESHOLD)
    best = np.where(known, 1 + probabilities[:, 1:].argmax(axis=1), 0)
    confidence = np.where(strange, autoencoder_score, probabilities[np.arange(len(best)), best])
    names = (*labels, UNCLASSIFIED)
    return [names[k] for k in np.where(strange, len(labels), best).tolist()], confidence


def top_contributions(parts: Floats, values: Floats) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return the columns with the largest parts, their shares of the row's sum, and their values.

    Parts are at least 0; of equal ones the first column counts.
    """
    top = _largest(parts)
    rows = np.arange(len(parts))[:, np.newaxis]
    total = np.add.accumulate(parts, axis=1)[:, -1:]
    largest = parts[rows, top]
    shares = np.divide(largest, total, out=np.zeros_like(largest), where=total > 0)
    return top, shares, values[rows, top]


def _largest(parts: Floats) -> npt.NDArray[np.int64]:
    """Return the columns of the largest parts, int64[n, 3]: three passes, as sorting whole rows costs more."""
    rows, left = np.arange(len(parts)), parts.copy()
    top = np.empty((len(parts), TOP_FEATURES), dtype=np.int64)
    for place in range(TOP_FEATURES):
        top[:, place] = left.argmax(axis=1)
        left[rows, top[:, place]] = -np.inf
    return top


def concatenate(pieces: Sequence[Scores]) -> Scores:
    """Return the scores of consecutive pieces as one."""
    if len(pieces) == 1:
        return pieces[0]
    merged: dict[str, Any] = {}
    for name in (field.name for field in fields(Scores)):
        values = [getattr(piece, name) for piece in pieces]
        if isinstance(values[0], np.ndarray):
            merged[name] = np.concatenate(values)
        else:
            merged[name] = list(chain.from_iterable(values)) if name == "kind" else values[0]
    return Scores(**merged)
