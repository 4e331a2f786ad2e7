"""Structured log lines, without secrets, with the id that ties them together."""

import io
import json

import pytest
import structlog

from surveillance_pipelines.telemetry import REDACTED, bind_correlation, configure_logging, get_logger, redact
from surveillance_pipelines_tests.engine.market import plain_settings


@pytest.fixture
def stream():
    yield io.StringIO()
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.requirement("MON-11")
def test_line_is_json_with_level_time_and_correlation_id(stream):
    configure_logging(plain_settings(), log_format="json", stream=stream)
    with bind_correlation("message-1", symbol="SPY"):
        get_logger("test").info("scored", bars=3)
    get_logger("test").info("outside")
    inside, outside = lines(stream)
    assert (inside["event"], inside["bars"], inside["level"], inside["component"]) == ("scored", 3, "info", "test")
    assert (inside["correlation_id"], inside["symbol"]) == ("message-1", "SPY")
    assert inside["timestamp"].endswith("Z")
    assert "correlation_id" not in outside


@pytest.mark.requirement("MON-11")
def test_level_below_the_configured_one_is_not_written(stream):
    configure_logging(plain_settings(log_level="WARNING"), log_format="json", stream=stream)
    get_logger("test").info("quiet")
    get_logger("test").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


@pytest.mark.requirement("MON-11")
def test_secrets_never_reach_the_stream(stream):
    settings = plain_settings(
        database_url="postgresql://user:dragonfly9@host/db",
        aws_secret_access_key="wJalrXUtnFEMIexample",
    )
    configure_logging(settings, log_format="console", stream=stream)
    error = RuntimeError("cannot reach postgresql://user:dragonfly9@host/db")
    get_logger("test").error("failed", exc_info=error, key="wJalrXUtnFEMIexample", nested={"password": "p"})
    get_logger("test").error("failed", cause=error)
    text = stream.getvalue()
    assert "dragonfly9" not in text
    assert "wJalrXUtnFEMIexample" not in text
    assert REDACTED in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("postgresql://me:secret@host/db", f"postgresql://me:{REDACTED}@host/db"),
        ("AKIAIOSFODNN7EXAMPLE", REDACTED),
        ("Authorization: Bearer abcdefghijk", f"Authorization: Bearer {REDACTED}"),
        ({"api_key": "x", "symbol": "SPY"}, {"api_key": REDACTED, "symbol": "SPY"}),
        (["token=abc", 3], [f"token={REDACTED}", 3]),
    ],
)
def test_redact_takes_out_known_shapes(value, expected):
    assert redact(value) == expected
