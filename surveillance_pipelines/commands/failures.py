"""What a command tells a user who can do something about it, and the exit codes of ``surveillance``."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Final

_NO_SPACE: Final = "No space left on device"
_DECORATION: Final = re.compile(r"\x1b\[[0-9;]*m|↳")
_CHECK_QUEUE: Final = "check SQS_QUEUE_URL, SQS_ENDPOINT_URL and the AWS credentials, or run `surveillance doctor`"
_CHECK_LAKE: Final = "check LAKE_URL, LAKE_ENDPOINT_URL and the AWS credentials, or run `surveillance doctor`"
_UNREACHABLE: Final = (
    (
        "surveillance_pipelines.embedded.services",
        "EmbeddedServicesError",
        "",
        "read the logs named above, or set DATABASE_URL and SQS_QUEUE_URL to servers of your own",
    ),
    (
        "psycopg",
        "OperationalError",
        "PostgreSQL does not answer: ",
        "check DATABASE_URL, or run `surveillance doctor`",
    ),
    ("botocore.exceptions", "BotoCoreError", "the queue or S3 refused: ", _CHECK_QUEUE),
    ("botocore.exceptions", "ClientError", "the queue or S3 refused: ", _CHECK_QUEUE),
)
"""Module, exception, what its words are introduced by, and what to do."""

_BOUNDS: Final = {"le": "at most", "ge": "at least", "lt": "less than", "gt": "more than", "expected": "one of"}
"""Pydantic's name of a bound → its words."""


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1  # the work was tried and did not succeed: a run failed, a check said fail, the gate refused
    USAGE = 2  # the command line, a setting or a file is not what was expected
    UNREACHABLE = 3  # a service that the command needs does not answer
    INTERRUPTED = 130


class CommandError(Exception):
    """An error that needs no traceback: what was expected and what came, and what to do about it."""

    def __init__(self, message: str, *, remedy: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.code = code


@contextmanager
def failing_as(code: ExitCode, *kinds: type[Exception], remedy: str = "") -> Iterator[None]:
    """Turn the given exceptions into a ``CommandError`` with their own words."""
    try:
        yield
    except kinds as error:
        raise CommandError(str(error) or type(error).__name__, remedy=remedy, code=code) from error


def explain(error: Exception) -> CommandError:
    """Return the failure that describes an exception from below; only imported libraries are looked at."""
    if isinstance(error, CommandError):
        return error
    said = _in_one_line(str(error))
    for describe in (_full_disk, _setting, _unreachable, _path, _own_words):
        if (failure := describe(error, said)) is not None:
            return failure
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return CommandError(f"{name}: {said}", remedy="repeat as `surveillance --debug …` to see where it came from")


def _full_disk(_error: Exception, said: str) -> CommandError | None:
    if _NO_SPACE not in said:
        return None
    return CommandError(f"the disk is full: {said}", remedy="free space, or work elsewhere (SURVEILLANCE_HOME)")


def _setting(error: Exception, _said: str) -> CommandError | None:
    if not _is_a(error, "pydantic", "ValidationError"):
        return None
    remedy = "see .env.example for every knob and its bounds"
    return CommandError(_settings_in_words(error), remedy=remedy, code=ExitCode.USAGE)


def _settings_in_words(error: Any) -> str:
    """Return ``SQS_MAX_MESSAGES: expected at most 10, got 50`` for each setting out of its bounds."""
    words = []
    for found in error.errors():
        name = ".".join(str(part) for part in found["loc"]).upper()
        context = found.get("ctx", {})
        bounds = [f"{said} {context[bound]}" for bound, said in _BOUNDS.items() if bound in context]
        wanted = " and ".join(bounds) or found["msg"].removeprefix("Input should be ")
        words.append(f"{name}: expected {wanted}, got {found['input']}")
    return "; ".join(words)


def _unreachable(error: Exception, said: str) -> CommandError | None:
    for module, name, what, remedy in _UNREACHABLE:
        if _is_a(error, module, name):
            return CommandError(f"{what}{said}", remedy=remedy, code=ExitCode.UNREACHABLE)
    if isinstance(error, OSError) and said.startswith("Generic S3 error"):
        return CommandError(f"the lake does not answer: {said}", remedy=_CHECK_LAKE, code=ExitCode.UNREACHABLE)
    return None


def _path(error: Exception, said: str) -> CommandError | None:
    if not isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError):
        return None
    remedy = "check the path and its permissions; --home or SURVEILLANCE_HOME says where the platform works"
    return CommandError(said, remedy=remedy, code=ExitCode.USAGE)


def _own_words(error: Exception, said: str) -> CommandError | None:
    """Return what a layer of ours said that knows no exit codes; its errors begin like this."""
    if not (isinstance(error, ValueError | RuntimeError) and said.startswith("expected ")):
        return None
    code = ExitCode.USAGE if isinstance(error, ValueError) else ExitCode.FAILED
    return CommandError(said, remedy="correct it, or repeat as `surveillance --debug …` to see where", code=code)


def _in_one_line(text: str) -> str:
    """Return text without line breaks, the colours and arrows of delta-rs's nested errors."""
    return " ".join(_DECORATION.sub(" ", text).split())


def _is_a(error: Exception, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(error, getattr(loaded, name))
