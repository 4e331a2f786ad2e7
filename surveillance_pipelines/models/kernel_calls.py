"""Calls of the compiled functions of ``score_kernel`` by name.

Numba is imported with the first call: Dagster's definitions import the kinds of models, and must load without it.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

KernelFunction = Literal[
    "phases", "tails", "detect_tails", "strengths", "rule_evidence", "calibrate", "centre", "to_float32", "scale",
    "squared_errors", "largest_parts", "is_finite",
]  # fmt: skip

RATIO, AT_MOST, BEFORE_CLOSE = range(3)
"""Operations of the rows of a table of rules: (operation, rule, column, limit, flag)."""

_READY: Final[dict[str, Callable[..., Any]]] = {}


def call(function: KernelFunction, *arguments: Any) -> Any:
    """Call a function of ``score_kernel``; float64 arguments must be contiguous (``numpy.ascontiguousarray``)."""
    ready = _READY.get(function)
    if ready is None:
        from surveillance_pipelines.models.score_kernel import ready_function

        ready = _READY[function] = ready_function(function)
    return ready(*arguments)
