"""``surveillance up`` waits for a slow start as long as there is work, and gives up on a start that stalls."""

import os
import socket
import sys
from pathlib import Path

import pytest

from surveillance_pipelines.commands import up
from surveillance_pipelines.commands.children import Child
from surveillance_pipelines.contracts.errors import InvalidInputError, OperationFailedError

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


def test_wait_for_port_does_not_take_the_answer_of_another_process(port: int, tmp_path: Path) -> None:
    child = Child("ui", [sys.executable, "-c", "import time; time.sleep(60)"], os.environ, tmp_path / "log")
    try:
        with socket.create_server(("127.0.0.1", port)), pytest.raises(OperationFailedError, match="neither answered"):
            up._wait_for_port("127.0.0.1", port, [child])
    finally:
        child.stop()


def test_port_in_use_is_refused_and_the_default_skips_it(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "_DEFAULT_PORT", port)
    assert up._free_port("127.0.0.1", None) == port
    with socket.socket() as bound:  # bound without listening: nothing answers, and nobody else can listen
        bound.bind(("127.0.0.1", port))
        assert up._free_port("127.0.0.1", None) > port
        with pytest.raises(InvalidInputError, match=f"{port} is in use; what to do: set another port"):
            up._free_port("127.0.0.1", port)


def test_up_warns_of_a_name_that_is_no_setting(bare, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQS_QUEUE_URLS", "https://example.com/q.fifo")
    with socket.create_server(("127.0.0.1", port)):  # in use, so that the command ends
        ended = bare("up", "--port", port)
    assert "warning: SQS_QUEUE_URLS in the environment is no setting: did you mean SQS_QUEUE_URL?" in ended.output
    assert ended.exit_code == 2


def test_address_of_another_machine_is_refused(port: int) -> None:
    with pytest.raises(InvalidInputError, match=r"expected an address of this machine, got 192\.0\.2\.1"):
        up._free_port("192.0.2.1", port)
