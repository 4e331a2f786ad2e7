"""The errors of the platform: a base class and error codes.

Each interface maps the codes: the command line to exit codes, HTTP and gRPC to status codes. No caller parses messages.
"""

from enum import StrEnum
from typing import Any, ClassVar


class ErrorCode(StrEnum):
    """Kind of an error. ``docs/commands.md`` lists the codes with their exit codes."""

    INVALID_INPUT = "invalid_input"  # an argument, a setting, a file or a message is invalid
    NOT_FOUND = "not_found"  # a named object does not exist
    CONFLICT = "conflict"  # another process holds or has changed the object
    NOT_READY = "not_ready"  # a required earlier step is missing
    UNAVAILABLE = "unavailable"  # a required service does not answer
    TIMEOUT = "timeout"  # the operation exceeded its time limit
    INTEGRITY = "integrity"  # stored data contradicts its record: damaged, altered or of another format
    EXHAUSTED = "exhausted"  # a resource of the machine, such as disk space, is exhausted
    FAILED = "failed"  # the operation ran and did not succeed
    INTERNAL = "internal"  # a defect of the platform


class SurveillanceError(Exception):
    """An error with a code, a message and a remedy.

    Attributes:
        code: kind of the error, set by a class statement
            (``class LeaseLostError(SurveillanceError, code=ErrorCode.CONFLICT)``) or by an instance.
        message: what was expected and what was received.
        remedy: what to do; empty if no remedy is known.
    """

    code: ErrorCode = ErrorCode.INTERNAL
    default_remedy: ClassVar[str] = ""

    def __init_subclass__(cls, *, code: ErrorCode | None = None, remedy: str | None = None, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if code is not None:
            cls.code = code
        if remedy is not None:
            cls.default_remedy = remedy

    def __init__(self, message: str, *, remedy: str | None = None, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = self.default_remedy if remedy is None else remedy
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        """Return message and remedy, because logs and the Dagster UI show only this text."""
        return f"{self.message}; what to do: {self.remedy}" if self.remedy else self.message


class InvalidInputError(SurveillanceError, ValueError, code=ErrorCode.INVALID_INPUT):
    """An argument, a setting, a file or a message is invalid."""


class NotFoundError(SurveillanceError, LookupError, code=ErrorCode.NOT_FOUND):
    """A named object does not exist."""


class ConflictError(SurveillanceError, code=ErrorCode.CONFLICT):
    """Another process holds or has changed the object."""


class NotReadyError(SurveillanceError, code=ErrorCode.NOT_READY):
    """A required earlier step is missing."""


class TooLittleDataError(
    SurveillanceError,
    ValueError,
    code=ErrorCode.NOT_READY,
    remedy="load more days or symbols: `surveillance ingest`, then `surveillance backfill`",
):
    """The data are valid, and too few for a training or an evaluation."""


class UnavailableError(SurveillanceError, code=ErrorCode.UNAVAILABLE):
    """A required service does not answer."""


class IntegrityError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """Stored data contradicts its record."""


class OperationFailedError(SurveillanceError, code=ErrorCode.FAILED):
    """The operation ran and did not succeed."""


def extra_remedy(extra: str) -> str:
    """Return the remedy for libraries that an extra of the package installs."""
    return f"install the extra: pip install --editable '.[{extra}]'"
