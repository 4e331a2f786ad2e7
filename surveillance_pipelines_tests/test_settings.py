import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from surveillance_pipelines.channels import SIDE_CHANNELS, SideChannel
from surveillance_pipelines.settings import Settings

NAMES = tuple(name.upper() for name in Settings.model_fields)


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch, tmp_path):
    """No knob in the environment and no ``.env`` in the working directory."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def knob(name, value, *requirements, expected=None):
    """A variable of the environment, the value given to it, and what the setting then holds (the same, if None)."""
    held = value if expected is None else expected
    return pytest.param(name, value, held, marks=pytest.mark.requirement(*requirements), id=name)


def default(name, *requirements, value):
    """A variable of the environment, and what its setting holds when it is not set."""
    return pytest.param(name, value, marks=pytest.mark.requirement(*requirements), id=name)


QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/000000000000/market_queue.fifo"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        knob("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", "ENV-AWS_ACCESS_KEY_ID", expected=SecretStr("AKIDEXAMPLE")),
        knob("AWS_SECRET_ACCESS_KEY", "s3cr3t", "ENV-AWS_SECRET_ACCESS_KEY", expected=SecretStr("s3cr3t")),
        knob("AWS_REGION", "eu-central-1", "ENV-AWS_REGION", "ING-05"),
        knob("SQS_QUEUE_URL", QUEUE_URL, "ENV-SQS_QUEUE_URL", "ING-05", expected=(QUEUE_URL,)),
        knob("USE_SQS_DATA_SOURCE", "false", "ENV-USE_SQS_DATA_SOURCE", "ING-03", expected=False),
        knob("SQS_POLLING_INTERVAL", "2.5", "ENV-SQS_POLLING_INTERVAL", "ING-04", "ING-06", expected=2.5),
        knob("SQS_MAX_MESSAGES", "3", "ENV-SQS_MAX_MESSAGES", "ING-04", "ING-06", expected=3),
        knob("SQS_WAIT_TIME", "0", "ENV-SQS_WAIT_TIME", "ING-04", expected=0),
        knob("LOG_LEVEL", "DEBUG", "ENV-LOG_LEVEL"),
        knob("FALLBACK_TO_YFINANCE", "false", "ENV-FALLBACK_TO_YFINANCE", "ING-02", expected=False),
        knob("SYMBOLS", "BTCUSDT, ETHUSDT,,AAPL", "ING-11", expected=("BTCUSDT", "ETHUSDT", "AAPL")),
        knob("MODEL_TRAINING_MIN_DATASET_SIZE", "50", "ENV-MODEL_TRAINING_MIN_DATASET_SIZE", expected=50),
        knob("MODEL_TRAINING_MAX_DURATION_SECONDS", "90", "ENV-MODEL_TRAINING_MAX_DURATION_SECONDS", expected=90),
        knob("MODEL_QUALITY_THRESHOLD_ACCURACY", "0.9", "ENV-MODEL_QUALITY_THRESHOLD_ACCURACY", expected=0.9),
        knob("MODEL_RETRAINING_SCHEDULE", "0 6 * * 6", "ENV-MODEL_RETRAINING_SCHEDULE"),
        knob("MODEL_STORAGE_PATH", "/models", "ENV-MODEL_STORAGE_PATH", expected=Path("/models")),
        knob("WARMUP_MODE_ENABLED", "false", "ENV-WARMUP_MODE_ENABLED", expected=False),
        knob("WARMUP_SIGNAL_FREQUENCY", "5", "ENV-WARMUP_SIGNAL_FREQUENCY", expected=5),
        knob("SIGNAL_COOLDOWN_SECONDS", "1", "ENV-SIGNAL_COOLDOWN_SECONDS", "SIG-06", expected=1),
        knob("REDIS_URL", "redis://host:6379/0", "ENV-REDIS_URL", expected=SecretStr("redis://host:6379/0")),
    ],
)
def test_settings_environment_variable_sets_its_knob(monkeypatch, name, value, expected):
    assert getattr(Settings(), name.lower()) != expected
    monkeypatch.setenv(name, value)
    assert getattr(Settings(), name.lower()) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        default("AWS_REGION", "ING-05", value="us-east-1"),
        default("USE_SQS_DATA_SOURCE", "ING-03", value=True),
        default("SQS_POLLING_INTERVAL", "ING-04", value=10),
        default("SQS_MAX_MESSAGES", "ING-04", value=10),
        default("SQS_WAIT_TIME", "ING-04", value=20),
        default("FALLBACK_TO_YFINANCE", "ING-02", value=True),
        default("LOG_LEVEL", "ENV-LOG_LEVEL", value="INFO"),
        default("SIGNAL_COOLDOWN_SECONDS", "SIG-06", "NUM-001-cooldown-60s", value=60),
        default("MODEL_TRAINING_MIN_DATASET_SIZE", "TRN-02", "NUM-002-min-rows-1000", value=1000),
        default("MODEL_TRAINING_MAX_DURATION_SECONDS", "TRN-03", "NUM-002-training-1800s", value=1800),
        default("MODEL_QUALITY_THRESHOLD_ACCURACY", "TRN-04", "NUM-002-accuracy-0.75", value=0.75),
        ("MODEL_RETRAINING_SCHEDULE", ""),
        ("WARMUP_MODE_ENABLED", True),
        ("WARMUP_SIGNAL_FREQUENCY", 60),
    ],
)
def test_settings_nothing_set_has_the_published_default(name, expected):
    assert getattr(Settings(), name.lower()) == expected


@pytest.mark.requirement("ING-11")
def test_symbols_nothing_set_includes_the_published_equities():
    assert {"AAPL", "GOOGL", "MSFT"} <= set(Settings().symbols)


@pytest.mark.requirement("ING-04", "ING-06")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SQS_MAX_MESSAGES", "0"),
        ("SQS_MAX_MESSAGES", "11"),
        ("SQS_WAIT_TIME", "21"),
        ("SQS_WAIT_TIME", "-1"),
        ("SQS_POLLING_INTERVAL", "0"),
        ("SQS_POLLING_INTERVAL", "soon"),
        ("LOG_LEVEL", "LOUD"),
        ("MODEL_QUALITY_THRESHOLD_ACCURACY", "75"),
    ],
)
def test_settings_value_out_of_bounds_is_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_sqs_queue_url_several_are_split_on_commas(monkeypatch):
    monkeypatch.setenv("SQS_QUEUE_URL", "http://a/1.fifo, http://a/2.fifo")
    assert Settings().sqs_queue_url == ("http://a/1.fifo", "http://a/2.fifo")


def test_settings_dot_env_file_is_read_and_the_environment_wins(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("AWS_REGION=ap-south-1\nLOG_LEVEL=ERROR\nNOT_A_KNOB=1\n")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    settings = Settings()
    assert (settings.aws_region, settings.log_level) == ("ap-south-1", "WARNING")


def test_settings_empty_value_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("SQS_QUEUE_URL", "")
    settings = Settings()
    assert settings.database_url is None
    assert settings.sqs_queue_url == ()


def test_settings_once_read_cannot_change():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().aws_region = "eu-west-1"


def test_surveillance_home_relative_path_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("SURVEILLANCE_HOME", "home")
    settings = Settings()
    assert settings.surveillance_home == tmp_path / "home"
    assert settings.models_path == tmp_path / "home" / "models"


SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIDHIDDEN",
    "AWS_SECRET_ACCESS_KEY": "hidden-key",
    "DATABASE_URL": "postgresql://user:hidden-password@db/surveillance",
    "DAGSTER_DATABASE_URL": "postgresql://user:hidden-dagster@db/dagster",
    "MLFLOW_TRACKING_URI": "postgresql://user:hidden-mlflow@db/mlflow",
    "NOTIFY_URLS": "json://user:hidden-receiver@host/path",
}


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize("name", SECRETS)
def test_secret_set_in_environment_never_shows_in_repr_or_str(monkeypatch, name):
    monkeypatch.setenv(name, SECRETS[name])
    settings = Settings()
    for shown in (repr(settings), str(settings), f"{settings}"):
        assert "hidden" not in shown.lower()


@pytest.mark.requirement("SEC-09")
def test_secret_set_in_environment_is_masked_in_a_json_dump(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert "hidden" not in Settings().model_dump_json().lower()


@pytest.mark.requirement("SEC-09")
def test_settings_refused_value_error_shows_no_secret(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SQS_MAX_MESSAGES", "99")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "hidden" not in str(caught.value).lower()


@pytest.mark.requirement("SEC-09")
def test_settings_refused_together_error_shows_no_secret(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OUTPUT_CHANNELS", "sqs,redis")
    with pytest.raises(ValidationError, match="REDIS_URL") as caught:
        Settings()
    assert "hidden" not in str(caught.value).lower()


@pytest.mark.parametrize(("name", "value"), [("SIGNAL_COOLDOWN_SECONDS", "61"), ("DEFAULT_CALENDAR", "24/7")])
def test_config_hash_changes_with_what_changes_a_score_and_with_nothing_else(monkeypatch, name, value):
    before = Settings().config_hash
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    assert Settings().config_hash == before
    monkeypatch.setenv(name, value)
    assert Settings().config_hash != before


def example_lines(repository):
    """The ``NAME=value`` lines of ``.env.example``, uncommented."""
    return re.findall(r"^# ([A-Z][A-Z0-9_]*=.*)$", (repository / ".env.example").read_text(), re.MULTILINE)


def test_env_example_names_every_setting_and_no_other(repository):
    assert sorted(line.partition("=")[0] for line in example_lines(repository)) == sorted(NAMES)


def test_env_example_uncommented_gives_the_defaults(repository, tmp_path):
    default = Settings()
    (tmp_path / ".env").write_text("\n".join(example_lines(repository)))
    assert Settings() == default


@pytest.mark.parametrize(
    ("name", "value", "example"),
    [
        ("MODEL_RETRAINING_SCHEDULE", "every day", "'0 6 * * 6'"),
        ("SQS_QUEUE_URL", "market_queue.fifo", QUEUE_URL),
        ("SQS_QUEUE_URL", f"{QUEUE_URL},https://host", QUEUE_URL),
        ("OUTPUT_QUEUE_URL", "arn:aws:sqs:us-east-1:0:q.fifo", QUEUE_URL),
        ("SQS_ENDPOINT_URL", "localhost:4566", "http://localhost:4566"),
        ("LAKE_ENDPOINT_URL", "http://host:port", "http://localhost:4566"),
        ("LAKE_URL", "gs://bucket/lake", "s3://bucket/lake"),
    ],
)
def test_settings_malformed_value_is_refused_with_name_value_and_example(monkeypatch, name, value, example):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=f"expected {name}") as caught:
        Settings()
    assert value.rpartition(",")[2] in str(caught.value)
    assert example in str(caught.value)


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://user:hidden@host/db"),
        ("DAGSTER_DATABASE_URL", "postgres://user:hidden@host/db"),
        ("MLFLOW_TRACKING_URI", "gopher://user:hidden@host/db"),
        ("NOTIFY_URLS", "hidden"),
    ],
)
def test_settings_malformed_secret_is_refused_by_name_and_not_shown(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=f"expected {name}.*as in") as caught:
        Settings()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_settings_number_must_be_finite(monkeypatch, value):
    monkeypatch.setenv("DRAIN_WINDOW_SECONDS", value)
    with pytest.raises(ValidationError, match="drain_window_seconds"):
        Settings()


def test_notification_urls_are_split_where_a_url_begins(monkeypatch):
    monkeypatch.setenv("NOTIFY_URLS", "json://host/a?to=x,y, mailto://me:pw@example.com")
    assert Settings().notification_urls == ("json://host/a?to=x,y", "mailto://me:pw@example.com")


def test_settings_unknown_event_of_notifications_is_refused(monkeypatch):
    monkeypatch.setenv("NOTIFY_ON", "alert, earthquake")
    with pytest.raises(ValidationError, match="'failed_run', 'red_check', 'alert' or 'queue_not_served'"):
        Settings()
    monkeypatch.setenv("NOTIFY_ON", "alert, red_check")
    assert Settings().notify_on == ("alert", "red_check")


@pytest.mark.parametrize("channels", ["redis", "sqs,kafka", "sqs,sqs"])
def test_settings_output_channels_that_cannot_be_served_are_refused(monkeypatch, channels):
    monkeypatch.setenv("OUTPUT_CHANNELS", channels)
    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    with pytest.raises(ValidationError, match="expected OUTPUT_CHANNELS"):
        Settings()


def test_settings_channel_without_its_server_is_refused_and_the_url_is_a_secret(monkeypatch):
    monkeypatch.setenv("OUTPUT_CHANNELS", "sqs, redis")
    with pytest.raises(ValidationError, match="REDIS_URL"):
        Settings()
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@host/0")
    assert Settings().output_channels == ("sqs", "redis")
    assert "hunter2" not in repr(Settings())


@pytest.mark.parametrize("url", ["redis://host", "rediss://:hunter2@host/0", "unix:///run/valkey.sock"])
def test_redis_url_of_a_known_scheme_is_accepted(monkeypatch, url):
    monkeypatch.setenv("REDIS_URL", url)
    held = Settings().redis_url
    assert held is not None
    assert held.get_secret_value() == url


@pytest.mark.parametrize("url", ["localhost:6379", "http://host", "hunter2"])
def test_redis_url_of_another_scheme_is_refused_without_showing_it(monkeypatch, url):
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ValidationError, match="expected REDIS_URL to start with redis://") as caught:
        Settings()
    assert url not in str(caught.value)


def test_settings_channel_without_a_setting_that_its_row_requires_is_refused(monkeypatch):
    row = SideChannel(required_settings=("lake_url",), extra="redis", asset="output_topic", check="topic_gets_all")
    monkeypatch.setitem(SIDE_CHANNELS, "topic", row)
    monkeypatch.setenv("OUTPUT_CHANNELS", "sqs,topic")
    with pytest.raises(ValidationError, match="expected LAKE_URL for the channel topic in OUTPUT_CHANNELS"):
        Settings()
    monkeypatch.setenv("LAKE_URL", "lake")
    assert Settings().side_channels == ("topic",)


def test_settings_output_channels_leave_the_config_hash_alone(monkeypatch):
    before = Settings().config_hash
    monkeypatch.setenv("OUTPUT_CHANNELS", "sqs,redis")
    monkeypatch.setenv("REDIS_URL", "redis://host")
    monkeypatch.setenv("REDIS_STREAM", "other")
    assert Settings().config_hash == before
