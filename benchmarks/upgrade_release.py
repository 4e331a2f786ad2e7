"""What the upgrade proof knows of a release of the platform beyond its command line and its tables.

Nothing of a release is imported here: one process cannot hold two. When a module, a table or a setting moves, this is
the file to change.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, LiteralString

from benchmarks.upgrade_feed import SYMBOLS

PACKAGE: Final = "surveillance_pipelines"

# Of these three, the first entry that a release has is used: put a new place before the old one.
DRAIN_MODULES: Final = (f"{PACKAGE}.services.drain", f"{PACKAGE}.serving.drain")
"""Run as ``python -m MODULE --run-id ID``; SIGTERM ends it with 0 after it has finished what it received."""
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
"""A module, and code for a release that has it: starts the embedded services, migrates the tables, and says where they
are by the names of the settings."""
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
"""A table, a column that it must have, and the query for the hash of the bundle that serves."""

REPLACED_TABLES: Final = frozenset({"ops.bundle_timeline"})
"""Tables of the old release that a newer one may drop, because others hold what they held."""
SERVICES_FILE: Final = "services.json"
"""In a home: the process ids of ``supervisor``, ``postgres`` and ``queue`` while they run."""
QUEUE_STATE_FILE: Final = "embedded/queue/sqs.json"
"""In a home: the queues as the embedded queue server saves them when it stops."""
BARS_TABLE: Final = "lake/bars_1m"
"""In a home: the 1-minute bars of the old release, a Delta table."""

SETTINGS: Final = {
    "SYMBOLS": ",".join(SYMBOLS),
    "PUBLISH_SCORES": "all",
    "MODEL_QUALITY_THRESHOLD_ACCURACY": "0",  # a few days train no good models, and any will do
    "FALLBACK_TO_YFINANCE": "false",
    "DRAIN_WINDOW_SECONDS": "100000",
    "DRAIN_IDLE_SECONDS": "100000",
    "DAGSTER_DISABLE_TELEMETRY": "1",
}
"""Of both releases: an upgrade changes no setting."""

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
"""A drain run of the old release that is killed between the commit and the publication of a micro-batch, once there is
a file ``CRASH_FILE`` in its working folder: the rows of that micro-batch stay in the outbox."""

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
"""Prints the bars of one session of the old release's simulated market, which goes on from the prices asked for."""

_COMMAND: Final = f"import sys; from {PACKAGE}.cli import main; sys.argv[0] = 'surveillance'; main()"
_HOLD: Final = f"""
import json, sys
from {PACKAGE}.settings import Settings
{{}}
print(json.dumps(addresses), flush=True)
sys.stdin.read()
"""
_WHERE: Final = f"import {PACKAGE}; print(*{PACKAGE}.__path__)"
_INHERITED: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "USER")


class UpgradeError(RuntimeError):
    """The proof could not be carried out; whether the upgrade keeps its promise is still open."""


@dataclass(frozen=True)
class Release:
    """The sources of one release.

    Attributes:
        name: for people.
        root: folder that holds the package.
    """

    name: str
    root: Path

    @property
    def command(self) -> list[str]:
        """The ``surveillance`` command."""
        return [sys.executable, "-c", _COMMAND]

    @property
    def holder(self) -> list[str]:
        """A process that keeps the services up until its standard input closes; it prints where they are, as JSON."""
        return [sys.executable, "-c", _HOLD.format(ADDRESSES[self._module(tuple(ADDRESSES))])]

    @property
    def drain(self) -> list[str]:
        """A drain run; its id follows."""
        return [sys.executable, "-m", self._module(DRAIN_MODULES), "--run-id"]

    @property
    def crashing_drain(self) -> list[str]:
        """A drain run of the old release that can be made to crash; its id follows."""
        return [sys.executable, "-c", CRASHING_DRAIN]

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables of a process that imports this release; every service of its home is embedded."""
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        places = {"PYTHONPATH": str(self.root), "SURVEILLANCE_HOME": str(home)}
        return {**kept, **SETTINGS, **places, "COLUMNS": "200", "TERM": "dumb"}

    def run(self, command: Sequence[str], home: Path) -> subprocess.CompletedProcess[str]:
        """Run a process of this release to its end, beside the home."""
        return subprocess.run(
            command, env=self.environment(home), cwd=home.parent, capture_output=True, text=True, check=False
        )

    def check_import(self, home: Path) -> None:
        """Refuse a release that its own processes do not import.

        Raises:
            UpgradeError: naming where they import the package from.
        """
        expected = str(self.root / PACKAGE)
        done = self.run([sys.executable, "-c", _WHERE], home)
        if done.stdout.split() != [expected]:
            raise UpgradeError(f"expected the {self.name} release in {expected}, got {done.stdout}{done.stderr}")

    def _module(self, candidates: Sequence[str]) -> str:
        for module in candidates:
            if (self.root / module.replace(".", "/")).with_suffix(".py").is_file():
                return module
        raise UpgradeError(
            f"expected one of {', '.join(candidates)} in the {self.name} release, found none: add the module's new "
            f"place to {Path(__file__).name}"
        )
