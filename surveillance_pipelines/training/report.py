"""Judge a bundle on the days that its training never saw: figures, naive rivals, gates."""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

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
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.models.scoring import DIRECTIONS, Scorer, Scores
from surveillance_pipelines.models.warmup import WarmupScorer
from surveillance_pipelines.training.training_data import LABELS, Split, TrainingSet, class_numbers

Classes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Model = Literal["anomaly", "autoencoder", "classifier", "direction"]

ROBUST_Z_COLUMNS: Final = ("return_z", "gap_z", "volume_z", "range_ratio", "return_z_15", "divergence_z_15")
"""Columns that are already z-scores, or close to it: what a desk without models would look at."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure: which model, what, how much, over how many rows; ``label`` if it is about one class only."""

    model: Model
    name: str
    value: float
    rows: int
    label: str | None = None

    @property
    def key(self) -> str:
        """Name it apart from the other figures of its model."""
        return self.name if self.label is None else f"{self.name}_{self.label}"

    @property
    def full_name(self) -> str:
        return f"{self.model}_{self.key}"


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRows:
    """The labelled test bars beside what the bundle said about them; the material of every picture.

    Attributes:
        frame: ``ROW_COLUMNS`` of the bars.
        actual: class numbers int64[n], positions in ``LABELS``.
        called: the classifier's most probable class.
        scores: everything the scorer said.
        original: bool[n], bars as they were, without planted anomalies.
        direction_actual: class numbers int64[m] of the bars whose future is known, positions in ``DIRECTIONS``.
        direction_called: the direction model's most probable class.
    """

    frame: pl.DataFrame
    actual: Classes
    called: Classes
    scores: Scores
    original: npt.NDArray[np.bool_]
    direction_actual: Classes
    direction_called: Classes

    @property
    def planted(self) -> npt.NDArray[np.bool_]:
        return self.actual > 0


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The verdict on a bundle.

    Attributes:
        split: the days it was judged on.
        measures: every figure that exists; a class without rows has no recall.
        anomaly_gate: may the bundle be promoted?
        direction_gate: may its direction model speak? If not, momentum does, marked as warm-up.
        judged: the rows behind the figures.
    """

    split: Split
    measures: tuple[Measure, ...]
    anomaly_gate: GateDecision
    direction_gate: GateDecision
    judged: JudgedRows

    @property
    def metrics(self) -> dict[str, float]:
        """Return the figures by ``<model>_<name>``, those of one class by ``<model>_<name>_<label>``."""
        return {measure.full_name: measure.value for measure in self.measures}

    @property
    def overall(self) -> dict[str, float]:
        """Return the figures that are not about one class."""
        return {measure.full_name: measure.value for measure in self.measures if measure.label is None}

    @property
    def by_label(self) -> list[dict[str, str | float | None]]:
        """Return a row per class: ``label``, then its figures by the measure's name, None where it has none."""
        found = {(measure.label, measure.name): measure.value for measure in self.measures if measure.label}
        known, names = {label for label, _ in found}, sorted({name for _, name in found})
        labels = [label for label in LABELS if label in known]
        return [{"label": label, **{name: found.get((label, name)) for name in names}} for label in labels]


def evaluate(
    training_set: TrainingSet,
    scorer: Scorer,
    *,
    min_rows: int,
    min_accuracy: float,
    seed: int,
    split: Split = "test",
) -> Evaluation:
    """Judge a bundle's models, through the code that serves them.

    Args:
        training_set: rows with labels and splits.
        scorer: over the bundle.
        min_rows: ``MODEL_TRAINING_MIN_DATASET_SIZE``.
        min_accuracy: ``MODEL_QUALITY_THRESHOLD_ACCURACY``.
        seed: of the bootstrap.
        split: the days to judge on.

    Raises:
        ValueError: if the split has no labelled bars.
    """
    rows = training_set.rows(split, labelled=True)
    if rows.is_empty():
        raise ValueError(f"expected labelled bars in the {split} split, got none: train on more days")
    features = feature_matrix(rows, training_set.feature_view.columns)
    known = rows.select(
        direction_labels(pl.col("forward_return"), pl.col("realised_volatility")).alias("direction")
    ).to_series()
    judged = _judge(rows, features, known, scorer)
    rivals = _rivals(judged, features, training_set)
    measures = [*_anomaly_measures(judged), *_model_measures(judged), *rivals, *_direction_measures(judged)]
    figures = {measure.full_name: measure.value for measure in measures}
    return Evaluation(
        split=split,
        measures=tuple(measure for measure in measures if math.isfinite(measure.value)),
        anomaly_gate=_anomaly_gate(figures, training_set, min_rows=min_rows, min_accuracy=min_accuracy),
        direction_gate=direction_gate(
            judged.direction_actual,
            judged.direction_called,
            rows.filter(known.is_not_null())["date"].to_numpy(),
            classes=len(DIRECTIONS),
            seed=seed,
        ),
        judged=judged,
    )


def event_recall(judged: JudgedRows) -> pl.DataFrame:
    """Return, per kind, how many planted anomalies there are, and the part found and named within their bars.

    Returns:
        label, planted, found (an alert on any of its bars), named (an alert of its own kind on any of them).
    """
    bars = judged.frame.select("label", "replica", "anomaly_id").with_columns(
        found=pl.Series(judged.scores.is_anomaly), kind=pl.Series(judged.scores.kind)
    )
    events = bars.filter(pl.col("anomaly_id").is_not_null()).group_by("label", "replica", "anomaly_id")
    found = events.agg(pl.col("found").any(), (pl.col("kind") == pl.col("label")).any().alias("named"))
    return found.group_by("label").agg(planted=pl.len(), found=pl.mean("found"), named=pl.mean("named")).sort("label")


def _judge(rows: pl.DataFrame, features: Floats, known: pl.Series, scorer: Scorer) -> JudgedRows:
    scores = scorer.score(features)
    directed = known.is_not_null().to_numpy()
    return JudgedRows(
        frame=rows.drop(features_of(rows)),
        actual=class_numbers(rows["label"]),
        called=scores.probabilities.argmax(axis=1),
        scores=scores,
        original=(rows["replica"] == 0).to_numpy(),
        direction_actual=known.drop_nulls().to_numpy(),
        direction_called=scorer.model_directions(features[directed]).argmax(axis=1),
    )


def features_of(rows: pl.DataFrame) -> list[str]:
    """Return the feature columns of training rows: all after the row's own."""
    return rows.columns[rows.columns.index("forward_return") + 1 :]


def _anomaly_measures(judged: JudgedRows) -> list[Measure]:
    """Measure the two detectors together: what an operator sees."""
    rows, scores = len(judged.actual), judged.scores
    measures = _named("anomaly", ranking_metrics(judged.planted, scores.anomaly_score), rows)
    days = judged.frame.filter(pl.Series(judged.original)).select("symbol", "date").n_unique()
    alerts = int(scores.is_anomaly[judged.original].sum())
    measures.append(Measure("anomaly", "alerts_per_symbol_day", alerts / max(days, 1), int(judged.original.sum())))
    events = event_recall(judged)
    planted = int(events["planted"].sum())
    for name in ("found", "named"):
        whole = float((events[name] * events["planted"]).sum()) / max(planted, 1)
        measures.append(Measure("anomaly", f"events_{name}", whole, planted))
        measures += [
            Measure("anomaly", f"events_{name}", row[name], row["planted"], row["label"])
            for row in events.iter_rows(named=True)
        ]
    return measures


def _model_measures(judged: JudgedRows) -> list[Measure]:
    actual, called, scores = judged.actual, judged.called, judged.scores
    rows = len(actual)
    found = _named("autoencoder", ranking_metrics(judged.planted, scores.autoencoder_score), rows)
    usual, odd = (float(np.median(scores.reconstruction_error[mask])) for mask in (~judged.planted, judged.planted))
    found.append(Measure("autoencoder", "error_ratio", odd / max(usual, 1e-12), rows))
    found += _named("classifier", ranking_metrics(judged.planted, scores.classifier_score), rows)
    figures = {
        "accuracy": accuracy(actual, called),
        "balanced_accuracy": balanced_accuracy(actual, called),
        "macro_f1": macro_f1(actual, called),
    }
    found_of, count_of = recalls(actual, called, len(LABELS)), np.bincount(actual, minlength=len(LABELS))
    by_class = [
        Measure("classifier", "recall", float(found_of[n]), int(count_of[n]), label) for n, label in enumerate(LABELS)
    ]
    return found + _named("classifier", figures, rows) + by_class


def _rivals(judged: JudgedRows, features: Floats, training_set: TrainingSet) -> list[Measure]:
    """Measure what needs no training: the most frequent class, the warm-up rules, the largest robust z-score."""
    actual = judged.actual
    majority = int(np.bincount(actual).argmax())
    rules = WarmupScorer().score(features).probabilities.argmax(axis=1)
    columns = [training_set.feature_view.columns.index(name) for name in ROBUST_Z_COLUMNS]
    largest = np.nanmax(np.abs(np.nan_to_num(features[:, columns], nan=0.0)), axis=1)
    figures = {
        "majority_accuracy": float(np.mean(actual == majority)),
        "majority_balanced_accuracy": 1.0 / len(np.unique(actual)),
        "warmup_accuracy": accuracy(actual, rules),
        "warmup_balanced_accuracy": balanced_accuracy(actual, rules),
        "robust_z_pr_auc": ranking_metrics(judged.planted, largest)["pr_auc"],
    }
    return _named("classifier", figures, len(actual))


def _direction_measures(judged: JudgedRows) -> list[Measure]:
    actual, called = judged.direction_actual, judged.direction_called
    if not len(actual):
        return []
    figures = {
        "accuracy": accuracy(actual, called),
        "balanced_accuracy": balanced_accuracy(actual, called),
        "macro_f1": macro_f1(actual, called),
        "side_accuracy": side_accuracy(actual, called),
        "majority_accuracy": float(np.bincount(actual).max() / len(actual)),
    }
    return _named("direction", figures, len(actual))


def _anomaly_gate(
    figures: dict[str, float], training_set: TrainingSet, *, min_rows: int, min_accuracy: float
) -> GateDecision:
    return anomaly_gate(
        rows=len(training_set.rows("train", labelled=True)),
        min_rows=min_rows,
        accuracy=figures["classifier_accuracy"],
        balanced=figures["classifier_balanced_accuracy"],
        min_accuracy=min_accuracy,
        majority_accuracy=figures["classifier_majority_accuracy"],
        warmup_balanced=figures["classifier_warmup_balanced_accuracy"],
        pr_auc=figures["anomaly_pr_auc"],
        robust_z_pr_auc=figures["classifier_robust_z_pr_auc"],
    )


def _named(model: Model, figures: dict[str, Any], rows: int) -> list[Measure]:
    return [Measure(model, name, float(value), rows) for name, value in figures.items()]
