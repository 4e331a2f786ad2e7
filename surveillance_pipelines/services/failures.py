"""Translation of any exception to an error of the platform."""

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
PATH_REMEDY: Final = "check the path and its permissions; SURVEILLANCE_HOME is the data folder of the platform"


def translate(error: Exception) -> SurveillanceError:
    """Return an exception as an error of the platform; unknown exceptions get the code ``internal``."""
    if isinstance(error, SurveillanceError):
        return error
    known = _disk_error(error) or _library_error(error) or _path_error(error) or _internal_error(error)
    known.message = _without_secrets(known.message)  # a library may show a part of its address or its credentials
    return known


def _without_secrets(text: str) -> str:
    from surveillance_pipelines.services.configuration import read_settings
    from surveillance_pipelines.telemetry import redact, secret_values

    try:
        secrets = secret_values(read_settings())
    except InvalidInputError:
        secrets = ()
    return redact(text, secrets=secrets)


def print_failure(error: Exception) -> int:
    """Print an error and its remedy for the user of a module without the command line; return the exit code.

    Returns:
        2 for invalid input, 1 for any other error.

    Raises:
        Exception: the error itself, if it is a defect of the platform.
    """
    known = translate(error)
    if known.code is ErrorCode.INTERNAL:
        raise error
    sys.stderr.write(f"error: {known.message}\n" + (f"what to do: {known.remedy}\n" if known.remedy else ""))
    return 2 if known.code is ErrorCode.INVALID_INPUT else 1


def _disk_error(error: Exception) -> SurveillanceError | None:
    # PostgreSQL and delta-rs report a full disk in their own exceptions, with the message of the operating system.
    if getattr(error, "errno", None) != errno.ENOSPC and _NO_SPACE not in str(error):
        return None
    return SurveillanceError(
        f"the disk is full: {_one_line(error)}",
        remedy="free disk space, or set SURVEILLANCE_HOME to a folder on another disk",
        code=ErrorCode.EXHAUSTED,
    )


def _library_error(error: Exception) -> SurveillanceError | None:
    for name in _BOUNDARIES:
        # A module that is not imported cannot have raised the error; importing its library takes a second.
        boundary = sys.modules.get(name)
        if boundary is not None and (known := boundary.translate_error(error)) is not None:
            return known
    return None


def _path_error(error: Exception) -> SurveillanceError | None:
    if isinstance(error, FileNotFoundError):
        return NotFoundError(_one_line(error), remedy=PATH_REMEDY)
    if isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError | FileExistsError):
        return InvalidInputError(_one_line(error), remedy=PATH_REMEDY)
    return None


def _internal_error(error: Exception) -> SurveillanceError:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return SurveillanceError(f"{name}: {_one_line(error)}", code=ErrorCode.INTERNAL)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
