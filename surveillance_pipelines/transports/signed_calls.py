"""Calls of SQS without the cost of boto3, for the four actions of every micro-batch.

Boto3 resolves the endpoint, serializes by a service model and runs hooks for every call. Here, one JSON document is
signed and sent. Botocore provides the credentials, and repeats every call that fails here, with its retries and errors.
"""

import hashlib
import hmac
import json
import ssl
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from botocore import xform_name
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from urllib3.util import wait_for_read

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, to_datetime

Action = Literal["ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"]


class Endpoint(NamedTuple):
    host: str
    path: str
    region: str


class SignedCalls:
    """Sends signed JSON calls over connections that are kept open. Thread-safe.

    Args:
        client: client of boto3 for SQS, which gets the calls that fail here, and all calls if there is a proxy.
        credentials: botocore's credentials, which it renews if they are temporary; None if it found none.
        connect_timeout, read_timeout: seconds.
        ca_bundle: file of trusted certificates; None for botocore's.
        clock: dates the signatures.
    """

    def __init__(
        self,
        client: Any,
        credentials: Any,
        *,
        connect_timeout: float,
        read_timeout: float,
        ca_bundle: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client: Final = client
        self._credentials: Final = credentials
        self._read_timeout: Final = read_timeout
        self._clock: Final = clock
        url = urlsplit(client.meta.endpoint_url)
        self._endpoint: Final = Endpoint(url.netloc, url.path or "/", client.meta.region_name)
        self._new_connection: Final = _new_connection(url.scheme, url.netloc, connect_timeout, ca_bundle)
        self._direct: Final = credentials is not None and not get_environ_proxies(client.meta.endpoint_url)
        self._idle: Final[list[HTTPConnection]] = []
        self.close: Final = weakref.finalize(self, lambda idle: [each.close() for each in idle], self._idle)

    def call(self, action: Action, **request: Any) -> dict[str, Any]:
        """Return the response like boto3, with ``HTTPHeaders`` (lower case) and ``RetryAttempts`` in its metadata.

        Raises:
            ClientError, BotoCoreError: as boto3.
        """
        if not self._direct:
            return getattr(self._client, xform_name(action))(**request)
        with suppress(OSError, HTTPException, ValueError):
            return self._call(action, json.dumps(request).encode())
        response = getattr(self._client, xform_name(action))(**request)
        response["ResponseMetadata"]["RetryAttempts"] += 1
        return response

    def _call(self, action: Action, body: bytes) -> dict[str, Any]:
        amz_date = f"{to_datetime(self._clock.now_us()):%Y%m%dT%H%M%SZ}"
        headers = signed_headers(self._credentials.get_frozen_credentials(), self._endpoint, action, body, amz_date)
        connection = self._idle_connection() or self._open()
        try:
            connection.request("POST", self._endpoint.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None:  # the server keeps it open
            self._idle.append(connection)
        if answer.status != 200:
            raise HTTPException(f"expected status 200 for {action}, received {answer.status}")
        metadata = {"HTTPHeaders": {"date": date} if (date := answer.getheader("Date")) else {}, "RetryAttempts": 0}
        return json.loads(content or b"{}") | {"ResponseMetadata": metadata}

    def _idle_connection(self) -> HTTPConnection | None:
        with suppress(IndexError):  # another thread may take the last one
            while wait_for_read((connection := self._idle.pop()).sock, timeout=0.0):  # the server has closed it
                connection.close()
            return connection
        return None

    def _open(self) -> HTTPConnection:
        connection = self._new_connection()
        connection.connect()
        connection.sock.settimeout(self._read_timeout)
        return connection


def signed_headers(credentials: Any, endpoint: Endpoint, action: str, body: bytes, amz_date: str) -> dict[str, str]:
    """Return the headers of a call with its AWS Signature Version 4; ``amz_date`` is like ``20240305T143000Z``."""
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "host": endpoint.host,
        "x-amz-date": amz_date,
        "x-amz-target": f"AmazonSQS.{action}",
    }
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    signed = ";".join(sorted(headers))
    canonical = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = f"POST\n{endpoint.path}\n\n{canonical}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{amz_date[:8]}/{endpoint.region}/sqs/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_key, amz_date[:8], endpoint.region)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    access = f"Credential={credentials.access_key}/{scope}"
    return headers | {"authorization": f"AWS4-HMAC-SHA256 {access}, SignedHeaders={signed}, Signature={signature}"}


@lru_cache(maxsize=4)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "sqs", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _new_connection(scheme: str, host: str, timeout: float, ca_bundle: str | None) -> Callable[[], HTTPConnection]:
    if scheme != "https":
        return partial(HTTPConnection, host, timeout=timeout)
    context = ssl.create_default_context(cafile=ca_bundle or get_cert_path(verify=True))
    return partial(HTTPSConnection, host, timeout=timeout, context=context)
