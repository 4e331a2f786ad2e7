"""Access to the embedded queue server: only requests that are signed with the credentials of its home.

The server listens on 127.0.0.1, where every local user and every web page in a browser can send requests. The signature
(AWS Signature Version 4) shows that the sender can read the home. The checks run before the emulator sees a request:

- the Host header names the server, so that no web page reaches it under a name of its own;
- no header that only browsers send;
- a signature over method, path, query, host, time, all ``x-amz-`` headers and the body, at most five minutes old.
  Signatures in the query and unsigned or streamed bodies are refused;
- no administration endpoint of the emulator. ``/_ministack/health`` answers without a signature and says nothing.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.queue import AwsCredentials

Events = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""The ``receive`` callable of ASGI, which returns the client's next event."""
App = Callable[[MutableMapping[str, Any], Events, Any], Awaitable[None]]

HEALTH_PATH: Final = "/_ministack/health"
MAX_AGE_SECONDS: Final = 300
"""Largest difference between the time of a signature and the clock; AWS allows as much."""
_ADMINISTRATION: Final = ("/_ministack", "/_localstack", "/_aws")
_BROWSER_HEADERS: Final = ("origin", "sec-fetch-site", "sec-fetch-mode")
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([\w-]+)/(\d{8})/([\w-]+)/([\w-]+)/aws4_request,\s*"
    r"SignedHeaders=([a-z0-9;_-]+),\s*Signature=([0-9a-f]{64})"
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
"""Hash of a body that is not signed; accepted for a request without a body."""
_UNESCAPED: Final = "-_.~"


class RefusedError(SurveillanceError, code=ErrorCode.INVALID_INPUT):
    """A request that must not reach the emulator.

    Attributes:
        aws_code: error code of AWS.
    """

    def __init__(self, aws_code: str, message: str) -> None:
        super().__init__(message)
        self.aws_code = aws_code


@dataclass(frozen=True, slots=True)
class Request:
    """Parts of a request that the signature covers; paths and queries as sent, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> "Request":
        """Read a request of ASGI.

        Raises:
            RefusedError: if a header is repeated, because client and server could read different values.
        """
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            if key in headers:
                raise RefusedError("InvalidRequest", f"expected the header {key} once, got it again")
            headers[key] = value.decode("latin-1")
        path = scope.get("raw_path") or scope["path"].encode()
        return cls(scope["method"], path.decode("latin-1"), scope["query_string"].decode("latin-1"), headers)


class AccessControl:
    """Decides which requests reach the emulator.

    Args:
        credentials: the only accepted credentials.
        port: port of the server.
        names: host names under which clients reach the server, besides those of the loopback interface.
    """

    def __init__(
        self, credentials: AwsCredentials, port: int, clock: Clock = SYSTEM_CLOCK, *, names: Iterable[str] = ()
    ) -> None:
        self._key_id = str(credentials.access_key_id)
        self._secret = str(credentials.secret_access_key)
        self._hosts = tuple(f"{name}:{port}" for name in ("127.0.0.1", "localhost", *names))
        self._clock = clock
        self._signing_key = lru_cache(maxsize=16)(self._derive_key)

    def check_sender(self, request: Request) -> None:
        """Check everything that needs no secret.

        Raises:
            RefusedError: if a browser sent the request, or the request is meant for another host.
        """
        if request.headers.get("host") not in self._hosts:
            raise RefusedError("AccessDenied", f"expected the Host {self._hosts[0]}, got another one")
        if any(name in request.headers for name in _BROWSER_HEADERS):
            raise RefusedError("AccessDenied", "expected no request of a web page, got one")

    def check_head(self, request: Request) -> "Signed":
        """Check all that does not need the body, and return the signature.

        Raises:
            RefusedError: if the request is not signed with the credentials of the home, or is too old.
        """
        self.check_sender(request)
        if (path := _plain_path(request.path)).startswith(_ADMINISTRATION):
            raise RefusedError("AccessDenied", "expected a request to SQS or S3, got one to an administration endpoint")
        if any(part in (".", "..") for part in path.split("/")) or "\0" in path:
            raise RefusedError("InvalidURI", "expected a path without the parts '.' and '..', got one")
        signed = Signed.read(request)
        if not hmac.compare_digest(signed.key_id, self._key_id):
            raise RefusedError("InvalidClientTokenId", "expected the access key of this home, got another one")
        age = self._clock.now_us() / MICROSECONDS - signed.time.timestamp()
        if abs(age) > MAX_AGE_SECONDS:
            raise RefusedError(
                "RequestExpired", f"expected a signature at most {MAX_AGE_SECONDS} s old, got one of {signed.time}"
            )
        if signed.body_hash is not None:
            self.check_signature(request, signed, signed.body_hash)
        return signed

    def check_body(self, request: Request, signed: "Signed", body: bytes) -> None:
        """Check the body, after ``check_head``.

        Raises:
            RefusedError: if the signature does not cover this body.
        """
        if signed.body_hash == _UNSIGNED and not body:
            return
        found = hashlib.sha256(body).hexdigest()
        if signed.body_hash is None:
            self.check_signature(request, signed, found)
        elif found != signed.body_hash:
            raise RefusedError("XAmzContentSHA256Mismatch", "expected the body of the signature, got another one")

    def check_signature(self, request: Request, signed: "Signed", body_hash: str) -> None:
        canonical = _canonical_request(request, signed, body_hash)
        text = "\n".join(
            (
                "AWS4-HMAC-SHA256",
                request.headers["x-amz-date"],
                f"{signed.date}/{signed.region}/{signed.service}/aws4_request",
                hashlib.sha256(canonical.encode("latin-1")).hexdigest(),
            )
        )
        key = self._signing_key(signed.date, signed.region, signed.service)
        if not hmac.compare_digest(hmac.digest(key, text.encode("latin-1"), "sha256").hex(), signed.signature):
            raise RefusedError(
                "SignatureDoesNotMatch", "expected a signature with the secret of this home, got another one"
            )

    def _derive_key(self, *parts: str) -> bytes:
        key = f"AWS4{self._secret}".encode()
        for part in (*parts, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


@dataclass(frozen=True, slots=True)
class Signed:
    """The signature of a request and its scope. ``body_hash`` is None if the header with the body's hash is absent."""

    key_id: str
    date: str
    region: str
    service: str
    headers: tuple[str, ...]
    signature: str
    time: datetime
    body_hash: str | None

    @classmethod
    def read(cls, request: Request) -> "Signed":
        """Read the signature from the headers.

        Raises:
            RefusedError: if there is none, or it does not cover all that it must cover.
        """
        found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        if found is None:
            raise RefusedError("MissingAuthenticationToken", "expected a signature in Authorization, got none")
        key_id, date, region, service, names, signature = found.groups()
        covered = names.split(";")
        required = {"host", "x-amz-date", *(name for name in request.headers if name.startswith("x-amz-"))}
        if missing := sorted(required.difference(covered)):
            raise RefusedError("SignatureDoesNotMatch", f"expected a signature over {', '.join(missing)}")
        body_hash = request.headers.get("x-amz-content-sha256")
        if body_hash not in (None, _UNSIGNED) and _SHA256.fullmatch(body_hash) is None:
            raise RefusedError("AccessDenied", "expected a body with a signature of its own, got one in signed chunks")
        return cls(key_id, date, region, service, tuple(covered), signature, _time(request, date), body_hash)


def with_access_control(app: App, control: AccessControl) -> App:
    """Return an ASGI application that passes on the requests that ``control`` allows, and answers the others."""

    async def call(scope: MutableMapping[str, Any], events: Events, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, events, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            request = Request.of(scope)
            if request.path == HEALTH_PATH and request.method in ("GET", "HEAD"):
                control.check_sender(request)
                await _answer(send, 200, b"")
                return
            signed = control.check_head(request)
            body = await _read(events)
            control.check_body(request, signed, body)
        except RefusedError as error:
            await _answer(send, 403, _error(scope, error), json_body=_is_json(scope))
            return
        await app(scope, _replay(body, events), send)

    return call


async def _read(events: Events) -> bytes:
    chunks: list[bytes] = []
    more = True
    while more:
        event = await events()
        if event["type"] != "http.request":
            raise RefusedError("IncompleteBody", "expected the whole body, got a disconnect")
        chunks.append(event.get("body", b""))
        more = event.get("more_body", False)
    return b"".join(chunks)


def _replay(body: bytes, events: Events) -> Events:
    """Return ``events`` with the body, which has been read, in front."""
    left = [body]

    async def call() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await events()

    return call


async def _answer(send: Any, status: int, body: bytes, *, json_body: bool = False) -> None:
    kind = b"application/x-amz-json-1.0" if json_body else b"application/xml"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_json(scope: Mapping[str, Any]) -> bool:
    return any(name.lower() == b"x-amz-target" for name, _ in scope["headers"])


def _error(scope: Mapping[str, Any], error: RefusedError) -> bytes:
    if _is_json(scope):
        return json.dumps({"__type": error.aws_code, "message": str(error)}).encode()
    return f"<Error><Code>{error.aws_code}</Code><Message>{error}</Message></Error>".encode()


def _time(request: Request, date: str) -> datetime:
    text = request.headers.get("x-amz-date", "")
    try:
        found = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise RefusedError("AccessDenied", "expected X-Amz-Date as YYYYMMDDTHHMMSSZ, got another text") from error
    if not text.startswith(date):
        raise RefusedError("SignatureDoesNotMatch", "expected the date of X-Amz-Date in the credential")
    return found


def _canonical_request(request: Request, signed: Signed, body_hash: str) -> str:
    # S3 signs the path as it is sent; every other service signs it escaped once more.
    path = quote(unquote_to_bytes(request.path), safe="/" + _UNESCAPED)
    if signed.service != "s3":
        path = quote(path, safe="/" + _UNESCAPED)
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signed.headers)
    return "\n".join(
        (request.method, path, _canonical_query(request.query), headers, ";".join(signed.headers), body_hash)
    )


def _canonical_query(query: str) -> str:
    parts = [part.partition("=") for part in query.split("&") if part]
    pairs = sorted((_escaped(name), _escaped(value)) for name, _, value in parts)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _escaped(text: str) -> str:
    return quote(unquote_to_bytes(text), safe=_UNESCAPED)


def _plain_path(path: str) -> str:
    return unquote_to_bytes(path).decode("latin-1")
