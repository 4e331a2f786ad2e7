"""Everything that the upgrade proof knows about a release beyond its command line and its tables.

The proof imports no release, because one process can import only one. When a module, table or setting moves, change
this file.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, LiteralString

import psutil

from benchmarks.upgrade_feed import SYMBOLS

PACKAGE: Final = "surveillance_pipelines"

# The first entry that a release has is used; put a new place before the old one.
DRAIN_MODULES: Final = (f"{PACKAGE}.services.drain", f"{PACKAGE}.serving.drain")
"""Run as ``python -m MODULE --run-id ID``; after SIGTERM it finishes what it received and exits with 0."""
ADDRESSES: Final = {
    f"{PACKAGE}.services.provisioning": f"""
from {PACKAGE}.services.endpoints import child_environment
from {PACKAGE}.services.provisioning import provision
addresses = child_environment(provision(Settings()))
""",
    f"{PACKAGE}.storage.endpoints": f"""
from {PACKAGE}.storage.endpoints import resolve_endpoints
addresses = resolve_endpoints(Settings()).environment()
""",
}
"""Module → code for a release that has it, which starts the embedded services, migrates the tables and sets
``addresses``: environment variable → value."""
CHAMPION_QUERIES: Final[tuple[tuple[str, str, LiteralString], ...]] = (
    (
        "surveillance.deployments",
        "model_id",
        """SELECT model_id AS bundle_hash FROM surveillance.deployments
           WHERE (tenant, strategy, kind) = ('default', 'surveillance', 'bundle') AND role = 'champion'
             AND until IS NULL""",
    ),
    (
        "surveillance.model_versions",
        "is_active",
        "SELECT bundle_hash FROM surveillance.model_versions WHERE is_active AND strategy_id = 'surveillance'",
    ),
)
"""Table, a column that it must have, and the query for the champion's hash."""

REPLACED_TABLES: Final = frozenset({"ops.bundle_timeline"})
"""Tables of the old release that a newer one may drop because other tables replace them."""
SERVICES_FILE: Final = "services.json"
"""File of a home with the process ids of ``supervisor``, ``postgres`` and ``queue`` while they run."""
QUEUE_STATE_FILE: Final = "embedded/queue/sqs.json"
"""File of a home in which the embedded queue server saves its queues when it stops."""
BARS_TABLE: Final = "lake/bars_1m"
"""Folder of a home with the 1-minute bars of the old release, a Delta table."""

SETTINGS: Final = {
    "SYMBOLS": ",".join(SYMBOLS),
    "PUBLISH_SCORES": "all",
    "MODEL_QUALITY_THRESHOLD_ACCURACY": "0",  # models trained on a few days are weak, and any will do
    "FALLBACK_TO_YFINANCE": "false",
    "DRAIN_WINDOW_SECONDS": "100000",
    "DRAIN_IDLE_SECONDS": "100000",
    "DAGSTER_DISABLE_TELEMETRY": "1",
}
"""Settings of both releases: the upgrade changes none."""

CRASH_FILE: Final = "crash"
CRASHING_DRAIN: Final = f"""
import os, signal, sys
from pathlib import Path
from {PACKAGE}.serving.drain import drain
from {PACKAGE}.settings import Settings
from {PACKAGE}.storage.endpoints import resolve_endpoints

def after_step(step):
    if step == "commit" and Path("{CRASH_FILE}").exists():
        os.kill(os.getpid(), signal.SIGKILL)

settings = Settings()
endpoints = resolve_endpoints(settings)
drain(endpoints, settings, endpoints.queue_urls[0], run_id=sys.argv[-1], after_step=after_step)
"""
"""A drain run of the old release that is killed between commit and publication of a micro-batch once its working folder
holds ``CRASH_FILE``: the rows of that micro-batch stay unpublished."""

SIMULATION: Final = f"""
import json, sys
from datetime import date
from {PACKAGE}.commands.simulation import last_sessions, simulated_bars
asked = json.loads(sys.argv[1])
sessions = last_sessions(1, date.fromisoformat(asked["day"]))
bars = simulated_bars(sorted(asked["prices"]), sessions, asked["seed"], asked["prices"])
columns = ("symbol", "open", "high", "low", "close", "volume")
print(json.dumps(bars.sort("bar_start", "symbol").select(columns).to_dicts()))
"""
"""Prints one session of bars from the simulated market of the old release; prices continue from those asked for."""

_COMMAND: Final = f"import sys; from {PACKAGE}.cli import main; sys.argv[0] = 'surveillance'; main()"
_HOLD: Final = f"""
import json, sys
from {PACKAGE}.settings import Settings
{{}}
print(json.dumps(addresses), flush=True)
sys.stdin.read()
"""
_WHERE: Final = f"import {PACKAGE}; print(*{PACKAGE}.__path__)"
_KILL_SECONDS: Final = 10.0
_INHERITED: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "USER")


class UpgradeError(RuntimeError):
    """The proof could not be carried out, so it says nothing about the upgrade."""


@dataclass(frozen=True)
class Release:
    """The source tree of one release.

    Attributes:
        name: name in messages.
        root: folder that contains the package.
    """

    name: str
    root: Path

    @property
    def command(self) -> list[str]:
        """The ``surveillance`` command."""
        return [sys.executable, "-c", _COMMAND]

    @property
    def holder(self) -> list[str]:
        """A process that keeps the services running until its standard input closes; it prints their addresses."""
        return [sys.executable, "-c", _HOLD.format(ADDRESSES[self._module(tuple(ADDRESSES))])]

    @property
    def drain(self) -> list[str]:
        """A drain run; append its id."""
        return [sys.executable, "-m", self._module(DRAIN_MODULES), "--run-id"]

    @property
    def crashing_drain(self) -> list[str]:
        """A drain run of the old release that can be made to crash; append its id."""
        return [sys.executable, "-c", CRASHING_DRAIN]

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment of a process that imports this release and uses the home's embedded services."""
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        places = {"PYTHONPATH": str(self.root), "SURVEILLANCE_HOME": str(home)}
        return {**kept, **SETTINGS, **places, "COLUMNS": "200", "TERM": "dumb"}

    def run(self, command: Sequence[str], home: Path) -> subprocess.CompletedProcess[str]:
        """Run a process of this release to its end in the parent folder of the home."""
        process = subprocess.Popen(
            command,
            env=self.environment(home),
            cwd=home.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            output, errors = process.communicate()
        except BaseException:  # an interrupt: the Dagster runs of a command would go on without it
            _kill_family(process.pid)
            raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def check_import(self, home: Path) -> None:
        """Check that processes of this release import its own package.

        Raises:
            UpgradeError: if they import another one.
        """
        expected = str(self.root / PACKAGE)
        done = self.run([sys.executable, "-c", _WHERE], home)
        if done.stdout.strip() != expected:
            raise UpgradeError(f"expected the {self.name} release in {expected}, got {done.stdout}{done.stderr}")

    def _module(self, candidates: Sequence[str]) -> str:
        for module in candidates:
            if (self.root / module.replace(".", "/")).with_suffix(".py").is_file():
                return module
        raise UpgradeError(
            f"expected one of {', '.join(candidates)} in the {self.name} release, found none: add the module's new "
            f"place to {Path(__file__).name}"
        )


def _kill_family(pid: int) -> None:
    """Kill a process and its descendants, and wait until they have ended."""
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(pid)
        family = [*head.children(recursive=True), head]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=_KILL_SECONDS)
