"""The platform resource on stores of the test's own, and a small market in its lake."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.simulator import default_market, simulate
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.sessions import save_sessions

FIRST, LAST = date(2024, 3, 4), date(2024, 3, 6)
SYMBOLS = ("AAPL", "MSFT", "SPY")


@pytest.fixture
def platform(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> PlatformResource:
    """The resource as a run has it: settings out of the environment, services out of settings."""
    for name in ("USE_SQS_DATA_SOURCE", "MODEL_RETRAINING_SCHEDULE", "SYMBOLS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in child_environment(provision(settings)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SYMBOLS", ",".join(SYMBOLS))
    monkeypatch.setenv("FALLBACK_TO_YFINANCE", "false")
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    return PlatformResource(env_file="")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as ephemeral:
        yield ephemeral


@pytest.fixture(scope="session")
def simulated_sessions() -> pl.DataFrame:
    return build_sessions("XNYS", date(2024, 2, 1), date(2024, 4, 1))


@pytest.fixture(scope="session")
def simulated_bars(simulated_sessions: pl.DataFrame) -> pl.DataFrame:
    """Three sessions of three symbols."""
    sessions = simulated_sessions.filter(pl.col("session_date").is_between(FIRST, LAST))
    return simulate(default_market(SYMBOLS, seed=5), sessions)


@pytest.fixture
def landed(platform: PlatformResource, simulated_bars: pl.DataFrame, simulated_sessions: pl.DataFrame) -> Lake:
    """A lake in which the simulated bars have landed, and a database that knows their symbols and sessions."""
    platform.lake.append("bars_landed", simulated_bars, batch_id="simulated")
    with connect(platform.endpoints.database_url) as connection:
        register_instruments(connection, SYMBOLS, "XNYS", "test")
        save_sessions(connection, simulated_sessions)
    return platform.lake


@pytest.fixture
def always_open(platform: PlatformResource) -> None:
    """Instruments on a market that never closes, with its sessions up to now."""
    today = platform.today()
    with connect(platform.endpoints.database_url) as connection:
        register_instruments(connection, ("BTC-USD",), "24/7", "test")
        save_sessions(connection, build_sessions("24/7", today - timedelta(days=3), today + timedelta(days=3)))
        save_sessions(connection, build_sessions("XNYS", today - timedelta(days=10), today + timedelta(days=10)))


@pytest.fixture
def with_registry(platform: PlatformResource, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> PlatformResource:
    """The platform with a model registry that no other test writes to."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    return platform
