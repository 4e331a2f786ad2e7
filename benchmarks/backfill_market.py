"""A year of 1-minute bars and features in a lake, a promoted bundle, and runs of the platform over them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.harness import REPOSITORY
from benchmarks.live_lane import services_of
from benchmarks.models import proof_models
from surveillance_pipelines.contracts.endpoints import Endpoints
from surveillance_pipelines.market.simulator import default_market, simulate
from surveillance_pipelines.models.bundle import copy_bundle
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines_tests.storage_fixtures import service_settings

FEATURES: Final = "features_core_v1"
SCORES: Final = "scores"
MONTH: Final = 21
FIRST_DAY: Final = date(2022, 1, 3)
_SEED: Final = 11
_MARGIN: Final = timedelta(days=60)
"""Sessions before and after the year, so that every bar has a recorded session."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Size of the market: symbols and sessions. A year has 252 sessions of 390 minutes."""

    symbols: int = 100
    days: int = 252

    @property
    def rows(self) -> int:
        return self.symbols * self.days * 390


@dataclass(frozen=True)
class Year:
    """The stored market and its services."""

    days: tuple[date, ...]
    endpoints: Endpoints

    @property
    def lake(self) -> Lake:
        return Lake(self.endpoints.lake_url, self.endpoints.lake_storage_options)

    @property
    def bundle_path(self) -> Path:
        return self.endpoints.models_path / "v1"

    @property
    def months(self) -> list[Sequence[date]]:
        """Return the days in groups of 21 sessions."""
        return [self.days[start : start + MONTH] for start in range(0, len(self.days), MONTH)]

    def run(self, job: str, days: Sequence[date]) -> dict[str, Any]:
        """Materialize a range of days in a new process and return the cost."""
        command = [sys.executable, "-m", "benchmarks.backfill_run", job]
        done = subprocess.run(
            [*command, days[0].isoformat(), days[-1].isoformat()], env=os.environ | environment(self.endpoints),
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"expected {job} of {days[0]} to {days[-1]} to succeed, it said: {done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def forget_scores(self) -> None:
        """Delete the rows written by batch scoring."""
        with connect(self.endpoints.database_url) as connection:
            connection.execute("TRUNCATE surveillance.predictions, surveillance.anomalies, surveillance.signals")
        lake = self.lake
        if lake.exists(SCORES):
            lake.write_days(SCORES, lake.read(SCORES).clear(), days=lake.days(SCORES))


@contextmanager
def a_year(folder: Path, sizes: Sizes) -> Iterator[Year]:
    """Fill a lake with bars and, by the platform's own asset, features; promote a bundle; yield them with services."""
    settings = _settings(folder)
    with services_of(settings):
        endpoints = provision(settings)
        year = Year(tuple(_sessions(sizes.days)["session_date"].to_list()), endpoints)
        _fill(year, sizes)
        _promote(year)
        for month in year.months:
            year.run("features", month)
        yield year


def environment(endpoints: Endpoints) -> dict[str, str]:
    """Return the settings of a run over these services, independent of the user's settings."""
    return {**child_environment(endpoints), "FALLBACK_TO_YFINANCE": "false", "DAGSTER_DISABLE_TELEMETRY": "1"}


def _settings(folder: Path) -> Settings:
    places = {
        "lake_url": str(folder / "lake"),
        "model_storage_path": folder / "models",
        "mlflow_tracking_uri": f"sqlite:///{folder}/mlflow.db",
    }
    return service_settings(folder / "services").model_copy(update=places)


def _sessions(count: int) -> pl.DataFrame:
    from surveillance_pipelines.market.calendars import build_sessions

    years = build_sessions("XNYS", FIRST_DAY, FIRST_DAY.replace(year=FIRST_DAY.year + 1 + count // 240))
    full = pl.col("closes_at") - pl.col("opens_at") == pl.duration(minutes=390)
    return years.filter(full).sort("session_date").head(count)


def _fill(year: Year, sizes: Sizes) -> None:
    """Write bars month by month. Each month is simulated separately, because a whole year would take gigabytes."""
    from surveillance_pipelines.market.calendars import build_sessions

    symbols = [f"SIM{i:03d}" for i in range(sizes.symbols)]
    market, sessions = default_market(symbols, _SEED), _sessions(sizes.days)
    with connect(year.endpoints.database_url) as connection:
        register_instruments(connection, symbols, "XNYS", "simulated")
        save_sessions(connection, build_sessions("XNYS", FIRST_DAY - _MARGIN, year.days[-1] + _MARGIN))
    for number, month in enumerate(year.months):
        own = sessions.filter(pl.col("session_date").is_between(month[0], month[-1]))
        year.lake.write_days("bars_1m", simulate(replace(market, seed=_SEED + number), own), days=month)


def _promote(year: Year) -> None:
    """Promote a copy of the models of all benchmarks, because those are deleted when their code changes."""
    bundle = proof_models().bundle
    copy_bundle(bundle.path, year.bundle_path)
    version = ModelVersion(
        version=1, bundle_hash=bundle.bundle_hash, path=year.bundle_path, training_duration_seconds=1.0,
        training_dataset_size=1,
    )  # fmt: skip
    with connect(year.endpoints.database_url) as connection:
        record_version(connection, version)
        deploy_version(connection, 1, decided_by="proof")
