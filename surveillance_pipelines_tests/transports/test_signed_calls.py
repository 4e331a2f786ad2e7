"""Signed calls beside boto3: the same signature, and boto3's repetition and errors for every call that fails."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.transports.signed_calls import Endpoint, signed_headers
from surveillance_pipelines.transports.sqs import QueueClient

pytestmark = pytest.mark.requirement("ING-01")

NOW = datetime(2024, 3, 5, 14, 30, 12, tzinfo=UTC)


class Server(ThreadingHTTPServer):
    """Answers every call with an empty success, unless ``failures`` name what the next calls get.

    Attributes:
        failures: statuses of the next calls; 0 closes the connection without an answer.
        calls: (user agent of boto3 or None, action, body) of each call.
        close: closes the connection after each answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures: list[int] = []
        self.calls: list[tuple[str | None, str, dict[str, Any]]] = []
        self.connections: set[tuple[str, int]] = set()
        self.close = False
        self.closed = threading.Semaphore(0)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.closed.release()

    @property
    def made_by(self) -> list[str]:
        return ["boto3" if agent else "signed" for agent, _, _ in self.calls]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = cast("Server", self.server)
        server.connections.add(self.client_address)
        action = self.headers["x-amz-target"].removeprefix("AmazonSQS.")
        server.calls.append((self.headers["user-agent"], action, body))
        status = server.failures.pop(0) if server.failures else 200
        self.close_connection = status == 0 or server.close
        if status == 0:
            return
        content = b"{}" if status == 200 else b'{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow"}'
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name of the base class)
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueClient]:
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    url = f"http://127.0.0.1:{server.server_port}"
    with closing(QueueClient(url, "us-east-1", AwsCredentials("id", "secret"), f"{url}/1/q.fifo")) as found:
        yield found


@pytest.mark.parametrize("token", [None, "token/of+a=role"])
@pytest.mark.parametrize("path", ["/", "/queues"])
def test_signature_is_that_of_botocore(token: str | None, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    body = '{"QueueUrl": "q", "body": "\u00e9"}'.encode()
    ours = signed_headers(
        credentials.get_frozen_credentials(), Endpoint("sqs.eu-west-1.amazonaws.com", path, "eu-west-1"),
        "ReceiveMessage", body, f"{NOW:%Y%m%dT%H%M%SZ}",
    )  # fmt: skip
    unsigned = {name: value for name, value in ours.items() if name in ("content-type", "x-amz-target")}
    request = AWSRequest("POST", f"https://sqs.eu-west-1.amazonaws.com{path}", data=body, headers=unsigned)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: NOW)
    SigV4Auth(credentials, "sqs", "eu-west-1").add_auth(request)
    assert request.headers["X-Amz-Date"] == ours["x-amz-date"]
    assert request.headers["Authorization"] == ours["authorization"]


def test_calls_share_a_connection_without_boto3(server: Server, client: QueueClient) -> None:
    for _ in range(3):
        client.receive(10, visibility_seconds=30)
    client.delete(["r1", "r2"])
    assert server.made_by == ["signed"] * 4
    assert len(server.connections) == 1
    assert server.calls[-1][2]["Entries"] == [{"Id": "0", "ReceiptHandle": "r1"}, {"Id": "1", "ReceiptHandle": "r2"}]


@pytest.mark.parametrize("status", [500, 503, 400, 0])
def test_call_that_fails_is_repeated_by_boto3_and_counted(server: Server, client: QueueClient, status: int) -> None:
    server.failures = [status]
    assert client.poll(10, visibility_seconds=30).attempts == 2
    assert server.made_by == ["signed", "boto3"]
    assert client.poll(10, visibility_seconds=30).attempts == 1


def test_call_that_keeps_failing_raises_the_error_of_boto3(server: Server, client: QueueClient) -> None:
    server.failures = [400] * 10
    with pytest.raises(ClientError, match="RequestThrottled"):
        client.receive(10, visibility_seconds=30)
    assert server.made_by == ["signed", "boto3", "boto3", "boto3"]


def test_connection_closed_by_the_server_is_not_used_again(server: Server, client: QueueClient) -> None:
    server.close = True
    for _ in range(3):
        assert client.poll(10, visibility_seconds=30).attempts == 1
        assert server.closed.acquire(timeout=10)
    assert server.made_by == ["signed"] * 3


def test_calls_through_a_proxy_are_made_by_boto3(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    with closing(QueueClient("http://sqs.example", "us-east-1", AwsCredentials("id", "secret"), "q")) as proxied:
        assert proxied.poll(10, visibility_seconds=30).attempts == 1
    assert server.made_by == ["boto3"]
