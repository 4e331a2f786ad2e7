"""The queue server of ``docker-compose.yml``, started with the command, environment and file that Compose gives it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.embedded.postgres_server import preferred_port, wait_until
from surveillance_pipelines.embedded.queue_server import answers
from surveillance_pipelines_tests.storage_fixtures import sqs_client

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def _with_defaults(text: str) -> str:
    """Replace ``${NAME:-default}`` as Compose does without that variable."""
    return re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", text)


@contextmanager
def _emulator(folder: Path, port: int) -> Iterator[dict[str, str]]:
    """Run the service and yield the environment of the platform's containers."""
    compose: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    service, platform = compose["services"]["emulator"], compose["services"]["platform"]
    files: dict[str, str] = {}
    for config in service["configs"]:
        file = folder / Path(config["target"]).name
        file.write_text(_with_defaults(compose["configs"][config["source"]]["content"]))
        files[config["target"]] = str(file)
    environment = {str(name): files.get(value, str(value)) for name, value in service["environment"].items()}
    folders = {"STATE_DIR": str(folder / "state"), "S3_DATA_DIR": str(folder / "s3")}
    assert folders.keys() <= environment.keys(), "the volume of the container"
    _, *command = service["command"]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **environment, **folders, "GATEWAY_PORT": str(port)},
    )
    try:
        wait_until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}"), 60)
        assert process.poll() is None
        yield {name: _with_defaults(str(value)) for name, value in platform["environment"].items()}
    finally:
        process.terminate()
        process.wait(30)


def test_emulator_accepts_the_platform_under_its_name_and_nobody_else(tmp_path: Path) -> None:
    port = preferred_port(None)
    with _emulator(tmp_path, port) as platform:
        name = platform["SQS_ENDPOINT_URL"].removeprefix("http://").partition(":")[0]
        keys = AwsCredentials(platform["AWS_ACCESS_KEY_ID"], platform["AWS_SECRET_ACCESS_KEY"])

        def call_as(host: str, credentials: AwsCredentials) -> None:
            client = sqs_client(f"http://127.0.0.1:{port}", credentials)
            client.meta.events.register(
                "before-sign.sqs", lambda request, **_: request.headers.add_header("Host", host)
            )
            client.list_queues()

        call_as(f"{name}:{port}", keys)
        with pytest.raises(ClientError, match="expected the Host"):
            call_as(f"attacker.example:{port}", keys)
        with pytest.raises(ClientError, match="access key"):
            call_as(f"{name}:{port}", AwsCredentials("other", "other"))


def test_emulator_keeps_queues_and_buckets_when_it_is_stopped(tmp_path: Path) -> None:
    port = preferred_port(None)
    for is_first in (True, False):
        with _emulator(tmp_path, port) as platform:
            keys = AwsCredentials(platform["AWS_ACCESS_KEY_ID"], platform["AWS_SECRET_ACCESS_KEY"])
            queues, buckets = (sqs_client(f"http://127.0.0.1:{port}", keys, service) for service in ("sqs", "s3"))
            if is_first:
                url = queues.create_queue(QueueName="q.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
                queues.send_message(QueueUrl=url, MessageBody="kept", MessageGroupId="g", MessageDeduplicationId="d")
                buckets.create_bucket(Bucket="lake")
                buckets.put_object(Bucket="lake", Key="k", Body=b"kept")
            else:
                url = queues.get_queue_url(QueueName="q.fifo")["QueueUrl"]
                assert [m["Body"] for m in queues.receive_message(QueueUrl=url)["Messages"]] == ["kept"]
                assert buckets.get_object(Bucket="lake", Key="k")["Body"].read() == b"kept"
