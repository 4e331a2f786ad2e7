"""Inference of the tail detector: how improbable a bar's most extreme feature is for an ordinary bar of its phase.

Each feature is compared with its own tail, so one huge value counts in full; the mean error of the autoencoder dilutes
it among all columns.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.predictions import AnomalyScores
from surveillance_pipelines.models.contract import FeatureWindow, InputSpec, OutputSpec
from surveillance_pipelines.models.declared_sizes import number_array, read_table
from surveillance_pipelines.models.kernel_calls import call
from surveillance_pipelines.models.members import BundleError, Files, MemberSpec
from surveillance_pipelines.models.session_phase import PHASE_BOUNDS, PHASE_COLUMNS, PHASES

Floats = npt.NDArray[np.float64]

TAILS_FILE: Final = "market_tails.json"
STATISTIC: Final = "tail_surprise"
MAX_KNOTS: Final = 256


@dataclass(frozen=True, eq=False)
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
        return np.maximum(self.surprises(values, phases) + self.sides[1], 0.0)

    @cached_property
    def sides(self) -> Floats:
        """float64[2, c]: 1 where the absolute value counts, and the logarithm of the share of each feature."""
        return np.stack([self.two_sided.astype(np.float64), np.log(self.shares)])

    @cached_property
    def maps(self) -> tuple[Floats, Floats]:
        """Knots and surprise, contiguous."""
        return np.ascontiguousarray(self.knots), np.ascontiguousarray(self.surprise)

    def surprises(self, values: Floats, phases: npt.NDArray[np.int64]) -> Floats:
        """Return the surprise of each feature in nats, float64[n, c]; 0 for a missing value, constant past the knots.

        Args:
            values: float64[n, c], the features in order.
            phases: int64[n], positions in ``PHASES``.
        """
        found = np.empty(values.shape)
        call("tails", np.ascontiguousarray(values), np.ascontiguousarray(phases), self.sides, *self.maps, found)
        return found


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
        names = (*PHASE_COLUMNS, *tails.features)
        self._places: Final = np.array([columns.index(name) for name in names], dtype=np.int64)

    @classmethod
    def load(cls, spec: MemberSpec, files: Files) -> "TailDetector":
        """Return the model loaded from its file.

        Raises:
            BundleError: if the file is incomplete, or names a feature that is not among the inputs.
        """
        return cls(spec, parse_tails(files[TAILS_FILE], spec.input.columns))

    def predict(self, window: FeatureWindow) -> AnomalyScores:
        inputs = np.ascontiguousarray(window[:, -1, :])
        statistic, contributions = np.empty(len(inputs)), np.empty(inputs.shape)
        arrays = (self._places, PHASE_BOUNDS, self.tails.sides, *self.tails.maps, statistic, contributions)
        call("detect_tails", inputs, *arrays)
        return AnomalyScores(statistic, contributions)


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
    value = read_table(TAILS_FILE, content)
    missing = sorted({"features", "two_sided", "shares", "phases", "knots", "surprise"} - set(value))
    if missing:
        raise BundleError(
            f"expected features, two_sided, shares, phases, knots and surprise in {TAILS_FILE}: {missing}"
        )
    features, phases = value["features"], value["phases"]
    named = isinstance(features, list) and all(isinstance(name, str) and name in columns for name in features)
    if not features or not named or len(set(features)) < len(features) or phases != list(PHASES):
        raise BundleError(
            f"expected {TAILS_FILE} to have the phases {list(PHASES)} and different features among the input columns, "
            f"got {phases!r:.200} and {features!r:.200}"
        )
    if not set(PHASE_COLUMNS) <= set(columns):
        raise BundleError(f"expected the columns {list(PHASE_COLUMNS)} among the inputs, got {list(columns)!r:.200}")
    if not _are_flags(value["two_sided"], len(features)):
        raise BundleError(f"expected true or false per feature in {TAILS_FILE}, got {value['two_sided']!r:.200}")
    try:
        shares = number_array(value["shares"], (len(features),))
        size = (len(PHASES), len(features), _knot_count(value["knots"]))
        knots, surprise = (number_array(value[name], size) for name in ("knots", "surprise"))
    except ValueError as error:
        raise BundleError(
            f"expected a share, and 2 to {MAX_KNOTS} knots per phase, per feature in {TAILS_FILE}: {error}"
        ) from error
    if not (shares > 0).all() or not np.isclose(shares.sum(), 1.0):
        raise BundleError(f"expected a positive share per feature in {TAILS_FILE}, with the sum 1, got {shares!r:.200}")
    if not (np.diff(knots) > 0).all() or not (np.diff(surprise) >= 0).all() or surprise.min() < 0:
        raise BundleError(f"expected finite ascending knots and surprises of at least 0 in {TAILS_FILE}")
    return Tails(tuple(features), np.array(value["two_sided"], dtype=np.bool_), shares, knots, surprise)


def _are_flags(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(each, bool) for each in value)


def _knot_count(knots: Any) -> int:
    """Return the number of knots of the first phase and feature; the others must have as many.

    Raises:
        ValueError: if there are none, or too many.
    """
    first: Any = knots
    for _ in range(2):
        if not isinstance(first, list) or not first:
            raise ValueError(f"expected lists of knots, got {first!r:.40}")
        first = first[0]
    if not isinstance(first, list) or not 2 <= len(first) <= MAX_KNOTS:
        raise ValueError(
            f"expected 2 to {MAX_KNOTS} knots, got {len(first) if isinstance(first, list) else first!r:.40}"
        )
    return len(first)
