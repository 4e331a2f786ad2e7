import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from surveillance_pipelines.commands.children import Child
from surveillance_pipelines.contracts.errors import OperationFailedError
from surveillance_pipelines_tests.commands.waiting import wait_for

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT = f"import subprocess, time; subprocess.Popen({SLEEP!r}); time.sleep(60)"


def test_stop_ends_the_process_and_what_it_started(tmp_path: Path) -> None:
    child = Child("parent", [sys.executable, "-c", PARENT], os.environ, tmp_path / "log")
    wait_for(lambda: len(psutil.Process(child.pid).children(recursive=True)) == 1)
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    child.stop()
    wait_for(lambda: not any(process.is_running() and process.status() != "zombie" for process in family))


def test_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from surveillance_pipelines.commands.children import Child; "
        f"child = Child('x', {SLEEP!r}, os.environ, Path({str(tmp_path / 'log')!r})); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    wait_for(lambda: "time.sleep(60)" in " ".join(psutil.Process(pid).cmdline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_check_alive_of_a_dead_process_says_how_it_ended(tmp_path: Path) -> None:
    child = Child(
        "the daemon", [sys.executable, "-c", "import sys; print('no port'); sys.exit(3)"], os.environ, tmp_path / "log"
    )
    child.wait(10)
    with pytest.raises(OperationFailedError, match=r"the daemon ended with exit code 3:\nno port"):
        child.check_alive()
