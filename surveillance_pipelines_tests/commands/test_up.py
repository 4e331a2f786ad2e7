"""``surveillance up`` waits for a slow start as long as there is work, and gives up on a start that stalls."""

import os
import socket
import sys
from pathlib import Path

import pytest

from surveillance_pipelines.commands import up
from surveillance_pipelines.commands.children import Child
from surveillance_pipelines.contracts.errors import OperationFailedError

_SLOW = """
import socket, sys, time
for _ in range(20):
    print("loading", flush=True)
    time.sleep(0.1)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "_STALLED_SECONDS", 0.9)
    monkeypatch.setattr(up, "_REPORT_SECONDS", 0.5)


def test_wait_for_port_of_a_slow_start_that_works_goes_on(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = Child("ui", [sys.executable, "-c", _SLOW, str(port)], os.environ, tmp_path / "log")
    try:
        up._wait_for_port("127.0.0.1", port, [child])
    finally:
        child.stop()
    assert "waiting for the UI" in capsys.readouterr().out


def test_wait_for_port_of_a_stalled_start_gives_up(port: int, tmp_path: Path) -> None:
    child = Child("ui", [sys.executable, "-c", "import time; time.sleep(60)"], os.environ, tmp_path / "log")
    try:
        with pytest.raises(OperationFailedError, match="neither answered nor worked"):
            up._wait_for_port("127.0.0.1", port, [child])
    finally:
        child.stop()
