"""Train the three models of a bundle on one training set, and turn them into the bundle's files."""

from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.evaluation import direction_labels
from surveillance_pipelines.evaluation.drift import reference_histograms
from surveillance_pipelines.evaluation.gate import GateDecision
from surveillance_pipelines.evaluation.gate import direction_gate as judge_direction
from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY, ErrorCalibration, calibrate_error
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.models.bundle import (
    AUTOENCODER_FILE,
    CLASSIFIER_FILE,
    CONFIG_FILE,
    DIRECTION_FILE,
    FEATURES_FILE,
    SCALER_FILE,
    Scaling,
    write_bundle,
)
from surveillance_pipelines.models.runtime import inference_session
from surveillance_pipelines.models.scoring import DIRECTIONS, as_float32, classifier_inputs, reconstruct, scale
from surveillance_pipelines.training import autoencoder, classifier, direction
from surveillance_pipelines.training.autoencoder import AutoencoderConfig, ScaledRows, TrainedAutoencoder
from surveillance_pipelines.training.boosting import BoostingConfig, TrainedBooster, predict
from surveillance_pipelines.training.classifier import TrainedClassifier
from surveillance_pipelines.training.deadline import Deadline, Progress, no_progress
from surveillance_pipelines.training.export import autoencoder_to_onnx, booster_to_onnx, require_parity
from surveillance_pipelines.training.scaler import fit_scaling, scaling_to_json
from surveillance_pipelines.training.training_data import LABELS, TrainingSet

Inputs = npt.NDArray[np.float32]

PARITY_ROWS: Final = 2_000
LIBRARIES: Final = ("numpy", "onnx", "onnxmltools", "onnxruntime", "polars", "scikit-learn", "torch", "xgboost")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Sizes and paces of the three models."""

    autoencoder: AutoencoderConfig = autoencoder.DEFAULT
    classifier: BoostingConfig = classifier.DEFAULT
    direction: BoostingConfig = direction.DEFAULT


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainedModels:
    """Everything that a bundle holds, still in native form beside the exported bytes.

    Attributes:
        training_set: what they were trained on.
        config: how.
        seed: of every random choice.
        scaling: of the autoencoder's inputs.
        autoencoder: weights and losses.
        calibration: from reconstruction error to score.
        classifier: with its alert threshold.
        direction: the ensemble; whether it may speak is ``direction_gate``'s word.
        direction_gate: its verdict on the test days.
        models: ONNX bytes by file name.
        parity: largest difference between ONNX Runtime and the native model, by model.
    """

    training_set: TrainingSet
    config: TrainingConfig
    seed: int
    scaling: Scaling
    autoencoder: TrainedAutoencoder
    calibration: ErrorCalibration
    classifier: TrainedClassifier
    direction: TrainedBooster
    direction_gate: GateDecision
    models: dict[str, bytes]
    parity: dict[str, float] = field(default_factory=dict)


def train_models(
    training_set: TrainingSet,
    *,
    seed: int,
    deadline: Deadline,
    config: TrainingConfig | None = None,
    progress: Progress = no_progress,
) -> TrainedModels:
    """Train scaler, autoencoder, classifier and direction model, export them, and check the exports.

    Equal training sets, seeds and library versions give equal bundles, byte for byte, on one runtime.

    Args:
        training_set: rows with labels and splits.
        seed: of every random choice.
        deadline: checked between epochs and boosting rounds.
        config: sizes and paces; None for the defaults.
        progress: told the stage and the fraction of it.

    Raises:
        TrainingTimeout: if the deadline passes; nothing has been written then.
        ParityError: if an exported model computes something else than the trained one.
        ValueError: if a split is empty or a class has no rows.
    """
    config = config or TrainingConfig()
    scaling, coder = _train_autoencoder(training_set, seed, deadline, config, progress)
    coder_bytes = autoencoder_to_onnx(coder.layers)
    inputs = _ClassifierInputs(training_set, scaling, coder_bytes)
    ordinary, errors = inputs.of(training_set.rows("validation", labelled=True, original=True))
    sorter = classifier.train_classifier(
        inputs.labelled("train"),
        inputs.labelled("validation"),
        ordinary=ordinary,
        seed=seed,
        deadline=deadline,
        config=config.classifier,
        progress=progress,
    )
    compass = _train_direction(training_set, seed, deadline, config, progress)
    deadline.check("all models, before their export")
    models, parity = _export(training_set, coder_bytes, sorter, compass, ordinary)
    progress("export", 1.0)
    return TrainedModels(
        training_set=training_set,
        config=config,
        seed=seed,
        scaling=scaling,
        autoencoder=coder,
        calibration=calibrate_error(errors),
        classifier=sorter,
        direction=compass,
        direction_gate=_judge_direction(training_set, compass, seed),
        models=models,
        parity=parity,
    )


def save_bundle(trained: TrainedModels, path: Path) -> str:
    """Write the bundle of trained models to a new folder and return its ``bundle_hash``."""
    view = trained.training_set.feature_view
    contents = dict(trained.models)
    for name, value in (
        (SCALER_FILE, scaling_to_json(trained.scaling, view.model_columns)),
        (FEATURES_FILE, _reference(trained.training_set)),
        (CONFIG_FILE, _surveillance_config(trained)),
    ):
        contents[name] = canonical_json(value).encode()
    return write_bundle(path, contents, view=view, training=training_parameters(trained) | {"parity": trained.parity})


def training_parameters(trained: TrainedModels) -> dict[str, Any]:
    """Return what a reader needs to train the same again, JSON-safe: seeds, sizes, data, library versions."""
    return {
        "seed": trained.seed,
        "config": asdict(trained.config),
        "data": trained.training_set.params | {"fingerprint": trained.training_set.fingerprint},
        "rows": dict(trained.training_set.frame.group_by("split").len().sort("split").iter_rows()),
        "rounds": {"classifier": trained.classifier.model.rounds, "direction": trained.direction.rounds},
        "epochs": len(trained.autoencoder.validation_loss),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


@dataclass(frozen=True, slots=True, eq=False)
class _ClassifierInputs:
    """Turns rows of a training set into what the classifier reads, through the exported autoencoder."""

    training_set: TrainingSet
    scaling: Scaling
    coder: bytes

    def of(self, rows: pl.DataFrame) -> tuple[Inputs, npt.NDArray[np.float64]]:
        values = feature_matrix(rows, self.training_set.feature_view.model_columns)
        error, _ = reconstruct(inference_session(self.coder), scale(values, self.scaling), np.isnan(values))
        return classifier_inputs(values, error), error

    def labelled(self, split: Any) -> tuple[Inputs, pl.Series]:
        rows = self.training_set.rows(split, labelled=True)
        return self.of(rows)[0], rows["label"]


def _train_autoencoder(
    training_set: TrainingSet, seed: int, deadline: Deadline, config: TrainingConfig, progress: Progress
) -> tuple[Scaling, TrainedAutoencoder]:
    columns = training_set.feature_view.model_columns
    train, validation = (
        feature_matrix(training_set.rows(split, labelled=True, original=True), columns)
        for split in ("train", "validation")
    )
    scaling = fit_scaling(train)
    coder = autoencoder.train_autoencoder(
        ScaledRows(scale(train, scaling), np.isnan(train)),
        ScaledRows(scale(validation, scaling), np.isnan(validation)),
        seed=seed,
        deadline=deadline,
        config=config.autoencoder,
        progress=progress,
    )
    return scaling, coder


def _train_direction(
    training_set: TrainingSet, seed: int, deadline: Deadline, config: TrainingConfig, progress: Progress
) -> TrainedBooster:
    return direction.train_direction(
        direction_rows(training_set, "train")[:2],
        direction_rows(training_set, "validation")[:2],
        seed=seed,
        deadline=deadline,
        config=config.direction,
        progress=progress,
    )


def direction_rows(training_set: TrainingSet, split: Any) -> tuple[Inputs, npt.NDArray[np.int64], pl.DataFrame]:
    """Return the direction model's inputs float32[n, d], class numbers int64[n], and the rows they are from."""
    rows = training_set.rows(split, labelled=True, original=True).with_columns(
        direction=direction_labels.direction_labels(pl.col("forward_return"), pl.col("realised_volatility"))
    )
    rows = rows.filter(pl.col("direction").is_not_null())
    inputs = as_float32(feature_matrix(rows, training_set.feature_view.model_columns))
    return inputs, rows["direction"].to_numpy(), rows


def _judge_direction(training_set: TrainingSet, compass: TrainedBooster, seed: int) -> GateDecision:
    inputs, labels, rows = direction_rows(training_set, "test")
    called = predict(compass, inputs).argmax(axis=1)
    return judge_direction(labels, called, rows["date"].to_numpy(), classes=len(DIRECTIONS), seed=seed)


def _export(
    training_set: TrainingSet, coder: bytes, sorter: TrainedClassifier, compass: TrainedBooster, ordinary: Inputs
) -> tuple[dict[str, bytes], dict[str, float]]:
    columns = len(training_set.feature_view.model_columns)
    some = ordinary[:: max(1, len(ordinary) // PARITY_ROWS)]
    models = {
        AUTOENCODER_FILE: coder,
        CLASSIFIER_FILE: booster_to_onnx(sorter.model.booster, columns + 1, "market_classifier"),
        DIRECTION_FILE: booster_to_onnx(compass.booster, columns, "market_direction"),
    }
    narrow = np.ascontiguousarray(some[:, :columns])
    parity = {
        "classifier": require_parity(models[CLASSIFIER_FILE], some, predict(sorter.model, some), "classifier"),
        "direction": require_parity(models[DIRECTION_FILE], narrow, predict(compass, narrow), "direction model"),
    }
    return models, parity


def _reference(training_set: TrainingSet) -> dict[str, Any]:
    rows = training_set.rows("train", labelled=True, original=True)
    columns = training_set.feature_view.model_columns
    return {"view": training_set.view, "columns": reference_histograms(feature_matrix(rows, columns), columns)}


def _surveillance_config(trained: TrainedModels) -> dict[str, Any]:
    return {
        "labels": list(LABELS),
        "alerts_per_symbol_day": ALERTS_PER_SYMBOL_DAY,
        "autoencoder": {
            "calibration": {
                "error": trained.calibration.error.tolist(),
                "score": trained.calibration.score.tolist(),
            }
        },
        "classifier": {"threshold": trained.classifier.threshold},
        "direction": {
            "labels": list(DIRECTIONS),
            "horizon_minutes": direction_labels.HORIZON_MINUTES,
            "ready": trained.direction_gate.passed,
            "reasons": list(trained.direction_gate.reasons),
        },
    }
