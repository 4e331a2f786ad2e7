"""Inference of the tail detector: how improbable a bar's most extreme feature is for an ordinary bar of its phase.

Each feature is compared with its own tail, so one huge value counts in full; the mean error of the autoencoder dilutes
it among all columns.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.predictions import AnomalyScores
from surveillance_pipelines.models.contract import FeatureWindow, InputSpec, OutputSpec
from surveillance_pipelines.models.members import BundleError, Files, MemberSpec
from surveillance_pipelines.models.session_phase import PHASE_COLUMNS, PHASES, session_phases

Floats = npt.NDArray[np.float64]

TAILS_FILE: Final = "market_tails.json"
STATISTIC: Final = "tail_surprise"


@dataclass(frozen=True, slots=True, eq=False)
class Tails:
    """The tails of c features in each session phase, as piecewise linear maps with k knots.

    Attributes:
        features: names of the features.
        two_sided: bool[c], whether the absolute value counts.
        shares: float64[c], share of the alert budget of each feature; they sum to 1.
        knots: float64[phases, c, k], ascending sizes.
        surprise: float64[phases, c, k], −ln of the probability that an ordinary bar is at least so large.
    """

    features: tuple[str, ...]
    two_sided: npt.NDArray[np.bool_]
    shares: Floats
    knots: Floats
    surprise: Floats

    def weighted(self, values: Floats, phases: npt.NDArray[np.int64]) -> Floats:
        """Return −ln(p / share) of each feature, at least 0, float64[n, c]; arguments as for ``surprises``.

        The largest of them is −ln of the weighted Bonferroni p-value (Genovese, Roeder and Wasserman, "False discovery
        control with p-value weighting", Biometrika 2006).
        """
        return np.maximum(self.surprises(values, phases) + np.log(self.shares), 0.0)

    def surprises(self, values: Floats, phases: npt.NDArray[np.int64]) -> Floats:
        """Return the surprise of each feature in nats, float64[n, c]; 0 for a missing value, constant past the knots.

        Args:
            values: float64[n, c], the features in order.
            phases: int64[n], positions in ``PHASES``.
        """
        sizes = np.where(self.two_sided, np.abs(values), values)
        knots, surprise = self.knots[phases], self.surprise[phases]
        last = knots.shape[2] - 1
        right = np.minimum(np.maximum((knots <= sizes[:, :, np.newaxis]).sum(axis=2), 1), last)[:, :, np.newaxis]
        low, high = (np.take_along_axis(knots, place, axis=2)[:, :, 0] for place in (right - 1, right))
        start, end = (np.take_along_axis(surprise, place, axis=2)[:, :, 0] for place in (right - 1, right))
        part = np.minimum(np.maximum((sizes - low) / (high - low), 0.0), 1.0)
        return np.where(np.isnan(sizes), 0.0, start + part * (end - start))


class TailDetector:
    """Scores a bar by the largest weighted surprise among its features.

    Method: peaks over threshold (Siffer et al., "Anomaly detection in streams with extreme value theory", KDD 2017),
    fitted per feature and session phase.
    """

    def __init__(self, spec: MemberSpec, tails: Tails) -> None:
        self.id: Final = spec.id
        self.input: Final[InputSpec] = spec.input
        self.output: Final[OutputSpec] = spec.output
        self.tails: Final = tails
        columns = spec.input.columns
        self._places: Final = np.array([columns.index(name) for name in tails.features], dtype=np.intp)
        self._phase_places: Final = [columns.index(name) for name in PHASE_COLUMNS]

    @classmethod
    def load(cls, spec: MemberSpec, files: Files) -> "TailDetector":
        """Return the model loaded from its file.

        Raises:
            BundleError: if the file is incomplete, or names a feature that is not among the inputs.
        """
        return cls(spec, parse_tails(files[TAILS_FILE], spec.input.columns))

    def predict(self, window: FeatureWindow) -> AnomalyScores:
        inputs = window[:, -1, :]
        phases = session_phases(*(inputs[:, place] for place in self._phase_places))
        surprises = self.tails.weighted(inputs[:, self._places], phases)
        contributions = np.zeros_like(inputs)
        contributions[:, self._places] = surprises
        return AnomalyScores(surprises.max(axis=1), contributions)


def tails_to_json(tails: Tails) -> dict[str, Any]:
    """Return the content of ``market_tails.json``."""
    return {
        "features": list(tails.features),
        "two_sided": tails.two_sided.tolist(),
        "shares": tails.shares.tolist(),
        "phases": list(PHASES),
        "knots": tails.knots.tolist(),
        "surprise": tails.surprise.tolist(),
    }


def parse_tails(content: bytes, columns: tuple[str, ...]) -> Tails:
    """Return the tails stored in ``market_tails.json``.

    Args:
        content: the file.
        columns: the input columns of the member.

    Raises:
        BundleError: if the file is incomplete or does not fit the columns.
    """
    try:
        value: dict[str, Any] = json.loads(content)
        features, phases = tuple(value["features"]), tuple(value["phases"])
        two_sided = np.asarray(value["two_sided"], dtype=np.bool_)
        shares, knots, surprise = (
            np.asarray(value[name], dtype=np.float64) for name in ("shares", "knots", "surprise")
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(
            f"expected features, two_sided, shares, phases, knots and surprise in {TAILS_FILE}: {error!r}"
        ) from error
    if not features or not set(features) | set(PHASE_COLUMNS) <= set(columns) or phases != PHASES:
        raise BundleError(
            f"expected {TAILS_FILE} to have the phases {list(PHASES)} and features among the input columns, got "
            f"{list(phases)!r:.200} and {list(features)!r:.200}"
        )
    sized = knots.ndim == 3 and knots.shape == surprise.shape and knots.shape[:2] == (len(PHASES), len(features))
    if shares.shape != two_sided.shape or not (shares > 0).all() or not np.isclose(shares.sum(), 1.0):
        raise BundleError(f"expected a positive share per feature in {TAILS_FILE}, with the sum 1, got {shares!r:.200}")
    if not sized or knots.shape[2] < 2 or two_sided.shape != (len(features),):
        raise BundleError(f"expected two or more knots per phase and feature in {TAILS_FILE}, got {list(knots.shape)}")
    ascending = (np.diff(knots) > 0).all() and (np.diff(surprise) >= 0).all()
    if not np.isfinite(knots).all() or not np.isfinite(surprise).all() or not ascending or surprise.min() < 0:
        raise BundleError(f"expected finite ascending knots and surprises of at least 0 in {TAILS_FILE}")
    return Tails(features, two_sided, shares, knots, surprise)
