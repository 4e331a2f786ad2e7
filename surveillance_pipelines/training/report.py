"""Evaluation of a bundle on held-out days: metrics, naive baselines, gates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.contracts.predictions import (
    DIRECTIONS,
    AnomalyKinds,
    AnomalyScores,
    Directions,
    PredictionKind,
)
from surveillance_pipelines.evaluation.direction_labels import direction_labels
from surveillance_pipelines.evaluation.gate import GateDecision, anomaly_gate, direction_gate
from surveillance_pipelines.evaluation.metrics import (
    accuracy,
    balanced_accuracy,
    macro_f1,
    ranking_metrics,
    recalls,
    side_accuracy,
)
from surveillance_pipelines.evaluation.probation import HALF_THRESHOLD
from surveillance_pipelines.evaluation.promises import Promises, measure_promises
from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY, BARS_PER_DAY
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.models.bundle import BundleError
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.training.training_data import Split, TrainingSet, class_numbers

Classes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROBUST_Z_COLUMNS: Final = ("return_z", "gap_z", "volume_z", "range_ratio", "return_z_15", "divergence_z_15")
"""Columns that are z-scores or similar, as a baseline that needs no model."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of a model with its value and number of rows; ``label`` is the class if it concerns only one."""

    model: str
    name: str
    value: float
    rows: int
    label: str | None = None

    @property
    def key(self) -> str:
        """Unique name among the metrics of the model."""
        return self.name if self.label is None else f"{self.name}_{self.label}"

    @property
    def full_name(self) -> str:
        return f"{self.model}_{self.key}"


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedRows:
    """The labelled test bars with the bundle's predictions; the input of all plots.

    Attributes:
        labels: the classes: ``normal``, then the kinds that were trained.
        frame: ``ROW_COLUMNS`` of the bars.
        actual: class numbers int64[n], positions in ``labels``.
        predicted: the classifier's most probable class, int64[n].
        predictions: predictions of the whole bundle.
        original: bool[n], True for bars of the unchanged data, without planted anomalies.
        direction_actual: class numbers int64[m] of the bars whose outcome is known, positions in ``DIRECTIONS``.
        direction_predicted: the direction model's most probable class, int64[m].
    """

    labels: tuple[str, ...]
    frame: pl.DataFrame
    actual: Classes
    predicted: Classes
    predictions: BundlePredictions
    original: npt.NDArray[np.bool_]
    direction_actual: Classes
    direction_predicted: Classes

    @property
    def planted(self) -> npt.NDArray[np.bool_]:
        return self.actual > 0


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The evaluation of a bundle.

    Attributes:
        split: the days used for the evaluation.
        measures: all finite metrics; a class without rows has no recall.
        anomaly_gate: whether the bundle may be promoted.
        direction_gate: whether its direction model serves; otherwise momentum is used, marked as warm-up.
        evaluated: the rows behind the metrics.
        left_out: kinds that cannot exist in the training days and are not part of the evaluation, with the reasons.
    """

    split: Split
    measures: tuple[Measure, ...]
    anomaly_gate: GateDecision
    direction_gate: GateDecision
    evaluated: EvaluatedRows
    left_out: Mapping[str, str]

    @property
    def untested(self) -> tuple[str, ...]:
        """The trained kinds of which the evaluated days have no planted anomaly."""
        found = set(self.evaluated.frame["label"])
        return tuple(label for label in self.evaluated.labels if label not in found)

    @property
    def metrics(self) -> dict[str, float]:
        """Return the metrics by ``<model>_<name>``, those of one class by ``<model>_<name>_<label>``."""
        return {measure.full_name: measure.value for measure in self.measures}

    @property
    def overall(self) -> dict[str, float]:
        """Return the metrics that do not concern one class only."""
        return {measure.full_name: measure.value for measure in self.measures if measure.label is None}

    @property
    def by_label(self) -> list[dict[str, str | float | None]]:
        """Return one row per class: ``label``, then its metrics by name, None if absent."""
        found = {(measure.label, measure.name): measure.value for measure in self.measures if measure.label}
        known, names = {label for label, _ in found}, sorted({name for _, name in found})
        labels = [label for label in self.evaluated.labels if label in known]
        return [{"label": label, **{name: found.get((label, name)) for name in names}} for label in labels]


def evaluate(
    training_set: TrainingSet,
    ensemble: Ensemble,
    *,
    min_rows: int,
    min_accuracy: float,
    seed: int,
    split: Split = "test",
) -> Evaluation:
    """Evaluate a bundle's models with the code that serves them.

    Args:
        training_set: rows with labels and splits.
        ensemble: ensemble of the bundle.
        min_rows: ``MODEL_TRAINING_MIN_DATASET_SIZE``.
        min_accuracy: ``MODEL_QUALITY_THRESHOLD_ACCURACY``.
        seed: seed of the bootstrap.
        split: the days to use.

    Raises:
        TooLittleDataError: if the split has no labelled bars.
        BundleError: if no member predicts the kinds of anomalies of the training set, or none predicts directions.
    """
    rows = training_set.rows(split, labelled=True)
    if rows.is_empty():
        raise TooLittleDataError(f"expected labelled bars in the {split} split, got none")
    columns = training_set.feature_view.columns
    features, windows = feature_matrix(rows, columns), training_set.inputs(rows, columns, ensemble.window_length)
    known = rows.select(
        direction_labels(pl.col("forward_return"), pl.col("realised_volatility")).alias("direction")
    ).to_series()
    classifier, direction = (_member(ensemble, each.kind) for each in (AnomalyKinds, Directions))
    if ensemble.members[classifier].output.labels != training_set.labels:
        raise BundleError(
            f"expected a classifier of {', '.join(training_set.labels)}, as in the training set, got one of "
            f"{', '.join(ensemble.members[classifier].output.labels)}"
        )
    evaluated = _predict(rows, windows, known, ensemble, direction)
    measures = [
        *_anomaly_measures(evaluated),
        *_detector_measures(evaluated, ensemble),
        *_classifier_measures(evaluated, classifier),
        *_baseline_measures(evaluated, classifier, features, training_set),
        *_direction_measures(evaluated, direction),
    ]
    figures = {measure.full_name: measure.value for measure in measures}
    promises = measure_promises(
        evaluated.frame, evaluated.predictions, features, original=evaluated.original, seed=seed
    )
    return Evaluation(
        split=split,
        measures=tuple(measure for measure in measures if math.isfinite(measure.value)),
        anomaly_gate=_anomaly_gate(
            figures, classifier, training_set, min_rows=min_rows, min_accuracy=min_accuracy, promises=promises
        ),
        direction_gate=_direction_gate(evaluated, rows.filter(known.is_not_null())["date"], seed=seed),
        evaluated=evaluated,
        left_out=training_set.left_out,
    )


def event_recall(evaluated: EvaluatedRows) -> pl.DataFrame:
    """Return, per kind, the number of planted anomalies and the shares found and correctly named.

    Returns:
        label, planted (count), found (share with an alert on any of their bars), named (share with an alert of the
        correct kind on any of their bars).
    """
    bars = evaluated.frame.select("label", "replica", "anomaly_id").with_columns(
        found=pl.Series(evaluated.predictions.is_anomaly), kind=pl.Series(evaluated.predictions.kinds)
    )
    events = bars.filter(pl.col("anomaly_id").is_not_null()).group_by("label", "replica", "anomaly_id")
    found = events.agg(pl.col("found").any(), (pl.col("kind") == pl.col("label")).any().alias("named"))
    return found.group_by("label").agg(planted=pl.len(), found=pl.mean("found"), named=pl.mean("named")).sort("label")


def _member(ensemble: Ensemble, kind: PredictionKind) -> str:
    """Return the name of the member with a kind of output, whether or not it serves.

    Raises:
        BundleError: if there is none.
    """
    for name, spec in ensemble.members.items():
        if spec.output.kind == kind:
            return name
    raise BundleError(f"expected a member with output {kind!r}, got {', '.join(ensemble.members)}")


def _predict(
    rows: pl.DataFrame, windows: Floats, known: pl.Series, ensemble: Ensemble, direction: str
) -> EvaluatedRows:
    predictions = ensemble.predict(windows)
    labels = predictions.labels
    directed = known.is_not_null().to_numpy()
    return EvaluatedRows(
        labels=labels,
        frame=rows.drop(features_of(rows)),
        actual=class_numbers(rows["label"], labels),
        predicted=predictions.probabilities.argmax(axis=1),
        predictions=predictions,
        original=(rows["replica"] == 0).to_numpy(),
        direction_actual=known.drop_nulls().to_numpy(),
        direction_predicted=_directions(ensemble, direction, windows[directed]).argmax(axis=1),
    )


def _directions(ensemble: Ensemble, member: str, windows: Floats) -> Floats:
    """Return the probabilities of a member that predicts directions, float64[n, 3], whether or not it serves."""
    predictions = ensemble.predict_member(member, windows)
    if not isinstance(predictions, Directions):
        raise BundleError(f"expected directions of member {member}, got {type(predictions).__name__}")
    return predictions.probabilities


def features_of(rows: pl.DataFrame) -> list[str]:
    """Return the feature columns of training rows, which follow ``ROW_COLUMNS``."""
    return rows.columns[rows.columns.index("forward_return") + 1 :]


def _anomaly_measures(evaluated: EvaluatedRows) -> list[Measure]:
    """Return metrics of the fused score and the alerts."""
    rows, predictions = len(evaluated.actual), evaluated.predictions
    measures = _named("anomaly", ranking_metrics(evaluated.planted, predictions.anomaly_score), rows)
    days = evaluated.frame.filter(pl.Series(evaluated.original)).select("symbol", "date").n_unique()
    alerts = int(predictions.is_anomaly[evaluated.original].sum())
    measures.append(Measure("anomaly", "alerts_per_symbol_day", alerts / max(days, 1), int(evaluated.original.sum())))
    unchanged = predictions.anomaly_score[evaluated.original]
    if len(unchanged):  # promises, kept or broken during the probation (evaluation/probation.py)
        promised = {
            "alerts_per_390_bars": alerts * BARS_PER_DAY / len(unchanged),
            "half_threshold_share": float((unchanged >= HALF_THRESHOLD).mean()),
        }
        measures += _named("anomaly", promised, len(unchanged))
    events = event_recall(evaluated)
    planted = int(events["planted"].sum())
    for name in ("found", "named"):
        whole = float((events[name] * events["planted"]).sum()) / max(planted, 1)
        measures.append(Measure("anomaly", f"events_{name}", whole, planted))
        measures += [
            Measure("anomaly", f"events_{name}", row[name], row["planted"], row["label"])
            for row in events.iter_rows(named=True)
        ]
    return measures


def _detector_measures(evaluated: EvaluatedRows, ensemble: Ensemble) -> list[Measure]:
    """Return the ranking of each detector, and the error ratio of those that predict an anomaly score."""
    predictions, rows, found = evaluated.predictions, len(evaluated.actual), list[Measure]()
    for name in predictions.detectors:
        found += _named(name, ranking_metrics(evaluated.planted, predictions.detector_score(name)), rows)
    for name, spec in ensemble.members.items():
        statistic = predictions.statistics.get(spec.output.statistic or "")
        if spec.output.kind == AnomalyScores.kind and statistic is not None:
            usual, odd = (float(np.median(statistic[mask])) for mask in (~evaluated.planted, evaluated.planted))
            if usual > 0.0:  # most ordinary bars do not surprise the tail detector at all
                found.append(Measure(name, "error_ratio", odd / usual, rows))
    return found


def _classifier_measures(evaluated: EvaluatedRows, classifier: str) -> list[Measure]:
    actual, predicted = evaluated.actual, evaluated.predicted
    figures = {
        "accuracy": accuracy(actual, predicted),
        "balanced_accuracy": balanced_accuracy(actual, predicted),
        "macro_f1": macro_f1(actual, predicted),
    }
    labels = evaluated.labels
    found_of, count_of = recalls(actual, predicted, len(labels)), np.bincount(actual, minlength=len(labels))
    by_class = [
        Measure(classifier, "recall", float(found_of[n]), int(count_of[n]), label) for n, label in enumerate(labels)
    ]
    return _named(classifier, figures, len(actual)) + by_class


def _baseline_measures(
    evaluated: EvaluatedRows, classifier: str, features: Floats, training_set: TrainingSet
) -> list[Measure]:
    """Return metrics of untrained baselines: the most frequent class, the warm-up rules, the largest robust z-score."""
    actual = evaluated.actual
    majority = int(np.bincount(actual).argmax())
    rules = _warmup_classes(features, evaluated.labels)
    columns = [training_set.feature_view.columns.index(name) for name in ROBUST_Z_COLUMNS]
    largest = np.nanmax(np.abs(np.nan_to_num(features[:, columns], nan=0.0)), axis=1)
    figures = {
        "majority_accuracy": float(np.mean(actual == majority)),
        "majority_balanced_accuracy": 1.0 / len(np.unique(actual)),
        "warmup_accuracy": accuracy(actual, rules),
        "warmup_balanced_accuracy": balanced_accuracy(actual, rules),
        "robust_z_pr_auc": ranking_metrics(evaluated.planted, largest)["pr_auc"],
    }
    return _named(classifier, figures, len(actual))


def _warmup_classes(features: Floats, labels: tuple[str, ...]) -> Classes:
    """Return the classes that the warm-up rules predict, int64[n]; a kind that is not in ``labels`` gets the next."""
    predictions = WarmupRules().predict(features)
    places = [labels.index(label) if label in labels else len(labels) for label in predictions.labels]
    return np.array(places)[predictions.probabilities.argmax(axis=1)]


def _direction_measures(evaluated: EvaluatedRows, direction: str) -> list[Measure]:
    actual, predicted = evaluated.direction_actual, evaluated.direction_predicted
    if not len(actual):
        return []
    figures = {
        "accuracy": accuracy(actual, predicted),
        "balanced_accuracy": balanced_accuracy(actual, predicted),
        "macro_f1": macro_f1(actual, predicted),
        "side_accuracy": side_accuracy(actual, predicted),
        "majority_accuracy": float(np.bincount(actual).max() / len(actual)),
    }
    return _named(direction, figures, len(actual))


def _anomaly_gate(
    figures: dict[str, float],
    classifier: str,
    training_set: TrainingSet,
    *,
    min_rows: int,
    min_accuracy: float,
    promises: Promises,
) -> GateDecision:
    return anomaly_gate(
        rows=len(training_set.rows("train", labelled=True)),
        min_rows=min_rows,
        accuracy=figures[f"{classifier}_accuracy"],
        balanced=figures[f"{classifier}_balanced_accuracy"],
        min_accuracy=min_accuracy,
        majority_accuracy=figures[f"{classifier}_majority_accuracy"],
        warmup_balanced=figures[f"{classifier}_warmup_balanced_accuracy"],
        pr_auc=figures["anomaly_pr_auc"],
        robust_z_pr_auc=figures[f"{classifier}_robust_z_pr_auc"],
        alert_rate=promises.alert_rate,
        budget=ALERTS_PER_SYMBOL_DAY,
        worse_than_rules=promises.worse_than_rules,
    )


def _direction_gate(evaluated: EvaluatedRows, days: pl.Series, *, seed: int) -> GateDecision:
    actual, predicted = evaluated.direction_actual, evaluated.direction_predicted
    return direction_gate(actual, predicted, days.to_numpy(), classes=len(DIRECTIONS), seed=seed)


def _named(model: str, figures: dict[str, Any], rows: int) -> list[Measure]:
    return [Measure(model, name, float(value), rows) for name, value in figures.items()]
