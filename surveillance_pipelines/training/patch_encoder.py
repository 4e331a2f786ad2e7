"""A patch encoder with a memory: how far is a patch from the most similar patches of ordinary days?

After PaAno (Park and Kang, "PaAno: patch-based representation learning for time-series anomaly detection", ICLR 2026),
with a smaller network. No bundle holds it: docs/detection.md has the measurement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from surveillance_pipelines.contracts.errors import TooLittleDataError

Patches = npt.NDArray[np.float32]
"""float32[n, length, channels]."""

_NEIGHBOURS: Final = 3
_BLOCK: Final = 4_096
_FLAT: Final = 1e-6


@dataclass(frozen=True, slots=True)
class PatchEncoderConfig:
    """Architecture and training parameters.

    Attributes:
        length: points of a patch.
        width: channels of the hidden layers and size of an embedding divided by 2.
        steps: gradient steps.
        batch_size: anchors per step.
        learning_rate: first learning rate of Adam, which falls to 0 along half a cosine.
        margin: distance by which a patch is to be nearer to its neighbour in time than to others.
        neighbour: largest shift of the neighbour in time, in points.
        memory: largest number of patches in the memory of one series.
    """

    length: int = 64
    width: int = 32
    steps: int = 200
    batch_size: int = 128
    learning_rate: float = 1e-4
    margin: float = 0.5
    neighbour: int = 8
    memory: int = 2_000


DEFAULT: Final = PatchEncoderConfig()


def patches_of(values: npt.NDArray[np.float64], length: int) -> Patches:
    """Return the patch that ends at each point, float32[n − length + 1, length, channels].

    Args:
        values: float64[n, channels], without NaN.
        length: points of a patch.
    """
    windows = np.lib.stride_tricks.sliding_window_view(values.astype(np.float32), length, axis=0)
    return windows.transpose(0, 2, 1)


class PatchEncoder:
    """A trained encoder. Patches are normalised one by one, so level and scale of a patch do not count."""

    def __init__(self, network: nn.Module) -> None:
        self._network: Final = network.eval()

    def embed(self, patches: Patches) -> npt.NDArray[np.float32]:
        """Return embeddings of length 1, float32[n, e]."""
        with torch.no_grad():
            parts = [
                functional.normalize(self._network(_normalised(patches[start : start + _BLOCK]))).numpy()
                for start in range(0, len(patches), _BLOCK)
            ]
        return np.concatenate(parts)

    def distances(self, patches: Patches, memory: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the mean cosine distance of each patch to its nearest neighbours in the memory, float64[n].

        Args:
            patches: the patches to score.
            memory: embeddings of ordinary patches, float32[m, e], at least as many as neighbours.
        """
        embedded = self.embed(patches)
        found = np.empty(len(embedded))
        for start in range(0, len(embedded), _BLOCK):
            similar = embedded[start : start + _BLOCK] @ memory.T
            nearest = np.partition(similar, len(memory) - _NEIGHBOURS, axis=1)[:, -_NEIGHBOURS:]
            found[start : start + _BLOCK] = 1.0 - nearest.mean(axis=1)
        return found

    def remember(self, patches: Patches, seed: int, config: PatchEncoderConfig = DEFAULT) -> npt.NDArray[np.float32]:
        """Return the memory of one series: embeddings of its training patches, a random sample if there are many."""
        places = np.arange(len(patches))
        if len(places) > config.memory:
            places = np.sort(np.random.default_rng(seed).choice(places, config.memory, replace=False))
        return self.embed(patches[places])


def train_patch_encoder(
    series: Sequence[npt.NDArray[np.float64]], *, seed: int, config: PatchEncoderConfig = DEFAULT
) -> PatchEncoder:
    """Train an encoder on ordinary series of equal channels.

    The triplet loss draws a patch to its neighbour in time and pushes it from the most similar patch of the batch that
    does not overlap with it. In the first tenth of the steps, a second loss tells the patch that follows another from a
    random one.

    Args:
        series: float64[n, channels] each, without NaN.
        seed: seed of all random choices.
        config: architecture and training.

    Raises:
        TooLittleDataError: if no series has a patch that is followed by another one.
    """
    long = [values.astype(np.float32) for values in series if len(values) > 2 * config.length]
    if not long:
        raise TooLittleDataError(f"expected a series of more than {2 * config.length} points for the patch encoder")
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            network, follows = _network(long[0].shape[1], config), nn.Linear(4 * config.width, 1)
            _train(network, follows, long, np.random.default_rng(seed), config)
        finally:
            torch.set_num_threads(threads)
    return PatchEncoder(network)


def _network(channels: int, config: PatchEncoderConfig) -> nn.Module:
    layers: list[nn.Module] = []
    for into, out, kernel in (
        (channels, config.width, 7),
        (config.width, config.width, 5),
        (config.width, 2 * config.width, 3),
    ):
        layers += [nn.Conv1d(into, out, kernel, stride=2, padding=kernel // 2), nn.BatchNorm1d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2 * config.width, 2 * config.width))


def _train(
    network: nn.Module,
    follows: nn.Module,
    series: Sequence[npt.NDArray[np.float32]],
    generator: np.random.Generator,
    config: PatchEncoderConfig,
) -> None:
    parameters = [*network.parameters(), *follows.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    for step in range(config.steps):
        owner, start = _anchors(series, generator, config)
        shift = generator.integers(1, config.neighbour + 1, config.batch_size)
        starts = (start, start + shift, start + config.length)
        batch = np.concatenate([_cut(series, owner, first, config.length) for first in starts])
        raw = network(_normalised(batch))
        anchor, positive, next_one = functional.normalize(raw).split(config.batch_size)
        loss = _triplet(anchor, positive, owner, start, config)
        if step < config.steps // 10:
            loss = loss + _pretext(follows, anchor, next_one)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()


def _anchors(
    series: Sequence[npt.NDArray[np.float32]], generator: np.random.Generator, config: PatchEncoderConfig
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return series and first point of each anchor; the patch after it lies within the series."""
    room = np.array([len(values) - 2 * config.length for values in series])
    owner = generator.choice(len(series), config.batch_size, p=room / room.sum())
    return owner, generator.integers(0, room[owner])


def _cut(
    series: Sequence[npt.NDArray[np.float32]],
    owner: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    length: int,
) -> Patches:
    return np.stack([series[number][first : first + length] for number, first in zip(owner, start, strict=True)])


def _triplet(
    anchor: torch.Tensor,
    positive: torch.Tensor,
    owner: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    config: PatchEncoderConfig,
) -> torch.Tensor:
    overlaps = (owner[:, None] == owner) & (np.abs(start[:, None] - start) < config.length + config.neighbour)
    similar = (anchor @ anchor.T).masked_fill(torch.from_numpy(overlaps), -1.0)
    hardest = similar.max(dim=1).values
    return functional.relu(config.margin + hardest - (anchor * positive).sum(dim=1)).mean()


def _pretext(follows: nn.Module, anchor: torch.Tensor, next_one: torch.Tensor) -> torch.Tensor:
    other = next_one.roll(1, dims=0)
    pairs = torch.cat([torch.cat([anchor, next_one], dim=1), torch.cat([anchor, other], dim=1)])
    truth = torch.cat([torch.ones(len(anchor)), torch.zeros(len(anchor))])
    return functional.binary_cross_entropy_with_logits(follows(pairs).squeeze(1), truth)


def _normalised(patches: Patches) -> torch.Tensor:
    """Return float32[n, channels, length] with mean 0 and standard deviation 1 per patch and channel.

    Method: reversible instance normalisation without its parameters (Kim et al., ICLR 2022).
    """
    centred = patches - patches.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    return torch.from_numpy(np.ascontiguousarray((centred / (deviation + _FLAT)).transpose(0, 2, 1)))
