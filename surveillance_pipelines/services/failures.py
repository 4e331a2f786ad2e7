"""Any exception as an error of the platform: what each boundary knows of its library, and the errors of the system."""

import errno
import sys
from typing import Final

from surveillance_pipelines.contracts.errors import ErrorCode, InvalidInputError, NotFoundError, SurveillanceError

_BOUNDARIES: Final = (
    "surveillance_pipelines.stores.database",
    "surveillance_pipelines.transports.sqs",
    "surveillance_pipelines.stores.lake",
)
"""Modules that wrap a third-party library, each with a function ``translate_error``."""
_NO_SPACE: Final = "No space left on device"
_CHECK_PATH: Final = "check the path and its permissions; SURVEILLANCE_HOME is the folder in which the platform works"


def translate(error: Exception) -> SurveillanceError:
    """Return an exception as an error of the platform; one that nothing here knows is ``internal``."""
    if isinstance(error, SurveillanceError):
        return error
    return _exhausted(error) or _of_a_boundary(error) or _of_a_path(error) or _unknown(error)


def _exhausted(error: Exception) -> SurveillanceError | None:
    # PostgreSQL and delta-rs report a full disk in their own exceptions, in the words of the system.
    if getattr(error, "errno", None) != errno.ENOSPC and _NO_SPACE not in str(error):
        return None
    return SurveillanceError(
        f"the disk is full: {_one_line(error)}",
        remedy="free space, or work elsewhere (SURVEILLANCE_HOME)",
        code=ErrorCode.EXHAUSTED,
    )


def _of_a_boundary(error: Exception) -> SurveillanceError | None:
    for name in _BOUNDARIES:
        # A boundary that was never imported has raised nothing, and its library takes a second to load.
        boundary = sys.modules.get(name)
        if boundary is not None and (known := boundary.translate_error(error)) is not None:
            return known
    return None


def _of_a_path(error: Exception) -> SurveillanceError | None:
    if isinstance(error, FileNotFoundError):
        return NotFoundError(_one_line(error), remedy=_CHECK_PATH)
    if isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError):
        return InvalidInputError(_one_line(error), remedy=_CHECK_PATH)
    return None


def _unknown(error: Exception) -> SurveillanceError:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return SurveillanceError(f"{name}: {_one_line(error)}", code=ErrorCode.INTERNAL)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
