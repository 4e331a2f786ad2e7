"""Compiled functions with read-only code: kept in the home, or in no folder if none is writable."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from surveillance_pipelines.compilation import VARIABLE, find_cache

_RETURNS = """
import sys
import numpy as np
before = "numba" in sys.modules
from surveillance_pipelines.features import batch_kernel, kernel, market, peer_minutes, state
assert not before, "numba was imported before its cache was chosen"
step = kernel._volatility
print(step(np.zeros(kernel.STATE_SIZE)), batch_kernel.is_compiled(), step.stats.cache_path)
"""
_NOBODY = pwd.getpwnam("nobody")
AS_ORDINARY_USER = (
    "setpriv", f"--reuid={_NOBODY.pw_uid}", f"--regid={_NOBODY.pw_gid}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--securebits=+no_setuid_fixup", "--",
)  # fmt: skip
"""Root's interpreter may lie in root's own folder, so the account keeps the right to read everywhere, not to write."""


@pytest.fixture
def installed(repository: Path) -> Iterator[Path]:
    """A folder that an ordinary user may read, with a read-only copy of the package in ``code``."""
    with tempfile.TemporaryDirectory(prefix="read-only-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        package = folder / "code" / "surveillance_pipelines"
        shutil.copytree(repository / "surveillance_pipelines", package, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (package.parent, package, *package.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield folder
        for path in (package.parent, package, *package.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def run(installed: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Compile a function of the kernel as a user who can write only to ``home``, and whose HOME is not writable."""
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(installed / "code"), "HOME": "/proc",
        "SURVEILLANCE_HOME": str(home),
    }  # fmt: skip
    prefix = () if os.geteuid() != 0 else AS_ORDINARY_USER
    command = [*prefix, sys.executable, "-c", _RETURNS]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)


def test_read_only_code_keeps_compiled_functions_in_the_home(installed: Path) -> None:
    home = installed / "home"
    home.mkdir()
    home.chmod(0o777)
    done = run(installed, home)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    _, _, folder = done.stdout.split()
    assert Path(folder).parent == home / "cache" / "numba"
    assert list(Path(folder).glob("kernel._volatility-*.nbi"))
    assert (home / "cache").stat().st_mode & 0o077 == 0, "others could add code that the platform executes"


def test_nothing_writable_compiles_without_keeping(installed: Path) -> None:
    done = run(installed, installed / "absent")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: each process compiles the features again") == 1
    assert str(installed / "code") in done.stderr
    value, is_compiled, folder = done.stdout.split()
    assert (value, is_compiled, folder) == ("nan", "False", "None"), "the volatility before any return"


def test_writable_code_is_preferred_to_the_home_and_a_configured_folder_to_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new home then need not compile again."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("SURVEILLANCE_HOME", str(tmp_path / "home"))
    assert find_cache(tmp_path / "code") == tmp_path / "code" / "__pycache__"
    assert find_cache(Path("/proc/code")) == tmp_path / "home" / "cache" / "numba"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "configured"))
    assert find_cache(tmp_path / "code") == tmp_path / "configured"
    assert find_cache(Path("/proc/code")) == tmp_path / "configured"
