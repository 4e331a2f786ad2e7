"""Structured logging: one line per event, as JSON or for a console, with a correlation id and without secrets.

The correlation id of a drain run is the id of its Dagster run; ``bind_correlation`` adds it to every line logged in its
block. Rows and output messages carry the id of the message that caused them instead.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TextIO, cast
from urllib.parse import quote, quote_plus, unquote, unquote_plus

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


_SHORTEST: Final = 8
_URLS: Final = re.compile(r"[,\s]+(?=\w+://)")
"""Separators of several URLs."""
_SECRET_VARIABLES: Final = ("PGPASSWORD", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Variables with a secret that libraries read and that are no settings."""
_UNESCAPED_COLON: Final = re.compile(r"(?<!\\):")
_HOST: Final = re.compile(r"localhost(:\d+)?|[\w-]+(\.[\w-]+)+(:\d+)?")
"""Addresses of receivers; other text in their place is a token."""


def configure_logging(settings: Settings, *, log_format: LogFormat | None = None, stream: TextIO | None = None) -> None:
    """Configure the structured log of the platform.

    Args:
        settings: provide ``log_level``, the minimum level, and the secrets that are redacted in every line.
        log_format: None means "console" for a terminal and "json" otherwise.
        stream: output stream; None means standard error, resolved for each line.
    """
    chosen = log_format or ("console" if (stream or sys.stderr).isatty() else "json")
    values = secret_values(settings)
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
    text = mask(text, secrets)
    for pattern, replacement in _SECRET_IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def secret_values(settings: Settings) -> tuple[str, ...]:
    """Return the secrets of settings, longest first: whole values, and the passwords and tokens in URLs.

    Each secret is there as it is, as in a URL, and as in JSON and in representations of Python. A short secret is left
    out, such as "test" for an emulator, because it may be part of ordinary words.
    """
    found = {spelling for secret in _secrets(settings) for spelling in _spellings(secret)}
    return tuple(sorted((one for one in found if len(one) >= _SHORTEST), key=lambda one: (-len(one), one)))


def mask(text: str, secrets: tuple[str, ...]) -> str:
    """Return text in which each of the given secrets is replaced."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, REDACTED)
    return text


def _secrets(settings: Settings) -> Iterator[str]:
    values = (getattr(settings, name) for name in type(settings).model_fields)
    texts = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    yield from filter(None, (os.environ.get(name) for name in _SECRET_VARIABLES))
    yield from _passwords_of_libpq(Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass"))
    for text in (*texts, settings.mlflow_tracking_uri or ""):
        if "://" not in text:
            yield text
            continue
        for url in _URLS.split(text):
            yield from _parts_of_url(url, is_receiver=text == _text(settings.notify_urls))


def _passwords_of_libpq(file: Path) -> Iterator[str]:
    """Yield the passwords of a file of libpq, whose lines are ``host:port:database:user:password``."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        fields = _UNESCAPED_COLON.split(line, maxsplit=4)
        if len(fields) == 5 and not line.startswith("#"):
            yield from (fields[4], re.sub(r"\\(.)", r"\1", fields[4]))


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _parts_of_url(url: str, *, is_receiver: bool) -> Iterator[str]:
    """Yield the secret parts of a URL. Every part of a receiver of notifications may be a token."""
    rest, _, query = url.partition("://")[2].partition("?")
    authority, _, path = rest.partition("/")
    user, _, password = authority.rpartition("@")[0].partition(":")
    if password:
        yield from (f"{user}:{password}@", password, unquote(password))
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if is_receiver or _SECRET_NAME.search(name):
            yield from (value, unquote_plus(value))
    if is_receiver:
        host = authority.rpartition("@")[2]
        yield from (url, user, *path.split("/"), *([] if _HOST.fullmatch(host) else [host]))


def _spellings(secret: str) -> Iterator[str]:
    escaped = json.dumps(secret)[1:-1]
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), escaped, repr(secret)[1:-1])
    yield from (json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(escaped)[1:-1])
