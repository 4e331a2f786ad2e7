"""One home as its user sees it: the commands with their output, its queue, its processes and its runs."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl
import psutil

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, now
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.embedded.services import read_services, release, stop_services
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.market.simulator import default_market, simulate
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.sessions import save_sessions

SYMBOL: Final = "BTC-USD"
"""Traded at all hours, so that the cases do not depend on the time of day."""

_CLI: Final = "from surveillance_pipelines.cli import main; main()"
_SECONDS: Final = 240.0
_CONFIGURED: Final = (
    "DATABASE_URL", "DAGSTER_DATABASE_URL", "MLFLOW_TRACKING_URI", "LAKE_URL", "MODEL_STORAGE_PATH", "SQS_QUEUE_URL",
    "SQS_ENDPOINT_URL", "OUTPUT_QUEUE_URL",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code; None if it was killed after ``_SECONDS``."""

    code: int | None
    text: str


class Home:
    """A SURVEILLANCE_HOME that commands of this checkout use, without any configured store."""

    def __init__(self, path: Path, **knobs: str) -> None:
        self.path: Final = path
        self._knobs: Final = knobs

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _CONFIGURED}
        return {
            **kept, "SURVEILLANCE_HOME": str(self.path), "SYMBOLS": SYMBOL, "FALLBACK_TO_YFINANCE": "false",
            "DRAIN_IDLE_SECONDS": "20", "COLUMNS": "400", **self._knobs,
        }  # fmt: skip

    @property
    def settings(self) -> Settings:
        knobs = {name.lower(): value for name, value in self._knobs.items()}
        return Settings(_env_file=None, surveillance_home=self.path, symbols=(SYMBOL,), **knobs)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def command(self, *arguments: str, seconds: float = _SECONDS) -> Answer:
        """Run ``surveillance`` to its end."""
        started = self.start(*arguments)
        try:
            text, _ = started.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            started.kill()
            return Answer(None, started.communicate()[0])
        return Answer(started.returncode, text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``surveillance`` with both outputs in one pipe."""
        return subprocess.Popen(
            self.start_arguments(*arguments), env=self.environment, cwd=self.path.parent,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def start_arguments(self, *arguments: str) -> list[str]:
        """Return the command line of ``surveillance``."""
        return [sys.executable, "-c", _CLI, *arguments]

    def drain(self, seconds: float = 3.0) -> Answer:
        """Serve the queue once, without Dagster."""
        done = subprocess.run(
            [sys.executable, "-m", "surveillance_pipelines.services.drain", "--window-seconds", str(seconds)],
            env=self.environment, cwd=self.path.parent, capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout + done.stderr)

    def send(self, count: int) -> None:
        """Send ticks of the last seconds to the input queue."""
        platform, instant = Platform(self.settings), SYSTEM_CLOCK.now_us()
        bodies = [encode_tick(Tick(SYMBOL, 100.0 + i % 7, 1.0, instant - (count - i) * 1000)) for i in range(count)]
        entries = [SendEntry(body, SYMBOL, f"{instant}-{i}") for i, body in enumerate(bodies)]
        platform.queue(platform.endpoints.queue_urls[0]).send(entries)

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the platform's database."""
        with connect(Platform(self.settings).endpoints.database_url, autocommit=True) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def is_running(self) -> bool:
        return read_services(self.path) is not None

    def stop(self) -> None:
        """Stop the services."""
        stop_services(self.settings)

    def processes(self) -> list[psutil.Process]:
        """Return every process of the home except this one: by its environment or its command line."""
        return [process for process in psutil.process_iter() if process.pid != os.getpid() and self._owns(process)]

    def end_all(self) -> None:
        """Kill what a case left behind."""
        release(self.settings)
        self.stop()
        for process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)

    def copy(self, path: Path) -> "Home":
        """Return a copy, as ``cp -a`` makes it."""
        subprocess.run(["cp", "-a", str(self.path), str(path)], check=True)
        return Home(path, **self._knobs)

    def _owns(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            named = any(str(self.path) in part for part in process.cmdline())
            return named or process.environ().get("SURVEILLANCE_HOME") == str(self.path)
        except psutil.Error:
            return False


def make_home(path: Path, bundles: Sequence[tuple[Path, str]]) -> Home:
    """Create a home with one symbol, its sessions, a lake and champions one after the other, and stop its services.

    Args:
        path: folder of the home.
        bundles: folder and hash of each champion; the last one stays.
    """
    home = Home(path)
    prepared = home.command("prepare")
    if prepared.code != 0:
        raise RuntimeError(f"expected `surveillance prepare` to succeed, got {prepared.code}:\n{prepared.text}")
    today = now(SYSTEM_CLOCK).date()
    for number, (bundle, _) in enumerate(bundles, 1):
        shutil.copytree(bundle, home.settings.models_path / f"v{number}")
    fill_lake(home)
    with connect(Platform(home.settings).endpoints.database_url) as connection:
        register_instruments(connection, (SYMBOL,), "24/7", "homes")
        for calendar in ("24/7", "XNYS"):
            save_sessions(connection, build_sessions(calendar, today - timedelta(days=10), today + timedelta(days=10)))
        for number, (_, bundle_hash) in enumerate(bundles, 1):
            promote(connection, number, bundle_hash)
    release(home.settings)
    home.stop()
    return home


def fill_lake(home: Home) -> None:
    """Write three days of bars to ``bars_1m``, each as a version of its own."""
    sessions = build_sessions("XNYS", date(2024, 2, 1), date(2024, 4, 1))
    days = sessions.filter(pl.col("session_date").is_between(date(2024, 3, 4), date(2024, 3, 6)))
    bars = simulate(default_market(("AAPL",), seed=5), days)
    for day in sorted(bars["date"].unique()):
        Platform(home.settings).lake.write_days("bars_1m", bars.filter(pl.col("date") == day), days=[day])


def promote(connection: Any, version: int, bundle_hash: str) -> None:
    """Register the bundle in the folder ``v{version}`` and make it the champion."""
    model = ModelVersion(
        version=version, bundle_hash=bundle_hash, path=Path(f"v{version}"), training_duration_seconds=1.0,
        training_dataset_size=1,
    )  # fmt: skip
    record_version(connection, model)
    deploy_version(connection, version, decided_by="homes")


@contextmanager
def running(home: Home, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the end of the block."""
    started = home.start(*arguments)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


def wait_until(condition: Any, seconds: float) -> float | None:
    """Return the seconds until a condition held; None if it did not hold in time."""
    begin = SYSTEM_CLOCK.now_us()
    while (passed := (SYSTEM_CLOCK.now_us() - begin) / MICROSECONDS) < seconds:
        with suppress(Exception):  # the services may be down while a case waits for them
            if condition():
                return passed
        SYSTEM_CLOCK.sleep(0.5)
    return None
