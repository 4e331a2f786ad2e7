"""Addresses of every store and queue of the platform."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from surveillance_pipelines.contracts.queue import AwsCredentials


@dataclass(frozen=True)
class Endpoints:
    """Addresses of every store and queue. Fields that may hold a secret are left out of its representation.

    Attributes:
        database_url: the platform's database, ``postgresql://``.
        dagster_database_url: Dagster's, for SQLAlchemy with psycopg2.
        mlflow_artifact_root: where the files of MLflow runs go; None where an MLflow server decides.
        sqs_endpoint_url: None for AWS itself.
        queue_urls: input queues; a symbol belongs to one of them.
        embedded: whether this process found or started embedded services.
    """

    database_url: str = field(repr=False)
    dagster_database_url: str = field(repr=False)
    mlflow_tracking_uri: str = field(repr=False)
    mlflow_artifact_root: str | None
    lake_url: str
    lake_storage_options: Mapping[str, str] = field(repr=False)
    models_path: Path
    sqs_endpoint_url: str | None
    queue_urls: tuple[str, ...]
    output_queue_url: str
    aws: AwsCredentials = field(repr=False)
    aws_region: str
    home: Path
    embedded: bool
