"""The embedded queue server: ministack, an emulator of SQS and S3 in a wheel, on 127.0.0.1 only.

It accepts only requests that are signed with the credentials of its home (``queue_access.py``).

The server saves its queues and buckets when it stops and loads them on the next start. Messages of a killed server are
lost, because the emulator keeps them in memory.
"""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from surveillance_pipelines.contracts.errors import NotReadyError, extra_remedy
from surveillance_pipelines.embedded.postgres_server import (
    HOST,
    fatal_line,
    preferred_port,
    tail,
    terminate,
    wait_until,
)
from surveillance_pipelines.embedded.queue_access import HEALTH_PATH
from surveillance_pipelines.embedded.queue_credentials import credentials_file, queue_credentials, write_client_config
from surveillance_pipelines.embedded.queue_process import CREDENTIALS_VARIABLE
from surveillance_pipelines.embedded.service_home import ProcessId, ServiceHome, read_json, write_json

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 15.0
_PORT_ATTEMPTS: Final = 5
_ENVIRONMENT: Final = {
    "SERVICES": "sqs,s3",
    "BIND_HOST": HOST,  # default: all interfaces
    "MINISTACK_HOST": HOST,
    "IOT_MTLS_ENABLED": "0",  # default: a listener on all interfaces
    "SFTP_ENABLED": "0",
    "LOG_LEVEL": "WARNING",
    "PERSIST_STATE": "1",
    "S3_PERSIST": "1",
}


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """A running queue server."""

    process: ProcessId
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


class QueueServer:
    """The queue server of one home. The caller must ensure that only one process manages it."""

    def __init__(self, home: ServiceHome) -> None:
        self._home = home
        self._record = home.queue_record
        self._child: subprocess.Popen[bytes] | None = None

    def running(self) -> QueueAddress | None:
        """Return the server of this home if it runs, whichever supervisor started it."""
        if self._child is not None:
            self._child.poll()
        recorded = read_json(self._record)
        if recorded is None:
            return None
        process = ProcessId(recorded["pid"], recorded["started"])
        return QueueAddress(process, recorded["port"]) if self._is_ours(process) else None

    def _is_ours(self, process: ProcessId) -> bool:
        """Return whether a process runs and serves this home; the record of a copied home names the original's."""
        with contextlib.suppress(psutil.Error):
            running = process.process()
            return running is not None and running.environ().get("STATE_DIR") == str(self._home.queue)
        return False

    def start(self) -> QueueAddress:
        """Start the server; adopt a server that already runs and responds.

        A server that an older version started, which accepts every request, is replaced. It saves its queues first.

        Raises:
            RuntimeError: if the server is not installed or does not respond; the message contains the error from its
                log.
        """
        if found := self.running():
            if self._is_current() and answers(found.url):
                return found
            terminate(found.process, (signal.SIGTERM, signal.SIGKILL), _STOP_SECONDS)
        if importlib.util.find_spec("ministack") is None:
            raise NotReadyError(
                "SQS_QUEUE_URL is not set and the embedded queue server is not installed",
                remedy=f"set SQS_QUEUE_URL, or {extra_remedy('embedded')}",
            )
        wanted = (read_json(self._record) or {}).get("port")
        for attempt in range(_PORT_ATTEMPTS):
            if found := self._launch(preferred_port(wanted if attempt == 0 else None)):
                return found
        raise RuntimeError(f"expected the queue server to start, got: {fatal_line(tail(self._log))}")

    def stop(self) -> None:
        """Stop the server, even if no record of it was written. The server saves its queues first."""
        found = self.running()
        processes = [found.process] if found else []
        if self._child is not None and self._child.poll() is None:
            processes.append(ProcessId.of(self._child.pid))
        for process in processes:
            terminate(process, (signal.SIGTERM, signal.SIGKILL), _STOP_SECONDS)

    @property
    def _log(self) -> Path:
        return self._home.logs / "queue.log"

    def _is_current(self) -> bool:
        """Return whether the running server checks the credentials of this home."""
        recorded = read_json(self._record) or {}
        return recorded.get("access_key_id") == queue_credentials(self._home).access_key_id

    def _launch(self, port: int) -> QueueAddress | None:
        state, credentials = self._home.queue, queue_credentials(self._home)
        folders = {"STATE_DIR": str(state), "S3_DATA_DIR": str(state / "s3"), "TMPDIR": str(state)}
        with self._log.open("ab") as log:
            self._child = child = subprocess.Popen(
                [sys.executable, "-m", "surveillance_pipelines.embedded.queue_process"],
                env={
                    **os.environ, **_ENVIRONMENT, **folders, "GATEWAY_PORT": str(port),
                    CREDENTIALS_VARIABLE: str(credentials_file(self._home)),
                },
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        address = QueueAddress(ProcessId.of(child.pid), port)
        write_json(self._record, {**asdict(address.process), "port": port, "access_key_id": credentials.access_key_id})
        write_client_config(self._home, credentials, address.url)
        wait_until(lambda: child.poll() is not None or answers(address.url), _START_SECONDS)
        if child.poll() is None and answers(address.url):
            return address
        terminate(address.process, (signal.SIGKILL,), _STOP_SECONDS)
        return None


def answers(url: str) -> bool:
    """Return whether a queue server responds at a URL."""
    try:
        with urllib.request.urlopen(url + HEALTH_PATH, timeout=5) as response:  # noqa: S310 (http, loopback)
            return response.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
