"""Checks of a bundle's members: that they fit each other and the feature view, and that predictions are valid."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.predictions import (
    AnomalyKinds,
    AnomalyScores,
    Directions,
    EmbeddingDistances,
    Predictions,
)
from surveillance_pipelines.features.views import FeatureView
from surveillance_pipelines.models.contract import SEPARATOR
from surveillance_pipelines.models.kernel_calls import call
from surveillance_pipelines.models.members import BundleError, MemberSpec

DETECTOR_KINDS: Final = frozenset({"anomaly_score", "anomaly_kind", "embedding_distance"})
"""Kinds of output that measure how unusual a bar is."""

TIMEFRAME: Final = "1m"
"""Timeframe of the bars that every lane scores."""

OTHER_BUNDLE: Final = "use another bundle, or train a new one"


def require_members(members: Sequence[MemberSpec], view: FeatureView) -> None:
    """Check that members read what the lanes compute, and statistics that serving members before them provide.

    Raises:
        BundleError: if the ensemble could not predict. Inputs are checked for members that do not serve, too, because
            they are evaluated.
    """
    for spec in members:
        _require_input(spec, view)
    _require_statistics([spec for spec in members if spec.serves])


def require_detector(members: Sequence[MemberSpec]) -> None:
    """Check that a serving member scores anomalies.

    Raises:
        BundleError: if none does, so that there would never be an alert.
    """
    if not any(spec.serves and spec.calibration is not None for spec in members):
        raise BundleError(
            "expected a serving member with a calibration, without which no bar is anomalous, got none among "
            f"{[spec.name for spec in members]}",
            remedy=OTHER_BUNDLE,
        )


def find_problem(spec: MemberSpec, predictions: Predictions, rows: int) -> str | None:
    """Return what is wrong with a member's predictions for n bars, None if they are valid.

    Raises:
        Exception: any, if an array is not numeric.
    """
    if predictions.kind != spec.output.kind:
        return f"predictions of kind {predictions.kind}"
    arrays = [(predictions.values, _expected_shape(spec, predictions, rows))]
    if isinstance(predictions, AnomalyScores) and predictions.contributions is not None:
        arrays.append((predictions.contributions, (rows, len(spec.input.columns))))
    for values, shape in arrays:
        if values.shape != shape:
            return f"predictions of shape {list(values.shape)} instead of {list(shape)}"
        if not _is_finite(values):
            return "NaN or infinity"
    return None


def _is_finite(values: npt.NDArray[Any]) -> bool:
    if values.dtype == np.float64 and values.flags.c_contiguous:
        return call("is_finite", values.reshape(-1))
    return bool(np.isfinite(values).all())


def _expected_shape(spec: MemberSpec, predictions: Predictions, rows: int) -> tuple[int, ...]:
    if isinstance(predictions, (AnomalyKinds, Directions)):
        return rows, len(spec.output.labels)
    if isinstance(predictions, (AnomalyScores, EmbeddingDistances)):
        return (rows,)
    return rows, *predictions.values.shape[1:]


def _require_input(spec: MemberSpec, view: FeatureView) -> None:
    wanted, got = (view.name, TIMEFRAME), (spec.input.view, spec.input.timeframe)
    if got != wanted:
        raise BundleError(
            f"expected member {spec.name!r} to read the feature view {wanted[0]!r} of {wanted[1]} bars, "
            f"got {got[0]!r} of {got[1]} bars",
            remedy=OTHER_BUNDLE,
        )
    read = spec.input.view_columns
    if unknown := sorted(set(read) - set(view.columns)):
        raise BundleError(
            f"expected member {spec.name!r} to read columns of its feature view, it reads {unknown}",
            remedy=OTHER_BUNDLE,
        )
    if moved := _first_moved(read, view.columns):
        raise BundleError(
            f"expected member {spec.name!r} to read each column once and in the order of its feature view, "
            f"got {moved!r} at another place",
            remedy=OTHER_BUNDLE,
        )


def _first_moved(read: Iterable[str], columns: tuple[str, ...]) -> str | None:
    """Return the first column that repeats an earlier one or precedes it in the view."""
    last = -1
    for name in read:
        place = columns.index(name)
        if place <= last:
            return name
        last = place
    return None


def _require_statistics(serving: Sequence[MemberSpec]) -> None:
    """Check that members read statistics of preceding members only, and that only detectors have statistics."""
    provided: list[str] = []
    for spec in serving:
        missing = [name for name in spec.input.derived_columns if name not in provided]
        if missing:
            raise BundleError(
                f"expected member {spec.name!r} to read statistics of serving members before it "
                f"({', '.join(provided) or 'none'}), it reads {missing}",
                remedy=OTHER_BUNDLE,
            )
        kind, statistic = spec.output.kind, spec.output.statistic
        if kind not in DETECTOR_KINDS and (statistic is not None or spec.calibration is not None):
            raise BundleError(
                f"expected a statistic or calibration only of members with an output among {sorted(DETECTOR_KINDS)}, "
                f"got one of member {spec.name!r} with output {kind!r}",
                remedy=OTHER_BUNDLE,
            )
        if statistic is not None:
            provided.append(f"{spec.name}{SEPARATOR}{statistic}")
