"""Access to the embedded queue server: the signatures of real clients pass, everything else is refused."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from surveillance_pipelines.clock import SYSTEM_CLOCK, ManualClock, now
from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.embedded.queue_access import MAX_AGE_SECONDS, AccessControl, with_access_control
from surveillance_pipelines.embedded.queue_process import CREDENTIALS_VARIABLE

_AWS: Final = AwsCredentials("LOCALKEY", "secret")
_HOST: Final = "127.0.0.1:4566"
_BODY: Final = b'{"QueueUrl": "http://127.0.0.1:4566/000000000000/market_queue.fifo"}'

Scope = dict[str, Any]
Change = Callable[[Scope], None]


def _signed(
    method: str = "POST", path: str = "/", body: bytes = _BODY, service: str = "sqs", aws: AwsCredentials = _AWS
) -> Scope:
    """Return a request as ASGI gives it to the server, signed by botocore."""
    headers = {"X-Amz-Target": "AmazonSQS.ReceiveMessage", "Content-Type": "application/x-amz-json-1.0"}
    request = AWSRequest(method, f"http://{_HOST}{path}", headers if service == "sqs" else {}, body)
    sign: Any = S3SigV4Auth if service == "s3" else SigV4Auth
    sign(Credentials(aws.access_key_id, aws.secret_access_key), service, "us-east-1").add_auth(request)
    raw_path, _, query = path.partition("?")
    pairs = {"host": _HOST, **{name.lower(): value for name, value in request.headers.items()}}
    return {
        "type": "http", "method": method, "path": raw_path, "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), str(value).encode()) for name, value in pairs.items()],
    }  # fmt: skip


def _send(scope: Scope, body: bytes = _BODY, age_seconds: float = 0.0) -> tuple[int, bytes, list[bytes]]:
    """Return status and body of the response, and the bodies that reached the emulator."""
    reached: list[bytes] = []
    sent: list[dict[str, Any]] = []

    async def app(_scope: Any, events: Any, send: Any) -> None:
        reached.append((await events())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def events() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    clock = ManualClock(now(SYSTEM_CLOCK))
    clock.advance(age_seconds)
    control = AccessControl(_AWS, 4566, clock)
    asyncio.run(with_access_control(app, control)(scope, events, send))  # pyright: ignore[reportArgumentType]
    return sent[0]["status"], sent[1]["body"], reached


def _with_header(name: str, value: str | None) -> Change:
    def change(scope: Scope) -> None:
        kept = [(key, old) for key, old in scope["headers"] if key != name.encode()]
        scope["headers"] = kept if value is None else [*kept, (name.encode(), value.encode())]

    return change


@pytest.mark.parametrize(
    ("method", "path", "body", "service"),
    [
        ("POST", "/", _BODY, "sqs"),
        ("POST", "/000000000000/market_queue.fifo", _BODY, "sqs"),
        ("GET", "/?Action=ListQueues&Version=2012-11-05&QueueNamePrefix=a%20b%2Fc", b"", "sqs"),
        ("PUT", "/lake/bars/date%3D2024-01-15/part%20%2B~.parquet", b"\x00\xff" * 1_000, "s3"),
        ("GET", "/lake?list-type=2&prefix=bars%2Fdate%3D2024&delimiter=%2F&encoding-type=url", b"", "s3"),
        ("POST", "/lake?delete", b"<Delete/>", "s3"),
        ("DELETE", "/lake/a/b", b"", "s3"),
    ],
)
def test_request_signed_by_botocore_reaches_the_emulator(method: str, path: str, body: bytes, service: str) -> None:
    assert _send(_signed(method, path, body, service), body) == (200, b"", [body])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_with_header("authorization", None), b"MissingAuthenticationToken"),
        (_with_header("authorization", "AWS4-HMAC-SHA256 nonsense"), b"MissingAuthenticationToken"),
        (_with_header("host", "attacker.example:4566"), b"AccessDenied"),
        (_with_header("host", "127.0.0.1:80"), b"AccessDenied"),
        (_with_header("origin", "http://127.0.0.1:4566"), b"AccessDenied"),
        (_with_header("sec-fetch-site", "none"), b"AccessDenied"),
        (_with_header("x-amz-target", "AmazonSQS.PurgeQueue"), b"SignatureDoesNotMatch"),
        (_with_header("x-amz-security-token", "added"), b"SignatureDoesNotMatch"),
        (_with_header("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), b"SignatureDoesNotMatch"),
        (_with_header("x-amz-date", "yesterday"), b"AccessDenied"),
        (lambda scope: scope["headers"].append((b"X-Amz-Target", b"AmazonSQS.PurgeQueue")), b"InvalidRequest"),
        (lambda scope: scope.update(raw_path=b"/another"), b"SignatureDoesNotMatch"),
        (lambda scope: scope.update(query_string=b"Action=PurgeQueue"), b"SignatureDoesNotMatch"),
        (lambda scope: scope.update(method="PUT"), b"SignatureDoesNotMatch"),
    ],
)
def test_changed_request_is_refused(change: Change, code: bytes) -> None:
    scope = _signed()
    change(scope)
    status, answer, reached = _send(scope)
    assert (status, reached) == (403, [])
    assert code in answer


def test_request_with_a_wrong_secret_or_key_is_refused() -> None:
    assert b"SignatureDoesNotMatch" in _send(_signed(aws=AwsCredentials("LOCALKEY", "guess")))[1]
    assert b"InvalidClientTokenId" in _send(_signed(aws=AwsCredentials("local", "local")))[1]


@pytest.mark.parametrize("service", ["sqs", "s3"])
def test_request_with_another_body_is_refused(service: str) -> None:
    status, _, reached = _send(_signed(service=service), b"{}")
    assert (status, reached) == (403, [])


@pytest.mark.parametrize("age", [MAX_AGE_SECONDS + 2, -MAX_AGE_SECONDS - 2])
def test_request_with_an_old_or_future_signature_is_refused(age: float) -> None:
    assert b"RequestExpired" in _send(_signed(), age_seconds=age)[1]


@pytest.mark.parametrize(
    ("payload", "body", "status"),
    [
        ("UNSIGNED-PAYLOAD", b"", 200),
        ("UNSIGNED-PAYLOAD", b"tick", 403),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"tick", 403),
    ],
)
def test_request_with_signed_headers_and_an_unsigned_body_is_refused(payload: str, body: bytes, status: int) -> None:
    request = AWSRequest("PUT", f"http://{_HOST}/lake/key", {"X-Amz-Content-SHA256": payload}, body)
    SigV4Auth(Credentials(_AWS.access_key_id, _AWS.secret_access_key), "s3", "us-east-1").add_auth(request)
    pairs = {"host": _HOST, **{name.lower(): value for name, value in request.headers.items()}}
    scope = _signed("PUT", "/lake/key", body, "s3")
    scope["headers"] = [(name.encode(), str(value).encode()) for name, value in pairs.items()]
    assert _send(scope, body)[0] == status


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize(
    "path",
    ["/_ministack/reset", "/_ministack/config", "/_localstack/health", "/_aws/sqs/messages", "/%5Fministack/reset"],
)
def test_administration_endpoints_are_refused_even_if_signed(method: str, path: str) -> None:
    status, answer, reached = _send(_signed(method, path))
    assert (status, reached) == (403, [])
    assert b"administration" in answer


@pytest.mark.parametrize("path", ["/lake/../../../etc/passwd", "/lake/%2e%2e/%2e%2e/x", "/lake/a/./b", "/lake/a%00"])
def test_paths_out_of_their_bucket_are_refused(path: str) -> None:
    status, answer, reached = _send(_signed("PUT", path, b"x", "s3"), b"x")
    assert (status, reached) == (403, [])
    assert b"InvalidURI" in answer


def test_health_answers_without_a_signature_and_reveals_nothing() -> None:
    scope = _signed("GET", "/_ministack/health")
    _with_header("authorization", None)(scope)
    assert _send(scope) == (200, b"", [])
    _with_header("host", "attacker.example")(scope)
    assert _send(scope)[0] == 403


def test_websocket_is_closed() -> None:
    sent: list[dict[str, Any]] = []

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    async def unreachable(*_: Any) -> None:
        raise AssertionError

    guarded = with_access_control(unreachable, AccessControl(_AWS, 4566))
    asyncio.run(guarded({"type": "websocket", "headers": []}, unreachable, send))  # pyright: ignore[reportArgumentType]
    assert [event["type"] for event in sent] == ["websocket.close"]


def test_signing_key_of_each_day_is_derived_from_the_secret() -> None:
    control = AccessControl(_AWS, 4566)
    days = [datetime(2026, 1, day, tzinfo=UTC).strftime("%Y%m%d") for day in (1, 2)]
    keys = {control._signing_key(day, "us-east-1", "sqs") for day in days}
    assert len(keys) == len(days)
    assert all(len(key) == hashlib.sha256().digest_size for key in keys)


def test_server_without_credentials_does_not_start() -> None:
    bare = {name: value for name, value in os.environ.items() if name != CREDENTIALS_VARIABLE}
    command = [sys.executable, "-m", "surveillance_pipelines.embedded.queue_process"]
    ended = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "expected the credentials of the queue server" in ended.stderr
