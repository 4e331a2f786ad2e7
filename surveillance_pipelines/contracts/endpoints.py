"""Addresses of all stores and queues of the platform."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from surveillance_pipelines.contracts.queue import AwsCredentials

DEMO_MARKER: Final = "demo.json"
"""File that marks a home with only demo data."""
HOME_MARKERS: Final = ("embedded/lock", "dagster/dagster.yaml", DEMO_MARKER)
"""Files that identify a SURVEILLANCE_HOME; every used home holds at least one of them."""


@dataclass(frozen=True)
class Endpoints:
    """Addresses of all stores and queues. Fields that may contain a secret are excluded from the representation.

    Attributes:
        database_url: the platform's database, ``postgresql://``.
        dagster_database_url: Dagster's database, for SQLAlchemy with psycopg2.
        mlflow_artifact_root: folder or bucket for the files of MLflow runs; None if an MLflow server chooses it.
        sqs_endpoint_url: endpoint of SQS; None for AWS.
        queue_urls: input queues; each symbol belongs to one of them.
        aws: credentials for the queues.
        aws_account: configured AWS credentials, for all but an embedded queue; without a key if none are configured.
        embedded: whether embedded services are used.
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
    aws_account: AwsCredentials = field(repr=False)
    aws_region: str
    home: Path
    embedded: bool
