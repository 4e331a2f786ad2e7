"""The database and the queue of a running home, as a producer and the script of the day use them."""

import configparser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, LiteralString

import boto3
import psycopg

from benchmarks.operator_terminal import DayError
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.embedded.services import read_services
from surveillance_pipelines.embedded.services import stop_services as stop
from surveillance_pipelines.settings import Settings

_DATABASE: Final = "surveillance"
_QUEUE: Final = "market_queue.fifo"


def count(home: Path, statement: LiteralString) -> int:
    """Return the number that a query on the platform's database counts."""
    services = read_services(home)
    if services is None:
        raise DayError(f"expected running services in {home}, found none")
    with psycopg.connect(services.server_url, dbname=_DATABASE, autocommit=True) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return row[0]


def send(home: Path, entries: Sequence[SendEntry]) -> None:
    """Send messages to the input queue with a client of its own, configured by ``aws_config`` as the docs describe."""
    config = configparser.ConfigParser()
    config.read(home / "embedded" / "aws_config")
    facts = config["default"]
    client: Any = boto3.client(
        "sqs",
        endpoint_url=facts["endpoint_url"],
        region_name=facts["region"],
        aws_access_key_id=facts["aws_access_key_id"],
        aws_secret_access_key=facts["aws_secret_access_key"],
    )
    url = client.get_queue_url(QueueName=_QUEUE)["QueueUrl"]
    for entry in entries:
        client.send_message(
            QueueUrl=url,
            MessageBody=entry.body,
            MessageGroupId=entry.group_id,
            MessageDeduplicationId=entry.dedup_id,
        )


def stop_services(home: Path) -> None:
    """Stop the embedded services of a home now, not some seconds after the last command."""
    stop(Settings(_env_file=None, surveillance_home=home))  # pyright: ignore[reportCallIssue]
