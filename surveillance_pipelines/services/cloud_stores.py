"""Creation of missing queues and buckets."""

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.contracts.queue import AwsCredentials

if TYPE_CHECKING:
    from surveillance_pipelines.contracts.endpoints import Endpoints

MAX_RECEIVE_COUNT: Final = 5
"""Receives without a deletion after which SQS moves a message to the dead-letter queue."""


def ensure_queues(endpoints: "Endpoints") -> list[str]:
    """Create the input and output queues that do not exist, each with a dead-letter queue.

    Returns:
        The names of the created queues.
    """
    client = _client("sqs", endpoints.sqs_endpoint_url, endpoints.aws_region, endpoints.aws)
    names = [url.rsplit("/", 1)[1] for url in (*endpoints.queue_urls, endpoints.output_queue_url)]
    return [name for name in names if _ensure_fifo_queue(client, name)]


def ensure_bucket(endpoints: "Endpoints", endpoint_url: str | None) -> list[str]:
    """Create the bucket of an ``s3://`` lake if it does not exist; return its name if it was created."""
    if not endpoints.lake_url.startswith("s3://"):
        return []
    bucket = endpoints.lake_url.removeprefix("s3://").split("/", 1)[0]
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    aws = AwsCredentials(*(endpoints.lake_storage_options.get(name) for name in names))
    client = _client("s3", endpoint_url, endpoints.aws_region, aws)
    if bucket in {found["Name"] for found in client.list_buckets().get("Buckets", [])}:
        return []
    location = {"CreateBucketConfiguration": {"LocationConstraint": endpoints.aws_region}}
    client.create_bucket(Bucket=bucket, **({} if endpoints.aws_region == "us-east-1" else location))
    return [bucket]


def _ensure_fifo_queue(client: Any, name: str) -> bool:
    if _exists(client, name):
        return False
    dead = client.create_queue(QueueName=name.replace(".fifo", "_dead.fifo"), Attributes={"FifoQueue": "true"})
    arn = client.get_queue_attributes(QueueUrl=dead["QueueUrl"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(MAX_RECEIVE_COUNT)})
    client.create_queue(QueueName=name, Attributes={"FifoQueue": "true", "RedrivePolicy": policy})
    return True


def _exists(client: Any, name: str) -> bool:
    try:
        client.get_queue_url(QueueName=name)
    except client.exceptions.QueueDoesNotExist:
        return False
    return True


def _client(service: str, endpoint_url: str | None, region: str, aws: AwsCredentials) -> Any:
    import boto3

    create: Any = partial(boto3.client, service, region_name=region, endpoint_url=endpoint_url)
    return create(
        aws_access_key_id=aws.access_key_id,
        aws_secret_access_key=aws.secret_access_key,
        aws_session_token=aws.session_token,
    )
