"""Invalid settings by name, and variables that look like a setting."""

from pathlib import Path

import pytest

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.configuration import (
    InvalidSettingsError,
    SettingProblem,
    read_settings,
    unknown_settings,
)
from surveillance_pipelines.services.doctor import load_settings
from surveillance_pipelines.services.facts import Fact
from surveillance_pipelines.settings import Settings


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_each_invalid_setting_is_named_with_where_it_is_set(monkeypatch):
    Path(".env").write_text("MODEL_RETRAINING_SCHEDULE=every day\nSQS_WAIT_TIME=500\n")
    monkeypatch.setenv("SQS_WAIT_TIME", "99")
    with pytest.raises(InvalidSettingsError) as caught:
        read_settings()
    assert {problem.name: problem.remedy for problem in caught.value.problems} == {
        "MODEL_RETRAINING_SCHEDULE": "correct MODEL_RETRAINING_SCHEDULE in .env",
        "SQS_WAIT_TIME": "correct SQS_WAIT_TIME in the environment",
    }
    assert "SQS_WAIT_TIME: expected at most 20, got 99, for example SQS_WAIT_TIME=20" in str(caught.value)
    assert "got 'every day': it has 2 fields instead of 5" in str(caught.value)


def test_doctor_has_one_failure_for_each_invalid_setting(monkeypatch):
    monkeypatch.setenv("SQS_WAIT_TIME", "99")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    findings, platform = load_settings()
    assert platform is None
    assert [(found.name, found.verdict) for found in findings] == [
        ("setting SQS_WAIT_TIME", "fail"),
        ("setting LOG_LEVEL", "fail"),
    ]


@pytest.mark.parametrize("bad", ["SQS_MAX_MESSAGES=99", "OUTPUT_CHANNELS=sqs,redis"])
def test_invalid_value_shows_no_secret_of_another_setting(bad):
    Path(".env").write_text(f"DATABASE_URL=postgresql://user:hidden@host/db\nNOTIFY_URLS=json://hidden@host\n{bad}\n")
    with pytest.raises(InvalidSettingsError) as caught:
        read_settings()
    assert "hidden" not in str(caught.value)


def test_file_in_another_encoding_is_named():
    Path(".env").write_bytes("TENANT=zürich\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match=r"expected \.env in UTF-8"):
        read_settings()


def test_misspelled_settings_are_found_in_the_file_and_in_the_environment():
    Path(".env").write_text("SQS_QUEUE_URLS=https://user:hidden@host\nPOSTGRES_PASSWORD=hidden\nTENANT=a\n")
    environment = {"DATABASE_URI": "hidden", "AWS_PROFILE": "x", "log_level": "INFO", "PATH": "/bin"}
    assert unknown_settings(environment) == [
        SettingProblem(
            "DATABASE_URI",
            "DATABASE_URI in the environment is no setting: did you mean DATABASE_URL?",
            "rename it to DATABASE_URL",
        ),
        SettingProblem(
            "SQS_QUEUE_URLS",
            "SQS_QUEUE_URLS in .env is no setting: did you mean SQS_QUEUE_URL?",
            "rename it to SQS_QUEUE_URL",
        ),
    ]


def test_names_of_example_file_and_compose_file_are_not_suspected(repository):
    names: list[str] = ["POSTGRES_PASSWORD", "DAGSTER_HOME", "PGPASSWORD", "AWS_DEFAULT_REGION", "HOME"]
    variables = dict.fromkeys(names, "")
    assert unknown_settings(variables, str(repository / ".env.example")) == []


def test_doctor_warns_of_a_misspelled_setting(monkeypatch):
    monkeypatch.setenv("SQS_QUEUE_URLS", "x")
    findings, platform = load_settings()
    assert platform is not None
    assert findings[1:] == [
        Fact(
            "variable SQS_QUEUE_URLS",
            "warn",
            "SQS_QUEUE_URLS in the environment is no setting: did you mean SQS_QUEUE_URL?",
            "rename it to SQS_QUEUE_URL",
        )
    ]
