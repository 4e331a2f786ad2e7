"""Structured logging: one line per event, as JSON or for a console, with a correlation id and without secrets.

The correlation id of a drain run is the id of its Dagster run; ``bind_correlation`` adds it to every line logged in its
block. Rows and output messages carry the id of the message that caused them instead.
"""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, TextIO, cast

import structlog
from pydantic import SecretStr

from surveillance_pipelines.settings import Settings

LogFormat = Literal["json", "console"]

REDACTED: Final = "[redacted]"
_SECRET_NAME: Final = re.compile(
    r"password|passwd|secret|token|credential|authorization|api_?key|access_key|private_key|receipt_handle",
    re.IGNORECASE,
)
_SECRET_IN_TEXT: Final = (
    (re.compile(r"(\w+://[^\s:/@]*):[^\s/@]*@"), r"\1:" + REDACTED + "@"),  # user:password@ in a URL
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), REDACTED),  # AWS access key ids
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), r"\1 " + REDACTED),
    (re.compile(r"(?i)\b(password|secret|token|api_?key)=[^\s&,;]+"), r"\1=" + REDACTED),
)


def configure_logging(settings: Settings, *, log_format: LogFormat | None = None, stream: TextIO | None = None) -> None:
    """Configure the structured log of the platform.

    Args:
        settings: provide ``log_level``, the minimum level, and the secrets that are redacted in every line.
        log_format: None means "console" for a terminal and "json" otherwise.
        stream: output stream; None means standard error, resolved for each line.
    """
    chosen = log_format or ("console" if (stream or sys.stderr).isatty() else "json")
    values = tuple(sorted(_secret_values(settings), key=len, reverse=True))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            lambda _logger, _method, event: redact(dict(event), secrets=values),
            structlog.processors.JSONRenderer() if chosen == "json" else structlog.dev.ConsoleRenderer(colors=False),
            # Redact the rendered line again, because the contents of objects appear only in it.
            lambda _logger, _method, line: _redact_text(cast("str", line), values),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        logger_factory=lambda *_: structlog.WriteLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> Any:
    """Return a logger that adds the name of its component to every line."""
    return structlog.get_logger(component=name)


@contextmanager
def bind_correlation(correlation_id: str, **context: Any) -> Iterator[None]:
    """Add a correlation id and further context to every line logged inside the block."""
    with structlog.contextvars.bound_contextvars(correlation_id=correlation_id, **context):
        yield


def redact(value: Any, *, secrets: tuple[str, ...] = ()) -> Any:
    """Return ``value`` with secrets redacted; they are recognized by key name, text pattern and the given values."""
    if isinstance(value, SecretStr):
        return REDACTED
    if isinstance(value, str):
        return _redact_text(value, secrets)
    if isinstance(value, dict):
        return {
            name: REDACTED if _SECRET_NAME.search(str(name)) else redact(part, secrets=secrets)
            for name, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(part, secrets=secrets) for part in value]
    return value


def _redact_text(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    for pattern, replacement in _SECRET_IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _secret_values(settings: Settings) -> Iterator[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        # A short secret, such as "test" for an emulator, may be part of ordinary words.
        if isinstance(value, SecretStr) and len(value.get_secret_value()) >= 8:
            yield value.get_secret_value()
