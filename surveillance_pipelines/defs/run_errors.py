"""Errors of failed steps, as text."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import dagster as dg

_LONGEST: Final = 400
INTERRUPTED: Final = "interrupted before its end"
_INTERRUPTION: Final = re.compile(r"\bdagster\._core\.errors\.DagsterExecutionInterruptedError\b.*")
"""Error of a step whose process was told to stop, as when `surveillance up` ends."""
_FAILURE: Final = re.compile(r"\bdagster\._core\.definitions\.events\.Failure: ")
"""Class name before the message of ``dg.Failure``; the message is complete without it."""


def step_errors(failures: Iterable[dg.DagsterEvent]) -> list[str]:
    """Return the errors of failed steps with the name of the step, innermost cause last."""
    lines: list[str] = []
    for event in failures:
        error = event.step_failure_data.error
        while error is not None:
            lines.append(f"{event.step_key}: {error.message.strip()}")
            error = error.cause
    return lines


def innermost_line(errors: Sequence[str]) -> str:
    """Return the first line of the innermost error, shortened to one line of a table."""
    line = errors[-1].strip().splitlines()[0] if errors and errors[-1].strip() else ""
    line = _FAILURE.sub("", _INTERRUPTION.sub(INTERRUPTED, line))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
