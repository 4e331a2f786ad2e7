"""Naive detectors for the benchmark of detection. Each is fitted on the training days and scores feature rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import rankdata
from sklearn.ensemble import IsolationForest

from benchmarks.detection_markets import VIEW, Scorer, Scores
from surveillance_pipelines.models.warmup import WarmupRules

SEED: Final = 1
WINDOW: Final = 64
"""Bars of a window of the spectral residual."""
_SMOOTHED: Final = 3
_EXTENDED: Final = 5
_LOCAL: Final = 21


def warmup_rules(_train: pl.DataFrame) -> Scorer:
    """Return the rules that serve until a model passes its gate."""
    return lambda rows: WarmupRules().predict(rows.select(VIEW.columns).to_numpy()).anomaly_score


def robust_z(_train: pl.DataFrame) -> Scorer:
    """Return the largest of the z-scores of return, volume and 15-minute return."""

    def score(rows: pl.DataFrame) -> Scores:
        values = rows.select("return_z", "volume_z", "return_z_15").to_numpy()
        sizes = np.column_stack([np.abs(values[:, 0]), values[:, 1], np.abs(values[:, 2])])
        return np.nan_to_num(sizes, nan=0.0).max(axis=1)

    return score


def isolation_forest(train: pl.DataFrame) -> Scorer:
    """Return an isolation forest on the model columns: 200 trees of 2,048 samples."""
    columns = list(VIEW.model_columns)
    median = np.nanmedian(train.select(columns).to_numpy(), axis=0)

    def filled(rows: pl.DataFrame) -> npt.NDArray[np.float64]:
        values = rows.select(columns).to_numpy()
        return np.where(np.isnan(values), median, values)

    # scikit-learn has no annotations, so pyright infers types from the defaults.
    options: dict[str, Any] = {"n_estimators": 200, "max_samples": 2_048, "random_state": SEED}
    forest = IsolationForest(**options).fit(filled(train))
    return lambda rows: -forest.score_samples(filled(rows))


def spectral_residual(_train: pl.DataFrame) -> Scorer:
    """Return the spectral residual of the closes (Ren et al., "Time-series anomaly detection service", KDD 2019).

    Every bar is scored as the newest of its window, which is extended by estimated points.
    """

    def score(rows: pl.DataFrame) -> Scores:
        keys = [name for name in ("copy", "symbol") if name in rows.columns]
        returns = rows.select(*keys, pl.col("log_return").fill_nan(0.0)).partition_by(keys, maintain_order=True)
        return np.concatenate([saliency_scores(np.cumsum(part["log_return"].to_numpy()), np.exp) for part in returns])

    return score


def saliency_scores(values: npt.NDArray[np.float64], transform: Callable[[Scores], Scores] | None = None) -> Scores:
    """Return the spectral residual of each value as the newest of its window, float64[n].

    Args:
        values: float64[n], the series.
        transform: applied to the extended windows before the Fourier transform, such as exp for logarithmic prices.
    """
    padded = np.concatenate([np.full(WINDOW - 1, values[0]), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
    # The points after the newest one are estimated from those before it, so that a spike does not hide in them.
    gradients = (windows[:, -2:-1] - windows[:, -_EXTENDED - 2 : -2]) / np.arange(_EXTENDED, 0, -1)
    estimated = windows[:, -_EXTENDED - 1 : -_EXTENDED] + gradients.sum(axis=1, keepdims=True)
    extended = np.concatenate([windows, np.repeat(estimated, _EXTENDED, axis=1)], axis=1)
    spectrum = np.fft.fft(extended if transform is None else transform(extended), axis=1)
    amplitude = np.log(np.abs(spectrum) + 1e-12)
    totals = np.cumsum(amplitude, axis=1)
    totals[:, _SMOOTHED:] -= totals[:, :-_SMOOTHED].copy()
    smooth = totals / np.minimum(np.arange(1, amplitude.shape[1] + 1), _SMOOTHED)
    saliency = np.abs(np.fft.ifft(np.exp(amplitude - smooth + 1j * np.angle(spectrum)), axis=1))[:, :WINDOW]
    local = saliency[:, -_LOCAL - 1 : -1].mean(axis=1)
    scores = (saliency[:, -1] - local) / np.maximum(local, 1e-12)
    scores[: WINDOW - 1] = 0.0  # their windows begin with repeated prices, beside which every move is salient
    return scores


def remembered(scorer: Scorer) -> Scorer:
    """Return a scorer that computes the scores of each frame once."""
    known: dict[int, tuple[pl.DataFrame, Scores]] = {}

    def score(rows: pl.DataFrame) -> Scores:
        if id(rows) not in known:
            known[id(rows)] = rows, scorer(rows)  # the frame is kept, so its id is not used again
        return known[id(rows)][1]

    return score


BASELINES: Final[Mapping[str, Callable[[pl.DataFrame], Scorer]]] = {
    "warm-up rules": warmup_rules,
    "robust z": robust_z,
    "spectral residual": spectral_residual,
    "isolation forest": isolation_forest,
}


def combination(scorers: Sequence[Scorer], train: pl.DataFrame) -> Scorer:
    """Return the largest of several scores, each as −ln of its exceedance rate on the training days."""
    known = [np.sort(scorer(train)) for scorer in scorers]

    def score(rows: pl.DataFrame) -> Scores:
        parts = [_surprise(scorer(rows), ordinary) for scorer, ordinary in zip(scorers, known, strict=True)]
        return np.maximum.reduce(parts)

    return score


def _surprise(scores: Scores, ordinary: Scores) -> Scores:
    above = len(ordinary) - np.searchsorted(ordinary, scores, side="left")
    # Scores beyond all ordinary ones keep their order: their ranks break the ties.
    return -np.log((1.0 + above) / (len(ordinary) + 1.0)) + 1e-6 * rankdata(scores) / len(scores)
