"""What a command tells a user who can do something about it, and the exit codes of ``surveillance``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


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
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    if _is_a(error, "pydantic", "ValidationError"):
        return CommandError(
            f"a setting is not valid: {error}",
            remedy="see .env.example for every knob and its bounds",
            code=ExitCode.USAGE,
        )
    if _is_a(error, "psycopg", "OperationalError"):
        return CommandError(
            f"PostgreSQL does not answer: {error}",
            remedy="check DATABASE_URL, or run `surveillance doctor`",
            code=ExitCode.UNREACHABLE,
        )
    if _is_a(error, "botocore.exceptions", "BotoCoreError") or _is_a(error, "botocore.exceptions", "ClientError"):
        return CommandError(
            f"the queue or S3 refused: {error}",
            remedy="check SQS_QUEUE_URL, SQS_ENDPOINT_URL and the AWS credentials, or run `surveillance doctor`",
            code=ExitCode.UNREACHABLE,
        )
    return CommandError(f"{name}: {error}", remedy="repeat as `surveillance --debug …` to see where it came from")


def _is_a(error: Exception, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(error, getattr(loaded, name))
