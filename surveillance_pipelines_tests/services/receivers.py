"""A receiver of notifications: a web server of the test's own, on a free port."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "hunter2"


@dataclass
class HttpReceiver:
    """Messages that arrived; ``status`` is the answer to the next ones."""

    port: int = 0
    status: int = 200
    attempts: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """URL of Apprise with secrets in user, path and query."""
        return f"json://user:{SECRET}@127.0.0.1:{self.port}/{SECRET}?+X-Token={SECRET}"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    """Run a receiver for the duration of the block."""
    found = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.attempts += 1
            if found.status == 200:
                found.messages.append(json.loads(body))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (name of http.server)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
