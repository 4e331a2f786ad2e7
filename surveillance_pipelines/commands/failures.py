"""The exit codes of ``surveillance``, and the code of each error."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.services.failures import translate


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1  # the work was tried and did not succeed: a run failed, a check failed, the gate refused the models
    USAGE = 2  # the command line, a setting or a file is not what was expected
    UNREACHABLE = 3  # a service that the command needs does not answer
    INTERRUPTED = 130


EXIT_CODES: Final[Mapping[ErrorCode, ExitCode]] = {
    ErrorCode.INVALID_INPUT: ExitCode.USAGE,
    ErrorCode.NOT_FOUND: ExitCode.USAGE,
    ErrorCode.INTEGRITY: ExitCode.USAGE,
    ErrorCode.CONFLICT: ExitCode.FAILED,
    ErrorCode.NOT_READY: ExitCode.FAILED,
    ErrorCode.TIMEOUT: ExitCode.FAILED,
    ErrorCode.EXHAUSTED: ExitCode.FAILED,
    ErrorCode.FAILED: ExitCode.FAILED,
    ErrorCode.INTERNAL: ExitCode.FAILED,
    ErrorCode.UNAVAILABLE: ExitCode.UNREACHABLE,
}
"""Error code → exit code; docs/commands.md shows the same table."""
_SHOW_TRACEBACK: Final = "repeat as `surveillance --debug …` to see the traceback"


def explain(error: Exception) -> SurveillanceError:
    """Return an exception as the error that a command prints: with a remedy, if only the way to the traceback."""
    known = translate(error)
    if known.code is ErrorCode.INTERNAL and not known.remedy:
        known.remedy = _SHOW_TRACEBACK
    return known
