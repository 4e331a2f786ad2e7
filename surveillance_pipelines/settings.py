"""All settings of the platform. ``.env.example`` documents them for users.

``Settings`` are read once, at a boundary (command line, Dagster resource, test), and passed on. Secrets are
``SecretStr`` and never appear in logs, representations or run configs.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from surveillance_pipelines.channels import SIDE_CHANNELS
from surveillance_pipelines.hashing import sha256_json
from surveillance_pipelines.setting_rules import cron_problem, require_http, require_scheme, split_urls
from surveillance_pipelines.symbols import SYMBOL_RULE, is_symbol

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")

CommaList = Annotated[tuple[str, ...], NoDecode]

NotificationKind = Literal["failed_run", "red_check", "alert", "queue_not_served"]

_POSTGRES_EXAMPLE = "postgresql://user:password@host:5432/name"
_QUEUE_EXAMPLE = "https://sqs.us-east-1.amazonaws.com/000000000000/market_queue.fifo"
_APPRISE_URL = re.compile(r"[A-Za-z0-9]+://\S+")
_MLFLOW_SCHEMES = ("http", "https", "postgresql", "mysql", "sqlite", "mssql", "file", "databricks")

_SCORING_FIELDS = (
    "tenant",
    "symbols",
    "default_calendar",
    "warmup_mode_enabled",
    "warmup_signal_frequency",
    "signal_cooldown_seconds",
    "bar_close_grace_seconds",
    "sqs_volume_is_cumulative",
)
_LATER_SCORING_FIELDS = ("incident_gap_minutes",)
"""Optional, so that rows of configurations without them keep their ``config_hash``."""


class Settings(BaseSettings):
    """The platform's configuration, from the environment and ``.env``."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # the input of a check of several settings is all settings, with the secrets
    )

    # Locations
    surveillance_home: Path = Path(".surveillance")
    database_url: SecretStr | None = None
    dagster_database_url: SecretStr | None = None
    mlflow_tracking_uri: Annotated[str | None, Field(repr=False, exclude=True)] = None  # may contain a password
    lake_url: str | None = None
    lake_endpoint_url: str | None = None
    model_storage_path: Path | None = None
    sqs_endpoint_url: str | None = None
    sqs_queue_url: CommaList = ()
    output_queue_url: str | None = None

    # AWS
    aws_access_key_id: SecretStr | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_region: str = "us-east-1"

    # Market data
    symbols: CommaList = ("AAPL", "GOOGL", "MSFT", "AMZN", "NVDA", "SPY")
    unknown_symbols: Literal["refuse", "register"] = "refuse"
    default_calendar: str = "XNYS"
    use_sqs_data_source: bool = True
    sqs_polling_interval: Annotated[float, Field(gt=0, le=3600)] = 10.0
    sqs_max_messages: Annotated[int, Field(ge=1, le=10)] = 10
    sqs_wait_time: Annotated[int, Field(ge=0, le=20)] = 20
    sqs_visibility_timeout: Annotated[int, Field(ge=5, le=43_200)] = 60
    sqs_silence_seconds: Annotated[float, Field(gt=0)] = 300.0
    sqs_volume_is_cumulative: bool = False
    bar_close_grace_seconds: Annotated[float, Field(ge=0)] = 2.0
    fallback_to_yfinance: bool = True
    yfinance_adjustment: Literal["none", "split", "split+dividend"] = "split"
    yfinance_batch_size: Annotated[int, Field(ge=1, le=200)] = 20
    yfinance_max_attempts: Annotated[int, Field(ge=1, le=10)] = 4

    # Live lane
    publish: Literal["incidents", "alerts", "scores"] = "alerts"
    publish_scores: Literal["all", "alerts"] = "alerts"  # of earlier releases
    incident_gap_minutes: Annotated[float, Field(gt=0, le=1440)] | None = None
    drain_window_seconds: Annotated[float, Field(gt=0)] = 300.0
    drain_idle_seconds: Annotated[float, Field(gt=0)] = 30.0
    drain_standby: bool = True
    lease_seconds: Annotated[float, Field(gt=0)] = 1.2
    compute_limit_ms: Annotated[float, Field(gt=0)] = 15.0
    ledger_retention_days: Annotated[int, Field(ge=15, le=365)] = 30  # SQS keeps a message for 14 days at most
    tenant: str = "default"
    signal_cooldown_seconds: Annotated[float, Field(ge=0)] = 60.0

    # Models
    model_training_min_dataset_size: Annotated[int, Field(ge=1)] = 1000
    model_training_max_duration_seconds: Annotated[float, Field(gt=0)] = 1800.0
    model_quality_threshold_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.75
    model_retraining_schedule: str = ""
    model_breaker_seconds: Annotated[float, Field(gt=0)] = 30.0
    warmup_mode_enabled: bool = True
    warmup_signal_frequency: Annotated[float, Field(gt=0)] = 60.0

    # Output
    output_channels: CommaList = ("sqs",)
    redis_url: SecretStr | None = None
    redis_stream: Annotated[str, Field(min_length=1)] = "surveillance:output"
    redis_max_length: Annotated[int, Field(ge=1000)] = 1_000_000

    # Notifications
    notify_urls: SecretStr | None = None
    notify_on: Annotated[tuple[NotificationKind, ...], NoDecode] = (
        "failed_run",
        "red_check",
        "alert",
        "queue_not_served",
    )
    notify_min_interval_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("sqs_queue_url", "symbols", "output_channels", "notify_on", mode="before")
    @classmethod
    def _split_on_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("symbols", mode="after")
    @classmethod
    def _check_symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [symbol for symbol in value if not is_symbol(symbol)]:
            raise ValueError(f"expected {SYMBOL_RULE} as each symbol, got {', '.join(wrong)}: correct SYMBOLS")
        return value

    @field_validator("database_url", "dagster_database_url", mode="after")
    @classmethod
    def _check_postgres_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # SQLAlchemy, which Dagster uses, knows no postgres://.
        schemes = ("postgresql", "postgres") if info.field_name == "database_url" else ("postgresql",)
        if value is not None:
            url = value.get_secret_value()
            require_scheme(_name(info), url, schemes, example=_POSTGRES_EXAMPLE, is_secret=True)
        return value

    @field_validator("mlflow_tracking_uri", mode="after")
    @classmethod
    def _check_mlflow_uri(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "://" in value:
            require_scheme(_name(info), value, _MLFLOW_SCHEMES, example="http://host:5000", is_secret=True)
        return value

    @field_validator("lake_url", mode="after")
    @classmethod
    def _check_lake_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "://" in value:
            require_scheme(_name(info), value, ("s3",), example="s3://bucket/lake or /data/lake", is_secret=False)
        return value

    @field_validator("lake_endpoint_url", "sqs_endpoint_url", mode="after")
    @classmethod
    def _check_endpoint(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            require_http(_name(info), value, example="http://localhost:4566")
        return value

    @field_validator("sqs_queue_url", "output_queue_url", mode="after")
    @classmethod
    def _check_queue_url(
        cls, value: tuple[str, ...] | str | None, info: ValidationInfo
    ) -> tuple[str, ...] | str | None:
        for url in (value,) if isinstance(value, str) else value or ():
            require_http(_name(info), url, example=_QUEUE_EXAMPLE, path=True)
        return value

    @field_validator("model_retraining_schedule", mode="after")
    @classmethod
    def _check_cron(cls, value: str, info: ValidationInfo) -> str:
        if value.strip() and (problem := cron_problem(value)):
            raise ValueError(
                f"expected {_name(info)} as a cron expression, as in '0 6 * * 6' (Saturdays at 06:00 UTC), "
                f"got {value!r}: {problem}"
            )
        return value

    @field_validator("notify_urls", mode="after")
    @classmethod
    def _check_notify_urls(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and not all(map(_APPRISE_URL.fullmatch, split_urls(value.get_secret_value()))):
            raise ValueError(
                f"expected {_name(info)} as URLs of Apprise, as in mailto://user:password@example.com, "
                "got another value (not shown: it may contain a password)"
            )
        return value

    @field_validator("surveillance_home", "model_storage_path", mode="after")
    @classmethod
    def _make_absolute(cls, value: Path | None) -> Path | None:
        # A Dagster run may have another working directory than the command that started it.
        return value if value is None else value.expanduser().absolute()

    @field_validator("lake_url", "lake_endpoint_url", "sqs_endpoint_url", "output_queue_url", mode="after")
    @classmethod
    def _check_no_credentials(cls, value: str | None, info: ValidationInfo) -> str | None:
        # These addresses are shown in messages, and the libraries that use them show them too.
        if value is not None and "@" in value.partition("://")[2].partition("/")[0]:
            raise ValueError(
                f"expected {str(info.field_name).upper()} without user and password, got an @ before its host: set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return value

    @field_validator("redis_url", mode="after")
    @classmethod
    def _check_redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(REDIS_SCHEMES):
            raise ValueError(
                f"expected REDIS_URL to start with {', '.join(REDIS_SCHEMES)}, got another start "
                "(not shown: it may contain a password)"
            )
        return value

    @model_validator(mode="after")
    def _check_channels(self) -> "Settings":
        unknown = set(self.output_channels) - {"sqs", *SIDE_CHANNELS}
        if unknown or "sqs" not in self.output_channels or len(set(self.output_channels)) < len(self.output_channels):
            raise ValueError(
                f"expected OUTPUT_CHANNELS to contain sqs, and others of {', '.join(SIDE_CHANNELS)}, each once; "
                f"got {','.join(self.output_channels)!r}"
            )
        for channel in self.side_channels:
            for name in SIDE_CHANNELS[channel].required_settings:
                if getattr(self, name) is None:
                    raise ValueError(
                        f"expected {name.upper()} for the channel {channel} in OUTPUT_CHANNELS, got none: set it"
                    )
        return self

    @property
    def side_channels(self) -> tuple[str, ...]:
        """Channels of ``OUTPUT_CHANNELS`` with delivery runs, that is, all except sqs."""
        return tuple(channel for channel in self.output_channels if channel != "sqs")

    @property
    def notification_urls(self) -> tuple[str, ...]:
        """URLs of ``NOTIFY_URLS``; they contain secrets."""
        return () if self.notify_urls is None else split_urls(self.notify_urls.get_secret_value())

    @cached_property
    def models_path(self) -> Path:
        """Folder of the frozen bundles ``v1/``, ``v2/``, …"""
        return self.model_storage_path or self.surveillance_home / "models"

    @property
    def published(self) -> Literal["incidents", "alerts", "scores"]:
        """What is published besides signals; each value includes the ones before it."""
        return "scores" if self.publish_scores == "all" else self.publish

    @cached_property
    def scoring_knobs(self) -> dict[str, Any]:
        """Settings that can change an output row, as JSON values; those of later releases only if they are set."""
        later = {name: getattr(self, name) for name in _LATER_SCORING_FIELDS}
        return {name: getattr(self, name) for name in _SCORING_FIELDS} | {
            name: value for name, value in later.items() if value is not None
        }

    @cached_property
    def config_hash(self) -> str:
        """Hash of ``scoring_knobs``; the ``config_hash`` of output rows."""
        return sha256_json(self.scoring_knobs)


def _name(info: ValidationInfo) -> str:
    return str(info.field_name).upper()
