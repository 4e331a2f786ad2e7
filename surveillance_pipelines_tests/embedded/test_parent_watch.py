"""Processes below a command: they hold the services and end with their parent or the command."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from surveillance_pipelines.embedded.parent_watch import COMMAND, HOLDS
from surveillance_pipelines.embedded.service_home import ServiceHome
from surveillance_pipelines_tests.commands.waiting import wait_for

_WORKER = """
import time
from surveillance_pipelines.embedded.parent_watch import tie_to_command
tie_to_command()
print("ready", flush=True)
time.sleep(120)
"""
_SERVER = f"""
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", {_WORKER!r}], stdout=subprocess.PIPE, text=True)
print(worker.pid, worker.stdout.readline(), flush=True)
worker.wait()
"""


@pytest.fixture
def command() -> Iterator[subprocess.Popen[bytes]]:
    """The process that stands for the command."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    yield process
    process.kill()
    process.wait()


def start_server(home: Path, command: int) -> tuple[subprocess.Popen[str], int]:
    """Return a process and its worker, which is tied to it and to the command."""
    environment = {**os.environ, COMMAND: str(command), HOLDS: str(home)}
    server = subprocess.Popen([sys.executable, "-c", _SERVER], env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, int(server.stdout.readline().split()[0])


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("killed", ["parent", "command"])
def test_worker_holds_the_services_until_its_parent_or_command_is_killed(tmp_path, command, killed):
    home = ServiceHome(tmp_path)
    home.prepare()
    server, worker = start_server(tmp_path, command.pid)
    try:
        assert home.live_holders() == [worker]
        if killed == "parent":
            server.kill()
        else:
            command.send_signal(signal.SIGKILL)
            command.wait()
        wait_for(lambda: has_ended(worker), 30)
    finally:
        server.kill()
        server.communicate()


def test_process_that_starts_after_the_command_has_died_ends(tmp_path, command):
    command.kill()
    command.wait()
    ServiceHome(tmp_path).prepare()
    server, worker = start_server(tmp_path, command.pid)
    wait_for(lambda: has_ended(worker), 30)
    server.communicate()
