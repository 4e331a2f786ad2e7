"""Exit codes of ``surveillance`` and their mapping from error codes."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.services.failures import translate


class ExitCode(IntEnum):
    """Exit code of a command."""

    OK = 0
    FAILED = 1  # the command ran and failed: a run or check failed, or the gate refused the models
    USAGE = 2  # the command line, a setting or a file is invalid
    UNREACHABLE = 3  # a required service does not answer
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
    """Translate an exception to the error that a command prints; internal errors get a hint at ``--debug``."""
    known = translate(error)
    if known.code is ErrorCode.INTERNAL and not known.remedy:
        known.remedy = _SHOW_TRACEBACK
    return known
