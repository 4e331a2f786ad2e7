"""Structured logging: one line an event, as JSON or for a console, with a correlation id and without secrets.

The correlation id of a drain run is the id of its Dagster run, and ``bind_correlation`` puts it on every line below it.
Rows and output messages carry the id of the message that caused them.
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
    """Send the platform's structured log to one stream.

    Args:
        settings: ``log_level`` decides what is written; its secrets are taken out of every line.
        log_format: None means "console" for a terminal and "json" otherwise.
        stream: None means standard error, as it is when a line is written.
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
            # Once more on the finished line: an object shows what it holds only when it is rendered.
            lambda _logger, _method, line: _redact_text(cast("str", line), values),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        logger_factory=lambda *_: structlog.WriteLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> Any:
    """Return a logger whose lines say which part of the platform wrote them."""
    return structlog.get_logger(component=name)


@contextmanager
def bind_correlation(correlation_id: str, **context: Any) -> Iterator[None]:
    """Put a correlation id, and whatever else is given, on every line logged inside the block."""
    with structlog.contextvars.bound_contextvars(correlation_id=correlation_id, **context):
        yield


def redact(value: Any, *, secrets: tuple[str, ...] = ()) -> Any:
    """Return ``value`` without secrets: by the name of a key, by the shape of a text, and by the values given."""
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
        # A short secret, such as "test" on an emulator, would redact ordinary words.
        if isinstance(value, SecretStr) and len(value.get_secret_value()) >= 8:
            yield value.get_secret_value()
