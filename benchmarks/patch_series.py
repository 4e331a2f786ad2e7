"""VUS-PR of the patch encoder and of simpler detectors on NAB's series."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.detection_baselines import saliency_scores
from benchmarks.nab_corpus import load_corpus
from benchmarks.nab_scoring import NabSeries, probation_rows
from benchmarks.patch_scores import (
    around,
    combined,
    forest,
    mean_shift,
    memory_distances,
    point_deviation,
    rolling_z,
    sub_pca,
    windows_of,
)
from surveillance_pipelines.evaluation.volume_under_surface import vus_pr
from surveillance_pipelines.training.autoencoder import ScaledRows, TrainedAutoencoder, train_autoencoder
from surveillance_pipelines.training.deadline import Deadline
from surveillance_pipelines.training.patch_encoder import train_patch_encoder

Floats = npt.NDArray[np.float64]

SEED: Final = 1
BUFFER: Final = 100
"""Longest buffer of VUS-PR, in points."""


def series_results() -> dict[str, dict[str, float]]:
    """Return detector → series → VUS-PR after the probationary period, for each series of NAB with a window."""
    found: dict[str, dict[str, float]] = {}
    for series in load_corpus():
        training = probation_rows(len(series.values))
        labels = _labels(series)[training:]
        if not labels.any():
            continue
        print(series.name, flush=True)
        for name, scores in _scores(series.values, training).items():
            found.setdefault(name, {})[series.name] = vus_pr(labels, scores[training:], BUFFER)
    return found


def _labels(series: NabSeries) -> npt.NDArray[np.bool_]:
    labels = np.zeros(len(series.values), dtype=np.bool_)
    for first, last in series.windows:
        labels[first : last + 1] = True
    return labels


def _scores(raw: Floats, training: int) -> Mapping[str, Floats]:
    """Return the scores of each detector. All learn from the probationary rows; their window is ``WINDOW``."""
    scale = raw[:training].std() or 1.0
    values = ((raw - raw[:training].mean()) / scale)[:, np.newaxis]
    windows, rows, ordinary = windows_of(values), len(values), windows_of(values[:training])
    known = values[:training]
    encoder = train_patch_encoder([known], seed=SEED)
    distance = memory_distances(encoder, values, known, around, SEED)
    terms = [(score(values), score(known)) for score in (point_deviation(known), mean_shift(known))]
    return {
        "patch encoder": distance[0],
        "patch encoder and PAI": combined([distance, *terms]),
        "PAI's terms alone": combined(terms),
        "Sub-PCA": around(sub_pca(ordinary)(windows), rows),
        "spectral residual": saliency_scores(values[:, 0]),
        "isolation forest": around(forest(ordinary)(windows), rows),
        "robust z": rolling_z(values),
        "autoencoder": around(_reconstruction_errors(ordinary, windows), rows),
    }


def _reconstruction_errors(ordinary: Floats, windows: Floats) -> Floats:
    """Return the mean squared error of our autoencoder's architecture on windows."""
    split = int(0.8 * len(ordinary))
    parts = [part.astype(np.float32) for part in (ordinary[:split], ordinary[split:])]
    training, validation = (ScaledRows(part, np.zeros(part.shape, dtype=np.bool_)) for part in parts)
    trained = train_autoencoder(training, validation, seed=SEED, deadline=Deadline.after(300.0))
    return ((_reconstructed(trained, windows) - windows) ** 2).mean(axis=1)


def _reconstructed(trained: TrainedAutoencoder, windows: Floats) -> Floats:
    current = windows
    for number, (weight, bias) in enumerate(trained.layers):
        current = current @ weight.T.astype(np.float64) + bias
        if number < len(trained.layers) - 1:
            current = np.maximum(current, 0.0)
    return current
