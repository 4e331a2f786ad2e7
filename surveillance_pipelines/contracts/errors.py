"""The errors of the platform: one base class, and one vocabulary of codes that every caller maps to its own.

The command line maps a code to an exit code, HTTP to a status and gRPC to a status code. No caller reads the text of a
message.
"""

from enum import StrEnum
from typing import Any, ClassVar


class ErrorCode(StrEnum):
    """What kind of error it is. ``docs/commands.md`` lists the codes with their exit codes."""

    INVALID_INPUT = "invalid_input"  # an argument, a setting, a file or a message is not what was expected
    NOT_FOUND = "not_found"  # what was named does not exist
    CONFLICT = "conflict"  # another process holds it or has changed it
    NOT_READY = "not_ready"  # a step that has to come first has not been taken
    UNAVAILABLE = "unavailable"  # a service that is needed does not answer
    TIMEOUT = "timeout"  # the work took longer than its limit
    INTEGRITY = "integrity"  # stored data contradicts its record: damaged, altered or of another format
    EXHAUSTED = "exhausted"  # a resource of the machine is used up, such as disk space
    FAILED = "failed"  # the work was carried out and did not succeed
    INTERNAL = "internal"  # a defect of the platform


class SurveillanceError(Exception):
    """An error with a code, a message and a remedy.

    Attributes:
        code: the kind of error; a subclass states its own in its class statement
            (``class LeaseLostError(SurveillanceError, code=ErrorCode.CONFLICT)``), an instance may state another.
        message: what was expected and what was received.
        remedy: what to do; empty where nothing is certain to help.
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
        """Return message and remedy: a log or the Dagster UI shows nothing else of an exception."""
        return f"{self.message}; what to do: {self.remedy}" if self.remedy else self.message


class InvalidInputError(SurveillanceError, ValueError, code=ErrorCode.INVALID_INPUT):
    """An argument, a setting, a file or a message is not what was expected."""


class NotFoundError(SurveillanceError, LookupError, code=ErrorCode.NOT_FOUND):
    """What was named does not exist."""


class ConflictError(SurveillanceError, code=ErrorCode.CONFLICT):
    """Another process holds it or has changed it."""


class NotReadyError(SurveillanceError, code=ErrorCode.NOT_READY):
    """A step that has to come first has not been taken."""


class UnavailableError(SurveillanceError, code=ErrorCode.UNAVAILABLE):
    """A service that is needed does not answer."""


class IntegrityError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """Stored data contradicts its record."""


class OperationFailedError(SurveillanceError, code=ErrorCode.FAILED):
    """The work was carried out and did not succeed."""
