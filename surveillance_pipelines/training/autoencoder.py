"""The autoencoder, trained to reconstruct ordinary bars. A large reconstruction error indicates an unusual bar."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.hashing import canonical_json, sha256_bytes
from surveillance_pipelines.models.autoencoder import MODEL_FILE, SCALER_FILE, STATISTIC, scale
from surveillance_pipelines.models.contract import InputSpec, OutputSpec
from surveillance_pipelines.models.members import MemberSpec
from surveillance_pipelines.training.deadline import Deadline, Progress, no_progress
from surveillance_pipelines.training.export import autoencoder_to_onnx
from surveillance_pipelines.training.member import MemberContext, TrainedMember, TrainingCheck
from surveillance_pipelines.training.scaler import fit_scaling, scaling_to_json

Rows = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """Architecture and training parameters of the autoencoder.

    Attributes:
        hidden: width of the layer on each side of the code.
        code: width of the narrowest layer, well below the number of columns.
        epochs: maximum number of passes over the data.
        patience: number of epochs without a better validation loss after which training stops.
        batch_size: rows per gradient step.
        learning_rate: learning rate of Adam.
        noise: standard deviation of the noise added to the inputs in training, in scaled units (Vincent et al.,
            "Extracting and composing robust features with denoising autoencoders", ICML 2008).
    """

    hidden: int = 32
    code: int = 8
    epochs: int = 30
    patience: int = 4
    batch_size: int = 512
    learning_rate: float = 2e-3
    noise: float = 0.1


DEFAULT: Final = AutoencoderConfig()

VERSION: Final = "1.0"
"""Version of the trained model; change it with the architecture or the inputs."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedAutoencoder:
    """Weights and loss history.

    Attributes:
        layers: (weight float32[out, in], bias float32[out]) of each layer; ReLU between layers, none after the last.
        training_loss: training loss per epoch.
        validation_loss: validation loss per epoch; the weights are those of the smallest value.
    """

    layers: tuple[tuple[Rows, Rows], ...]
    training_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ScaledRows:
    """Scaled bars, float32[n, d], and a mask of missing values, bool[n, d]."""

    values: Rows
    missing: Mask


def train(context: MemberContext) -> TrainedMember:
    """Train scaler and autoencoder on ordinary bars, and export the network.

    The error has no calibration and raises no alert; the classifier reads it.
    """
    rows, columns = context.training_set, context.training_set.feature_view.model_columns
    training, validation = (
        feature_matrix(rows.rows(split, labelled=True, original=True), columns) for split in ("train", "validation")
    )
    scaling = fit_scaling(training)
    trained = train_autoencoder(
        ScaledRows(scale(training, scaling), np.isnan(training)),
        ScaledRows(scale(validation, scaling), np.isnan(validation)),
        seed=context.seed,
        deadline=context.deadline,
        config=context.config or DEFAULT,
        progress=context.progress,
    )
    files = {
        MODEL_FILE: autoencoder_to_onnx(trained.layers),
        SCALER_FILE: canonical_json(scaling_to_json(scaling, columns)).encode(),
    }
    losses = trained.validation_loss
    return TrainedMember(
        spec=MemberSpec(
            name="autoencoder",
            kind="autoencoder",
            version=VERSION,
            files=tuple(files),
            file_hashes=tuple(sha256_bytes(content) for content in files.values()),
            input=InputSpec(rows.view, columns),
            output=OutputSpec("anomaly_score", statistic=STATISTIC),
        ),
        files=files,
        native=trained,
        facts={"epochs": len(losses)},
        checks=(
            TrainingCheck(
                "has_learned", min(losses) < losses[0], {"first_epoch": losses[0], "best_epoch": min(losses)}
            ),
        ),
        loss_unit="epoch",
        curves={"training": trained.training_loss, "validation": losses},
    )


def train_autoencoder(
    training: ScaledRows,
    validation: ScaledRows,
    *,
    seed: int,
    deadline: Deadline,
    config: AutoencoderConfig = DEFAULT,
    progress: Progress = no_progress,
) -> TrainedAutoencoder:
    """Train on ordinary bars until the validation loss stops falling.

    The loss is the mean squared error over the values that are present. The activation is ReLU, because ``tanh`` and
    ``exp`` differ between builds of the C library.

    Raises:
        TrainingTimeout: if the deadline has passed at the start of an epoch.
        TooLittleDataError: if there are no rows.
    """
    if len(training.values) == 0 or len(validation.values) == 0:
        raise TooLittleDataError("expected training and validation rows for the autoencoder, got none")
    with _reproducible(seed):
        model = build_network(training.values.shape[1], config)
        optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        losses: list[float] = []
        checks: list[float] = []
        best = _weights(model)
        for epoch in range(config.epochs):
            deadline.check(f"{epoch} epochs of the autoencoder")
            losses.append(_train_epoch(model, optimiser, training, config))
            checks.append(_loss_of(model, validation))
            progress("autoencoder", (epoch + 1) / config.epochs)
            if checks[-1] <= min(checks):
                best = _weights(model)
            elif len(checks) - 1 - int(np.argmin(checks)) >= config.patience:
                break
    return TrainedAutoencoder(best, tuple(losses), tuple(checks))


def build_network(columns: int, config: AutoencoderConfig) -> nn.Sequential:
    """Return columns → hidden → code → hidden → columns with ReLU between."""
    widths = (columns, config.hidden, config.code, config.hidden, columns)
    layers: list[nn.Module] = []
    for into, out in pairwise(widths):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _train_epoch(
    model: nn.Sequential, optimiser: torch.optim.Optimizer, rows: ScaledRows, config: AutoencoderConfig
) -> float:
    values, present = torch.from_numpy(rows.values), torch.from_numpy(~rows.missing)
    order = torch.randperm(len(values))
    total = 0.0
    for batch in order.split(config.batch_size):
        optimiser.zero_grad(set_to_none=True)
        inputs, mask = values[batch], present[batch]
        noisy = inputs + config.noise * torch.randn_like(inputs) * mask
        loss = _masked_error(model(noisy), inputs, mask)
        loss.backward()
        optimiser.step()
        total += float(loss.detach()) * len(batch)
    return total / len(values)


def _masked_error(output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (((output - target) ** 2) * mask).sum() / mask.sum().clamp(min=1)


def _loss_of(model: nn.Sequential, rows: ScaledRows) -> float:
    with torch.no_grad():
        values = torch.from_numpy(rows.values)
        return float(_masked_error(model(values), values, torch.from_numpy(~rows.missing)))


def _weights(model: nn.Sequential) -> tuple[tuple[Rows, Rows], ...]:
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    return tuple((layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in linear)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed torch and use one thread within the block, then restore the previous state."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
