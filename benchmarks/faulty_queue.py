"""A proxy in front of the queue server that refuses, throttles or delays calls, as SQS and its network do."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Literal, NamedTuple

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.contracts.queue import AwsCredentials

Fault = Literal["errors", "throttled", "slow", "refused"]

SLOW_SECONDS: Final = (0.5, 3.0)
THROTTLED_SHARE: Final = 0.9
_FORWARDED: Final = ("Content-Type", "X-Amz-Target")


class _Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


class FaultyQueue:
    """Forwards calls of SQS to a server; while a fault is active, with that fault.

    Args:
        endpoint: URL of the server.
        region, credentials: to sign the forwarded calls with, because the signature covers the host.
        rng: draws the calls that fail, and their delays.

    Attributes:
        url: the endpoint for clients.
    """

    def __init__(self, endpoint: str, region: str, credentials: AwsCredentials, rng: random.Random) -> None:
        self._endpoint: Final = endpoint
        self._sign: Final = SigV4Auth(
            Credentials(str(credentials.access_key_id), str(credentials.secret_access_key)), "sqs", region
        )
        self._rng: Final = rng
        self._lock: Final = threading.Lock()
        self._connections: Final = urllib3.PoolManager(maxsize=16, retries=False)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._fault: Fault | None = None
        self._fault_ended: Final = threading.Event()
        self.url: Final = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve in a thread for a ``with`` block."""
        self._start()
        try:
            yield
        finally:
            self._stop()

    def strike(self, fault: Fault, seconds: float) -> None:
        """Let the calls of the next ``seconds`` fail."""
        self._fault_ended.clear()
        self._fault = fault
        if fault == "refused":
            self._stop()
        SYSTEM_CLOCK.sleep(seconds)
        self._fault = None
        self._fault_ended.set()
        if fault == "refused":
            self._server = ThreadingHTTPServer(("127.0.0.1", self._server.server_port), _handler(self))
            self._start()

    def _start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, headers: dict[str, str], body: bytes) -> _Answer | None:
        """Return the answer of the server, or of the active fault; None if the connection breaks."""
        if (fault := self._fault) is None:
            return self._forward(headers, body)
        with self._lock:
            chance, delay = self._rng.random(), self._rng.uniform(*SLOW_SECONDS)
        if fault == "throttled" and chance >= THROTTLED_SHARE:
            return self._forward(headers, body)
        if fault == "refused":
            return None
        if fault == "throttled":
            return _error(400, "RequestThrottled", "too many requests")
        if fault == "slow":
            answer = self._forward(headers, body)
            self._fault_ended.wait(delay)
            return answer
        if chance < 0.5:  # the call takes effect, but its answer is lost
            self._forward(headers, body)
        return _error(500, "InternalFailure", "the service failed")

    def _forward(self, headers: dict[str, str], body: bytes) -> _Answer:
        request = AWSRequest("POST", f"{self._endpoint}/", headers=headers, data=body)
        self._sign.add_auth(request)
        found = self._connections.request("POST", f"{self._endpoint}/", headers=dict(request.headers), body=body)
        kept = {name: value for name, value in found.headers.items() if name.lower() in ("content-type", "date")}
        return _Answer(found.status, found.data, kept)


def _error(status: int, code: str, message: str) -> _Answer:
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": message}).encode()
    return _Answer(status, body, {"Content-Type": "application/x-amz-json-1.0"})


def _handler(queue: FaultyQueue) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = queue.answer({name: self.headers[name] for name in _FORWARDED}, body)
            if found is None:
                self.close_connection = True
                return
            self.send_response_only(found.status)
            for name, value in (*found.headers.items(), ("Content-Length", str(len(found.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.body)

    return Handler
