"""Predictions of a bundle or of the warm-up rules for n bars, fused to one score and one kind per bar."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Final, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.predictions import Predictions
from surveillance_pipelines.models.kernel_calls import call

Floats = npt.NDArray[np.float64]
Wording = Literal["v1", "v2"]

TOP_FEATURES: Final = 3


class Explainer(Protocol):
    """Explains an alert; the models of a bundle that records ordinary values."""

    def explain(self, window: Floats) -> dict[str, Any]:
        """Return the entries of an alert's explanation, JSON-safe, for its window, float64[length, F]."""
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BundlePredictions:
    """Fused predictions; alerts and signals are decided elsewhere. Arrays have one row per bar.

    Attributes:
        anomaly_score: float64[n], 0 to 1, the fused score.
        threshold: the calibrated score from which a bar is anomalous.
        kind_codes: int64[n], the kind of each bar as a position in ``kind_names``.
        kind_names: labels of the kinds, then ``unclassified``.
        confidence: float64[n], probability of the kind; for ``unclassified``, the score of the detector.
        detectors: members with a calibrated score, including those out of service.
        detector_scores: float64[n, len(detectors)], 0 to 1, each 0.5 at the detector's threshold; 0 if out of service.
        statistics: named statistics, float64[n] each; NaN if the member is out of service.
        labels: names of the columns of ``probabilities``, ``normal`` first.
        probabilities: float64[n, len(labels)] of the classifying member.
        feature_names: names indexed by ``top_features``.
        top_features: int64[n, 3], the features that contribute most to the score, largest first.
        top_shares: float64[n, 3], their shares of the total, 0 to 1.
        top_values: float64[n, 3], their values as computed by the kernel; NaN if missing.
        direction_probabilities: float64[n, 3] in the order of ``DIRECTIONS``.
        direction_ready: False if no direction model serves; the probabilities are then computed from momentum, and
            signals from them are marked as warm-up.
        refused_kinds: int64[n], the likeliest kind of a bar that shows too little evidence for it, as a position in
            ``kind_names``; -1 if there is none. None for predictions without such a rule.
        others: predictions of members that predict neither anomalies nor a direction, by member.
        excluded: members out of service because they failed, sorted; fallbacks are used instead.
        wording: version of the explanation texts for these predictions.
        explainer: explains alerts among these predictions; None if the models cannot.
    """

    anomaly_score: Floats
    threshold: float
    kind_codes: npt.NDArray[np.int64]
    kind_names: tuple[str, ...]
    confidence: Floats
    detectors: tuple[str, ...]
    detector_scores: Floats
    statistics: Mapping[str, Floats]
    labels: tuple[str, ...]
    probabilities: Floats
    feature_names: tuple[str, ...]
    top_features: npt.NDArray[np.int64]
    top_shares: Floats
    top_values: Floats
    direction_probabilities: Floats
    direction_ready: bool
    refused_kinds: npt.NDArray[np.int64] | None = None
    others: Mapping[str, Predictions] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    wording: Wording = "v2"
    explainer: Explainer | None = None

    def __len__(self) -> int:
        return len(self.anomaly_score)

    @property
    def is_anomaly(self) -> npt.NDArray[np.bool_]:
        """Where the score reaches the threshold, bool[n]."""
        return self.anomaly_score >= self.threshold

    def is_alert(self, i: int) -> bool:
        """Return whether one bar is anomalous."""
        return bool(self.anomaly_score[i] >= self.threshold)

    @property
    def kinds(self) -> list[str]:
        """The kind of each bar by name."""
        names = self.kind_names
        return [names[code] for code in self.kind_codes.tolist()]

    def kind(self, i: int) -> str:
        """Return the kind of one bar by name."""
        return self.kind_names[self.kind_codes[i]]

    def detector_score(self, name: str) -> Floats:
        """Return one detector's scores, float64[n]; zeros for an unknown detector."""
        if name not in self.detectors:
            return np.zeros(len(self))
        return self.detector_scores[:, self.detectors.index(name)]

    def statistic(self, name: str) -> Floats:
        """Return a named statistic, float64[n]; NaN if no member has it."""
        values = self.statistics.get(name)
        return np.full(len(self), np.nan) if values is None else values


def concatenate(pieces: Sequence[BundlePredictions]) -> BundlePredictions:
    """Return consecutive predictions of one ensemble as one."""
    if len(pieces) == 1:
        return pieces[0]
    return _combined(pieces, np.concatenate)


def gather_rows(rows: Sequence[tuple[BundlePredictions, int]]) -> BundlePredictions:
    """Return single rows of several predictions of one ensemble as one.

    Args:
        rows: (predictions, row number) pairs; at least one.
    """
    places = [i for _, i in rows]

    def pick(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.array([array[i] for array, i in zip(arrays, places, strict=True)])

    return _combined([predictions for predictions, _ in rows], pick)


_Rows = TypeVar("_Rows")


def first_rows(predictions: _Rows, rows: int) -> _Rows:
    """Return the predictions, of a bundle or of one member, for the first bars only."""
    return _combined([predictions], lambda arrays: arrays[0][:rows])


def _combined(parts: Sequence[Any], combine: Any) -> Any:
    """Combine dataclasses into one: arrays, also in mappings and nested predictions, are combined by ``combine``.

    Other fields (names, labels, thresholds) are equal in all predictions of one ensemble; the first one's are kept.
    """
    first, changes = parts[0], dict[str, Any]()
    for each in fields(first):
        value = getattr(first, each.name)
        if isinstance(value, np.ndarray):
            changes[each.name] = combine([getattr(part, each.name) for part in parts])
        elif isinstance(value, Mapping):
            columns = {key: [getattr(part, each.name)[key] for part in parts] for key in value}
            changes[each.name] = {
                key: _combined(values, combine) if is_dataclass(values[0]) else combine(values)
                for key, values in columns.items()
            }
    return replace(first, **changes)


def top_contributions(parts: Floats, values: Floats) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return the columns with the largest parts, their shares of the row's sum, and their values.

    Parts are at least 0; of equal parts, the first column comes first.
    """
    size = (len(parts), TOP_FEATURES)
    top, shares, found = np.empty(size, dtype=np.int64), np.empty(size), np.empty(size)
    call("largest_parts", np.ascontiguousarray(parts), np.ascontiguousarray(values), top, shares, found)
    return top, shares, found
