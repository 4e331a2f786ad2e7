"""Two platforms for days that are served: one serves and keeps books, the other has only the bars."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
from pydantic import SecretStr

from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.market.bars_to_ticks import ticks_from_bars
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect, ensure_database, migrate, with_database
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines_tests.batch.served_days import (
    Compared,
    changed,
    compare,
    copy_bars,
    fill_and_score,
    kept,
    open_incidents,
    serve,
)

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class World:
    """Where the two platforms' stores are.

    Attributes:
        served: environment of the platform that serves; its bundle is promoted.
        fresh: of the other, which knows the same bundle.
        bundle_hash: of that bundle.
    """

    served: Environment
    fresh: Environment
    bundle_hash: str


@dataclass(frozen=True, slots=True)
class Market:
    """Bars of some days, and how many of the days are served.

    Attributes:
        bars: columns of ``BAR_SCHEMA``, revision 0.
        sessions: around them.
        served: days, from the first on; the others follow later, as bars of another source.
        ticks_per_bar: what a bar is taken apart into.
    """

    bars: pl.DataFrame
    sessions: pl.DataFrame
    served: int
    ticks_per_bar: int = 4

    @property
    def days(self) -> list[date]:
        return self.bars["date"].unique().sort().to_list()

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self.bars["symbol"].unique().sort().to_list())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one market.

    Attributes:
        outcomes: ledger outcome → messages.
        made_again: rows that scoring the served days at rest added to the tables of the platform that served them.
        compared: rows of the platform that served, beside those of the one that only scored.
        changed: what further days at the end have changed of the served ones.
    """

    outcomes: dict[str, int]
    made_again: dict[str, Any]
    compared: list[Compared]
    changed: list[str]

    @property
    def added(self) -> int:
        return sum(count for name, count in self.made_again.items() if "new_" in name)

    @property
    def holds(self) -> bool:
        return not self.added and not self.changed and all(table.holds for table in self.compared)


def make_world(settings: Settings, server_url: str, bundle: Path, market: Market) -> World:
    """Make both platforms' databases and lakes.

    Args:
        settings: of the platform that serves.
        server_url: of the PostgreSQL server, for the other's database.
        bundle: folder of the models.
        market: whose symbols and sessions both know.
    """
    other = with_database(server_url, f"fresh_{os.getpid()}")
    ensure_database(server_url, f"fresh_{os.getpid()}")
    migrate(other)
    apart = settings.model_copy(update={"database_url": SecretStr(other), "lake_url": f"{settings.lake_url}-fresh"})
    found = load_bundle(bundle)
    environments = []
    for each in (settings, apart):
        endpoints = provision(each)
        chosen = {"SYMBOLS": ",".join(market.symbols), "FALLBACK_TO_YFINANCE": "false", "DRAIN_IDLE_SECONDS": "40",
                  "LOG_LEVEL": "WARNING",
                  "BAR_CLOSE_GRACE_SECONDS": "0", "DAGSTER_DISABLE_TELEMETRY": "1"}  # fmt: skip
        environments.append({**child_environment(endpoints), **chosen})
        with connect(endpoints.database_url) as connection:
            save_sessions(connection, market.sessions)
            register_instruments(connection, market.symbols, "XNYS", "test")
            version = ModelVersion(version=1, bundle_hash=found.bundle_hash, path=bundle, training_duration_seconds=1.0,
                                   training_dataset_size=1)  # fmt: skip
            record_version(connection, version)
            if each is settings:
                deploy_version(connection, 1, decided_by="served")
    return World(environments[0], environments[1], found.bundle_hash)


def serve_and_compare(
    world: World, market: Market, *, runs: int, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Serve the first days, score them at rest on both platforms, then fill and score the days after them, too."""
    days = market.days
    first, last = days[0], days[market.served - 1]
    early, late = (market.bars.filter(condition) for condition in (pl.col("date") <= last, pl.col("date") > last))
    ticks = ticks_from_bars(early, market.ticks_per_bar, seed=3)
    say(f"serving {len(ticks):,} ticks of {len(market.symbols)} symbols, {first} to {last}")
    with _platform(world.served) as platform:
        outcomes = serve(platform, ticks, runs=runs)
        say(f"served: {outcomes}")
        with platform.connect() as connection:  # the champion of today is another one
            deploy_version(connection, 1, role="retired", leave_no_champion=True, decided_by="served")
            left_open = open_incidents(connection)
        made_again = fill_and_score(platform, first, last, world.bundle_hash)
        made_again["incidents.new_rows"] -= left_open  # a whole day closes what its last message left open
        say(f"scored at rest: {made_again}")
        before, lake = kept(platform, first, last), platform.lake
    compared = _compare_with_fresh(world, lake, first, last)
    with _platform(world.served) as platform:
        platform.lake.append("bars_landed", late, batch_id="later")
        fill_and_score(platform, first, days[-1], world.bundle_hash)
        differs = changed(before, kept(platform, first, last))
    return Outcome(outcomes, made_again, compared, differs)


def _compare_with_fresh(world: World, served: Lake, first: date, last: date) -> list[Compared]:
    with _platform(world.fresh) as platform:
        copy_bars(served, platform.lake)
        fill_and_score(platform, first, last, world.bundle_hash, bars=False)
        with connect(world.served["DATABASE_URL"]) as theirs, platform.connect() as ours:
            return compare(theirs, ours)


@contextmanager
def _platform(environment: Environment) -> Iterator[PlatformResource]:
    with mock.patch.dict(os.environ, environment):
        yield PlatformResource(env_file="")
