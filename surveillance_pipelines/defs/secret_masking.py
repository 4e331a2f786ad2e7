"""Secrets of the settings, masked in what Dagster's processes log and store.

An error of any library may contain a password or a token. Dagster stores the errors of runs, sensors and schedules with
their stack traces, shows them in the UI, and writes them to log files.
"""

import logging
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import dagster as dg

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.configuration import read_settings
from surveillance_pipelines.telemetry import mask, secret_values

_ORDINARY: Final = re.compile(r"[a-z_-]{1,16}")
"""Secrets that may be names of Dagster's objects, such as ``surveillance``; they are not replaced in its database."""


@cache
def process_secrets() -> tuple[str, ...]:
    """Return the secrets of this process's settings; none if the settings are invalid."""
    try:
        return secret_values(read_settings())
    except InvalidInputError:
        return ()


@cache
def mask_secrets() -> None:
    """Mask the secrets in all log records of this process, and in all text that it stores through SQLAlchemy.

    Dagster and MLflow store everything through SQLAlchemy: events, ticks, runs, tags, parameters. Repeated calls have
    no effect.
    """
    from sqlalchemy import Engine, event

    secrets = process_secrets()
    if not secrets:
        return
    logging.setLogRecordFactory(_masking_factory(logging.getLogRecordFactory(), secrets))
    stored = tuple(secret for secret in secrets if not _ORDINARY.fullmatch(secret))

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def mask_parameters(  # pyright: ignore[reportUnusedFunction] (SQLAlchemy calls it)
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any
    ) -> tuple[str, Any]:
        return statement, _masked(parameters, stored)


def _masked(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return mask(value, secrets)
    if isinstance(value, dict):
        return {name: _masked(part, secrets) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_masked(part, secrets) for part in value)
    return value


def _masking_factory(
    make: Callable[..., logging.LogRecord], secrets: tuple[str, ...]
) -> Callable[..., logging.LogRecord]:
    def make_masked(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        text = str(record.msg) if not record.args else record.getMessage()
        if (masked := mask(text, secrets)) != text:
            record.msg, record.args = masked, None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = mask(logging.Formatter().formatException(record.exc_info), secrets)
        return record

    return make_masked


class _MaskingFormatter(logging.Formatter):
    def __init__(self, formatter: logging.Formatter, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._formatter: Final = formatter
        self._secrets: Final = secrets

    def format(self, record: logging.LogRecord) -> str:
        return mask(self._formatter.format(record), self._secrets)


@dg.logger(
    {
        "log_level": dg.Field(str, is_required=False, default_value="INFO", description="Minimum level."),
        "name": dg.Field(str, is_required=False, default_value="dagster", description="Name of the logger."),
    },
    description="Dagster's coloured log on standard error, with the secrets of the settings masked.",
)
def console_log(context: dg.InitLoggerContext) -> logging.Logger:
    log = dg.colored_console_logger.logger_fn(context)
    secrets = process_secrets()
    for handler in log.handlers:
        if handler.formatter is not None:
            handler.setFormatter(_MaskingFormatter(handler.formatter, secrets))
    return log
