import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from botocore.exceptions import EndpointConnectionError

from surveillance_pipelines.commands.exit_codes import EXIT_CODES, ExitCode, explain
from surveillance_pipelines.contracts.errors import ErrorCode, InvalidInputError, OperationFailedError
from surveillance_pipelines.embedded.services import EmbeddedServicesError
from surveillance_pipelines.stores import lake as _lake  # noqa: F401 (the boundaries whose errors are explained here)
from surveillance_pipelines.transports import sqs as _sqs  # noqa: F401

HEAVY = ("dagster", "polars", "numpy", "boto3", "psycopg", "torch", "pandas", "matplotlib", "mlflow")


def test_import_of_the_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, surveillance_pipelines.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_setting_out_of_bounds_names_the_knob_and_exits_with_usage(bare, monkeypatch) -> None:
    monkeypatch.setenv("SQS_MAX_MESSAGES", "99")
    answer = bare("status")
    assert answer.exit_code == ExitCode.USAGE
    assert "SQS_MAX_MESSAGES: expected at most 10, got 99" in " ".join(answer.output.split())
    assert "what to do" in answer.output


def test_database_that_does_not_answer_exits_with_unreachable(bare, monkeypatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none")
    monkeypatch.setenv("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/000000000000/x.fifo")
    answer = bare("status")
    assert answer.exit_code == ExitCode.UNREACHABLE
    assert "secret" not in answer.output
    assert "Traceback" not in answer.output


def test_debug_shows_the_traceback(bare, monkeypatch) -> None:
    monkeypatch.setenv("SQS_MAX_MESSAGES", "99")
    answer = bare("--debug", "status")
    assert isinstance(answer.exception, InvalidInputError)


def test_setting_out_of_bounds_is_said_in_words(bare, monkeypatch) -> None:
    monkeypatch.setenv("SQS_MAX_MESSAGES", "50")
    monkeypatch.setenv("PUBLISH_SCORES", "some")
    answer = bare("status")
    said = " ".join(answer.output.split())
    assert answer.exit_code == ExitCode.USAGE
    assert "SQS_MAX_MESSAGES: expected at most 10, got 50" in said
    assert "PUBLISH_SCORES: expected one of 'all' or 'alerts', got some" in said
    assert "pydantic" not in said


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"OUTPUT_CHANNELS": "sqs,redis"},
            "error: expected REDIS_URL for the channel redis in OUTPUT_CHANNELS",
        ),
        ({"OUTPUT_CHANNELS": "sqs,kafka"}, "error: expected OUTPUT_CHANNELS to contain sqs, and others of redis"),
        ({"OUTPUT_CHANNELS": "redis"}, "got 'redis'"),
        (
            {"REDIS_URL": "localhost:hidden@6379"},
            "error: expected REDIS_URL to start with redis://, rediss://, unix://",
        ),
        ({"SQS_WAIT_TIME": "postgresql://u:hidden@b/c@d/e"}, "got postgresql://***@d/e"),
    ],
)
def test_setting_refused_is_said_in_words_without_any_secret(bare, monkeypatch, variables, words) -> None:
    secrets = {"DATABASE_URL": "postgresql://u:hidden-db@h/db", "AWS_SECRET_ACCESS_KEY": "hidden-key"}
    for name, value in {**secrets, **variables}.items():
        monkeypatch.setenv(name, value)
    for command in ("status", "doctor"):
        answer = bare(command)
        said = " ".join(answer.output.split())
        assert answer.exit_code == (ExitCode.USAGE if command == "status" else ExitCode.FAILED)
        assert "hidden" not in said
        assert "Value error" not in said
        if command == "status":
            assert words in said


def test_home_that_is_a_file_is_a_usage_error(bare, monkeypatch, tmp_path) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("SURVEILLANCE_HOME", str(tmp_path / "a_file"))
    answer = bare("ingest", "simulate")
    assert answer.exit_code == ExitCode.USAGE
    assert answer.output.startswith("error: [Errno 17] File exists")
    assert "SURVEILLANCE_HOME" in answer.output


def test_home_option_wins_over_the_environment(bare, tmp_path) -> None:
    answer = bare("--home", tmp_path / "other", "status")
    assert answer.exit_code == 0
    assert str(tmp_path / "other") in answer.output.replace("\n", "")


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyError("boom")])
def test_explain_unknown_error_keeps_its_words_and_points_to_debug(error: Exception) -> None:
    failure = explain(error)
    assert failure.code is ErrorCode.INTERNAL
    assert "boom" in str(failure)
    assert "--debug" in failure.remedy


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FileNotFoundError(2, "No such file", "/x"), ExitCode.USAGE, "[Errno 2] No such file: '/x'"),
        (psycopg.OperationalError("no server"), ExitCode.UNREACHABLE, "no server"),
        (EndpointConnectionError(endpoint_url="http://x"), ExitCode.UNREACHABLE, "http://x"),
        (PermissionError(13, "Permission denied", "/x"), ExitCode.USAGE, "[Errno 13] Permission denied: '/x'"),
        (OSError(28, "No space left on device"), ExitCode.FAILED, "the disk is full"),
        (OSError("Generic S3 error\n  \x1b[31m↳\x1b[0m refused"), ExitCode.UNREACHABLE, "Generic S3 error refused"),
        (EmbeddedServicesError("expected services: no space"), ExitCode.UNREACHABLE, "expected services: no space"),
    ],
)
def test_explain_known_error_is_one_line_with_its_code_and_a_remedy(error: Exception, code: int, words: str) -> None:
    failure = explain(error)
    assert (EXIT_CODES[failure.code], words in str(failure)) == (code, True)
    assert "\n" not in str(failure)
    assert "builtins" not in str(failure)
    assert failure.remedy


def test_explain_own_error_keeps_it_as_it_is() -> None:
    error = OperationFailedError("expected a run to succeed, it failed", remedy="read its log")
    assert explain(error) is error


def test_exit_code_comes_from_the_code_and_not_from_the_words() -> None:
    assert explain(ValueError("expected a calendar, got 'X'")).code is ErrorCode.INTERNAL
    assert set(EXIT_CODES) == set(ErrorCode)


def test_exit_codes_are_those_of_the_documentation(repository: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (repository / "docs" / "commands.md").read_text(), re.MULTILINE)
    assert dict(rows) == {code.value: str(exit_code.value) for code, exit_code in EXIT_CODES.items()}


def test_database_url_of_another_kind_exits_with_usage_and_hides_the_password(bare, monkeypatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://nobody:secret@127.0.0.1:1/none")
    monkeypatch.setenv("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/000000000000/x.fifo")
    answer = bare("status")
    assert answer.exit_code == ExitCode.USAGE
    assert "expected DATABASE_URL to start with postgresql://" in answer.output
    assert "secret" not in answer.output
