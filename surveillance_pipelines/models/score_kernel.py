"""Compiled arithmetic around the models: tails, rules, calibrations, scaling and the largest contributions.

On a batch of ten bars, the same work takes about a hundred calls of numpy, which cost more than the models. Every loop
goes through one bar after the other, with the operations in a fixed order and without fused or reassociated
arithmetic, so results are bit-identical for any split into batches. Comparisons treat NaN as numpy's ``minimum`` and
``maximum`` do: NaN stays NaN.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import boolean, float32, float64, int64, njit

from surveillance_pipelines.features.compiled_calls import compiled
from surveillance_pipelines.models.kernel_calls import AT_MOST, RATIO

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Division follows IEEE 754 instead of raising, and sums keep their order (no fastmath): the same bits everywhere.
_compiled: Final = njit(cache=True, error_model="numpy")

ROW: Final = float64[::1]
TABLE: Final = float64[:, ::1]
CUBE: Final = float64[:, :, ::1]
PLACES: Final = int64[::1]
MATRIX_OF_PLACES: Final = int64[:, ::1]

_LARGEST: Final = float(np.finfo(np.float64).max)
_PRE, _OPEN, _DAY, _CLOSE, _POST, _AROUND_THE_CLOCK = range(6)


@_compiled
def _session_length(progress: float, left: float) -> float:
    return left / (1.0 - progress)


@_compiled
def phases(clock: Floats, bounds: Floats, out: Integers) -> None:
    """Write the session phase of each row; see ``session_phase.py``.

    Args:
        clock: float64[n, 2]: ``session_progress`` and ``minutes_to_close``.
        bounds: float64[3]: minutes of the opening, of the close, and of a session without a close.
        out: int64[n].
    """
    for i in range(clock.shape[0]):
        progress, left = clock[i, 0], clock[i, 1]
        length = _session_length(progress, left)
        phase = _DAY
        if progress * length < bounds[0]:
            phase = _OPEN
        if left <= bounds[1]:
            phase = _CLOSE
        if progress < 0.0:
            phase = _PRE
        if progress >= 1.0:
            phase = _POST
        if length >= bounds[2]:
            phase = _AROUND_THE_CLOCK
        out[i] = phase


@_compiled
def _surprise(size: float, knots: Floats, surprise: Floats) -> float:
    """Return the piecewise linear map of a size, 0 for NaN."""
    if math.isnan(size):
        return 0.0
    right = 1
    while right < len(knots) - 1 and knots[right] <= size:
        right += 1
    low, start = knots[right - 1], surprise[right - 1]
    part = (size - low) / (knots[right] - low)
    if part > 1.0:
        part = 1.0
    elif part <= 0.0:
        part = 0.0
    return start + part * (surprise[right] - start)


@_compiled
def tails(values: Floats, phase: Integers, sides: Floats, knots: Floats, surprise: Floats, out: Floats) -> None:
    """Write the surprise of each feature.

    Args:
        values: float64[n, c].
        phase: int64[n].
        sides: float64[2, c]: 1 where the absolute value counts; and ln of the feature's share, which is added.
        knots: float64[phases, c, k], ascending.
        surprise: float64[phases, c, k].
        out: float64[n, c].
    """
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            size = abs(values[i, j]) if sides[0, j] > 0.0 else values[i, j]
            out[i, j] = _surprise(size, knots[phase[i], j], surprise[phase[i], j])


@_compiled
def detect_tails(
    inputs: Floats, places: Integers, bounds: Floats, sides: Floats, knots: Floats, surprise: Floats, statistic: Floats,
    contributions: Floats,
) -> None:  # fmt: skip
    """Write the statistic of the tail detector and the weighted surprise of each input column.

    Args:
        inputs: float64[n, d].
        places: int64[c + 2]: the columns of ``session_progress``, of ``minutes_to_close`` and of the features.
        bounds: as for ``phases``.
        sides: as for ``tails``.
        knots: as for ``tails``.
        surprise: as for ``tails``.
        statistic: float64[n], the largest weighted surprise.
        contributions: float64[n, d].
    """
    clock, phase = np.empty((1, 2)), np.empty(1, dtype=np.int64)
    for i in range(inputs.shape[0]):
        clock[0, 0], clock[0, 1] = inputs[i, places[0]], inputs[i, places[1]]
        phases(clock, bounds, phase)
        for j in range(inputs.shape[1]):
            contributions[i, j] = 0.0
        largest = -math.inf
        for j in range(len(places) - 2):
            value = inputs[i, places[j + 2]]
            size = abs(value) if sides[0, j] > 0.0 else value
            weighted = _surprise(size, knots[phase[0], j], surprise[phase[0], j]) + sides[1, j]
            if weighted <= 0.0:
                weighted = 0.0
            contributions[i, places[j + 2]] = weighted
            if weighted > largest or math.isnan(weighted):
                largest = weighted
        statistic[i] = largest


@_compiled
def ratio(value: float, limit: float, two_sided: float) -> float:
    """Return the ratio of a feature to its limit, at least 0 and finite; 0 for NaN."""
    if math.isnan(value):
        return 0.0
    size = abs(value) if two_sided > 0.0 else (value if value > 0.0 else 0.0)
    return min(size / limit, _LARGEST)


@_compiled
def strengths(features: Floats, rules: Floats, clock: Integers, around_the_clock: float, out: Floats) -> None:
    """Write the smallest ratio of each rule's features to their limits; 0 where the rule does not apply.

    Args:
        features: float64[n, F].
        rules: float64[m, 5], rows of (operation, rule, column, limit, flag). ``RATIO``: flag 1 for the absolute value.
            ``AT_MOST``: the rule applies only up to the limit. ``BEFORE_CLOSE``: the rule applies only in the last
            minutes, as many as the limit; with flag 1 only in sessions with a close.
        clock: int64[2], the columns of ``session_progress`` and ``minutes_to_close``.
        around_the_clock: minutes of a session without a close.
        out: float64[n, rules], overwritten.
    """
    for i in range(features.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = math.inf
        for k in range(rules.shape[0]):
            rule, limit, flag = int(rules[k, 1]), rules[k, 3], rules[k, 4]
            if rules[k, 0] == RATIO:
                out[i, rule] = min(out[i, rule], ratio(features[i, int(rules[k, 2])], limit, flag))
            elif rules[k, 0] == AT_MOST:
                if not features[i, int(rules[k, 2])] <= limit:
                    out[i, rule] = 0.0
            else:
                progress, left = features[i, clock[0]], features[i, clock[1]]
                applies = left > 0.0 and left <= limit
                if applies and flag > 0.0:
                    applies = _session_length(progress, left) < around_the_clock
                if not applies:
                    out[i, rule] = 0.0


@_compiled
def rule_evidence(features: Floats, rules: Floats, chosen: Integers, out: Floats) -> None:
    """Write the ratio to its limit of each feature of one rule per row, 0 for other features.

    Args:
        features: float64[n, F].
        rules: as for ``strengths``; the last limit of a feature counts.
        chosen: int64[n], the rule of each row.
        out: float64[n, F].
    """
    for i in range(features.shape[0]):
        for j in range(features.shape[1]):
            out[i, j] = 0.0
        for k in range(rules.shape[0]):
            if rules[k, 0] == RATIO and int(rules[k, 1]) == chosen[i]:
                column = int(rules[k, 2])
                out[i, column] = ratio(features[i, column], rules[k, 3], rules[k, 4])


@_compiled
def calibrate(statistic: Floats, knots: Floats, scores: Floats, out: Floats) -> None:
    """Write scores by linear interpolation between knots, constant outside; all arrays are float64[n] or float64[k]."""
    for i in range(len(statistic)):
        value = statistic[i]
        right = 1
        while right < len(knots) - 1 and knots[right] <= value:
            right += 1
        part = (value - knots[right - 1]) / (knots[right] - knots[right - 1])
        if part > 1.0:
            part = 1.0
        elif part <= 0.0:
            part = 0.0
        out[i] = scores[right - 1] + part * (scores[right] - scores[right - 1])


@_compiled
def centre(probability: Floats, threshold: float, centred: float, out: Floats) -> None:
    """Write probabilities, float64[n], mapped by two lines so that ``threshold`` becomes ``centred``, within 0 to 1."""
    for i in range(len(probability)):
        value = probability[i]
        if value < threshold:
            score = centred * value / threshold
        else:
            score = centred + (1.0 - centred) * (value - threshold) / (1.0 - threshold)
        if score > 1.0:
            score = 1.0
        elif score <= 0.0:
            score = 0.0
        out[i] = score


@_compiled
def to_float32(values: Floats, largest: float, out: Any) -> None:
    """Write values, float64[n], within ±largest to float32[n]; NaN stays NaN."""
    for i in range(len(values)):
        value = values[i]
        if value < -largest:
            value = -largest
        elif value > largest:
            value = largest
        out[i] = np.float32(value)


@_compiled
def scale(inputs: Floats, center: Floats, spread: Floats, clip: float, scaled: Any, missing: Any) -> None:
    """Write ``(inputs − center) / spread`` within ±clip, 0 for NaN, to float32[n, d], and where inputs are NaN."""
    for i in range(inputs.shape[0]):
        for j in range(inputs.shape[1]):
            value = (inputs[i, j] - center[j]) / spread[j]
            if value < -clip:
                value = -clip
            elif value > clip:
                value = clip
            missing[i, j] = math.isnan(inputs[i, j])
            scaled[i, j] = np.float32(0.0 if math.isnan(value) else value)


@_compiled
def squared_errors(scaled: Any, reconstructed: Floats, missing: Any, error: Floats, squares: Floats) -> None:
    """Write the squared errors, float64[n, d], 0 where the input is missing, and their mean over the present inputs."""
    for i in range(scaled.shape[0]):
        total, present = 0.0, 0
        for j in range(scaled.shape[1]):
            square = 0.0
            if not missing[i, j]:
                difference = np.float64(scaled[i, j]) - reconstructed[i, j]
                square = difference * difference
                present += 1
            squares[i, j] = square
            total += square
        error[i] = total / max(present, 1)


@_compiled
def largest_parts(parts: Floats, values: Floats, top: Integers, shares: Floats, top_values: Floats) -> None:
    """Write the columns of the largest parts of each row, their shares of the row's sum, and the values there.

    Args:
        parts: float64[n, d], finite, at least 0.
        values: float64[n, d].
        top: int64[n, m]; of equal parts, the first column comes first.
        shares: float64[n, m].
        top_values: float64[n, m].
    """
    for i in range(parts.shape[0]):
        total = 0.0
        for j in range(parts.shape[1]):
            total += parts[i, j]
        for place in range(top.shape[1]):
            best, largest = 0, -math.inf
            for j in range(parts.shape[1]):
                taken = False
                for earlier in range(place):
                    taken = taken or top[i, earlier] == j
                if not taken and parts[i, j] > largest:
                    best, largest = j, parts[i, j]
            top[i, place] = best
            shares[i, place] = parts[i, best] / total if total > 0.0 else 0.0
            top_values[i, place] = values[i, best]


@_compiled
def is_finite(values: Floats) -> bool:
    """Return whether all values, float64[n], are finite."""
    for i in range(len(values)):
        if not math.isfinite(values[i]):
            return False
    return True


_TYPES: Final[dict[Any, tuple[Any, ...]]] = {
    phases: (TABLE, ROW, PLACES),
    tails: (TABLE, PLACES, TABLE, CUBE, CUBE, TABLE),
    detect_tails: (TABLE, PLACES, ROW, TABLE, CUBE, CUBE, ROW, TABLE),
    strengths: (TABLE, TABLE, PLACES, float64, TABLE),
    rule_evidence: (TABLE, TABLE, PLACES, TABLE),
    calibrate: (ROW, ROW, ROW, ROW),
    centre: (ROW, float64, float64, ROW),
    to_float32: (ROW, float64, float32[::1]),
    scale: (TABLE, ROW, ROW, float64, float32[:, ::1], boolean[:, ::1]),
    squared_errors: (float32[:, ::1], TABLE, boolean[:, ::1], ROW, TABLE),
    largest_parts: (TABLE, TABLE, MATRIX_OF_PLACES, TABLE, TABLE),
    is_finite: (ROW,),
}


def ready_function(name: str) -> Callable[..., Any]:
    """Return a function of this module, compiled; ``kernel_calls.call`` is the way to it."""
    types = {function.__name__: (function, types) for function, types in _TYPES.items()}
    return compiled(*types[name])
