"""Fitting of the tail detector: generalised Pareto tails of a few features in every session phase."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import genpareto

from surveillance_pipelines.evaluation.thresholds import TAIL_RATE, calibrate_surprise
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.hashing import canonical_json, sha256_bytes
from surveillance_pipelines.models.contract import InputSpec, OutputSpec
from surveillance_pipelines.models.members import MemberSpec
from surveillance_pipelines.models.rules import TWO_SIDED
from surveillance_pipelines.models.session_phase import PHASE_COLUMNS, PHASES, session_phases
from surveillance_pipelines.models.tail_detector import STATISTIC, TAILS_FILE, TailDetector, Tails, tails_to_json
from surveillance_pipelines.training.member import MemberContext, TrainedMember, TrainingCheck
from surveillance_pipelines.training.tail_plot import tails_figure

Floats = npt.NDArray[np.float64]

SHARES: Final[Mapping[str, float]] = {
    "volume_z": 0.4,
    "return_z": 0.12,
    "range_ratio": 0.12,
    "return_z_5": 0.12,
    "return_z_15": 0.12,
    "gap_z": 0.12,
}
"""Features whose tails are fitted, with their shares of the alert budget. Volume gets the most: it is the only feature
of its kind, and ordinary volume varies more than ordinary prices, while the five sizes of moves support each other."""

VERSION: Final = "1.0"
"""Version of the trained model; change it with the method or the inputs."""

MIN_PHASE_ROWS: Final = 500
"""Ordinary bars of a phase from which its own tails are fitted; with fewer, the bars of all phases are used."""

TAIL_SHARE: Final = 0.02
"""Share of the largest values to which the tail is fitted."""
LARGEST_SHAPE: Final = 0.5
"""Bound of the shape of the tail: with more, its variance is infinite, and no size would be surprising."""

_COUNTED: Final = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03)
_EXTRAPOLATED: Final = (0.02, 0.01, 0.005, 0.002, 1e-3, 5e-4, 2e-4, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-15)
"""Exceedance probabilities at the knots, from empirical quantiles and from the fitted tail."""
_SURPRISE: Final = -np.log(np.array([*_COUNTED, *_EXTRAPOLATED]))
_LEAST_STEP: Final = 1e-9


@dataclass(frozen=True, slots=True)
class TailConfig:
    """Parameters of the fit.

    Attributes:
        shares: column of the feature view → its share of the alert budget; they sum to 1.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))


DEFAULT: Final = TailConfig()


def train(context: MemberContext) -> TrainedMember:
    """Fit the tails on ordinary training bars, and the threshold on ordinary training and validation bars.

    The fit has few parameters, so training bars do not bias the threshold, and more days make it steadier.
    """
    rows, config = context.training_set, context.config or DEFAULT
    view = rows.feature_view.columns
    columns = tuple(name for name in view if name in {*config.shares, *PHASE_COLUMNS})
    shares = {name: config.shares[name] for name in columns if name in config.shares}
    tails = fit_tails(rows.rows("train", labelled=True, original=True), shares)
    content = canonical_json(tails_to_json(tails)).encode()
    spec = MemberSpec(
        name="tail_detector",
        kind="tail_detector",
        version=VERSION,
        files=(TAILS_FILE,),
        file_hashes=(sha256_bytes(content),),
        input=InputSpec(rows.view, columns),
        output=OutputSpec("anomaly_score", statistic=STATISTIC),
    )
    ordinary = rows.rows("train", "validation", labelled=True, original=True)
    detector = TailDetector(spec, tails)
    surprise = detector.predict(feature_matrix(ordinary, columns)[:, np.newaxis, :]).statistic
    calibration = calibrate_surprise(surprise, TAIL_RATE).to_json()
    context.progress(spec.name, 1.0)
    return TrainedMember(
        spec=replace(spec, calibration=calibration),
        files={TAILS_FILE: content},
        native=tails,
        facts={"threshold": float(np.interp(0.5, calibration["score"], calibration["statistic"]))},
        figures={"tails": tails_figure(tails)},
        checks=(TrainingCheck("tails_are_finite", bool(np.isfinite(tails.knots).all()), {"knots": tails.knots.size}),),
    )


def fit_tails(ordinary: pl.DataFrame, shares: Mapping[str, float]) -> Tails:
    """Return the tails of features over ordinary bars, per session phase.

    Args:
        ordinary: feature rows with the features and ``PHASE_COLUMNS``.
        shares: feature → its share of the alert budget.
    """
    features = tuple(shares)
    values, phases = feature_matrix(ordinary, features), session_phases(*feature_matrix(ordinary, PHASE_COLUMNS).T)
    two_sided = np.array([name in TWO_SIDED for name in features])
    sizes = np.where(two_sided, np.abs(values), values)
    knots = np.empty((len(PHASES), len(features), len(_SURPRISE)))
    for column in range(len(features)):
        known = np.isfinite(sizes[:, column])
        pooled = _knots(sizes[known, column])
        for phase in range(len(PHASES)):
            own = known & (phases == phase)
            knots[phase, column] = _knots(sizes[own, column]) if own.sum() >= MIN_PHASE_ROWS else pooled
    surprise = np.broadcast_to(_SURPRISE, knots.shape)
    return Tails(features, two_sided, np.array(list(shares.values())), knots, surprise)


def _knots(values: Floats) -> Floats:
    """Return the sizes that ordinary values exceed with the probabilities of the knots."""
    if len(values) < MIN_PHASE_ROWS:
        # A feature that the source does not report, such as volume: no size of it is surprising.
        return np.arange(len(_SURPRISE), dtype=np.float64) + 1e9
    threshold = float(np.quantile(values, 1.0 - TAIL_SHARE))
    excess = values[values > threshold] - threshold
    shape, scale = _fit_pareto(excess)
    tail = threshold + genpareto.isf(np.array(_EXTRAPOLATED) / TAIL_SHARE, shape, scale=scale)
    counted = np.quantile(values, 1.0 - np.array(_COUNTED))
    return _ascending(np.concatenate([counted, tail]))


def _fit_pareto(excess: Floats) -> tuple[float, float]:
    """Return shape (0 to ``LARGEST_SHAPE``) and scale of the generalised Pareto distribution of excesses."""
    fixed: dict[str, Any] = {"floc": 0.0}
    shape, _, scale = genpareto.fit(excess, **fixed)
    if not 0.0 <= shape <= LARGEST_SHAPE:
        shape = min(max(shape, 0.0), LARGEST_SHAPE)
        _, _, scale = genpareto.fit(excess, f0=shape, **fixed)
    return float(shape), float(scale)


def _ascending(knots: Floats) -> Floats:
    """Return knots that ascend strictly: equal quantiles are moved apart by a negligible step."""
    steps = np.arange(len(knots)) * _LEAST_STEP * max(1.0, float(np.abs(knots).max()))
    return np.asarray(np.maximum.accumulate(knots) + steps, dtype=np.float64)
