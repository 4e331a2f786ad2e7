"""Errors of failed steps, as text."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import dagster as dg

_LONGEST: Final = 400
INTERRUPTED: Final = "interrupted before its end"
_INTERRUPTION: Final = re.compile(r"\bdagster\._core\.errors\.DagsterExecutionInterruptedError\b.*")
"""Error of a step whose process was told to stop, as when `surveillance up` ends."""
_DBT: Final = re.compile(
    r"\bdagster_dbt\.errors\.DagsterDbtCliRuntimeError: .*?(failed with exit code `?\d+`?).*", re.DOTALL
)
"""Error of a failed `dbt build`, whose first line says nothing."""
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
    error = _DBT.sub(r"dbt \1; the output of the run names the models and tests", errors[-1].strip()) if errors else ""
    line = error.splitlines()[0] if error else ""
    line = _FAILURE.sub("", _INTERRUPTION.sub(INTERRUPTED, line))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
