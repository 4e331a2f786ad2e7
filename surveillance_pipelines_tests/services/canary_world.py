"""A platform whose champion has served a simulated market, for tests and the benchmark of canaries."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.simulator import default_market, simulate
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.services.canary_promises import measure_promise, promise_metrics
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.sessions import save_sessions

CALENDARS: Final = ("XNYS", "XTKS", "XLON", "24/7")
"""Calendars with recorded sessions; all symbols trade on the first."""


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """A simulated market, and which of its days a bundle was tested on.

    Attributes:
        symbols: the symbols, all of XNYS.
        first: first day of the lake.
        tested: days of the bundle's evaluation.
        canary_day: last day of the lake; the clock shows the next morning.
        seed: seed of the market.
    """

    symbols: tuple[str, ...]
    first: date
    tested: tuple[date, ...]
    canary_day: date
    seed: int


def market(spec: WorldSpec) -> tuple[pl.DataFrame, SessionTable]:
    """Return the bars of all days, and their sessions."""
    rows = build_sessions("XNYS", spec.first, spec.canary_day)
    return simulate(default_market(spec.symbols, spec.seed), rows), SessionTable.from_frame(rows)


def build_world(settings: Settings, spec: WorldSpec, bundle: Path) -> Platform:
    """Write the market and the champion with its promise into fresh stores, and return the platform."""
    platform = Platform(settings, ManualClock(datetime.combine(spec.canary_day, datetime.min.time(), UTC)))
    assert isinstance(platform.clock, ManualClock)
    platform.clock.advance(33 * 3600.0)
    bars, sessions = market(spec)
    platform.lake.write_days("bars_1m", bars, days=sorted(bars["date"].unique()))
    ensemble = Ensemble(load_bundle(bundle))
    promise = measure_promise(bars, spec.tested, sessions, ensemble, settings, seed=spec.seed)
    model = ModelVersion(
        version=1, bundle_hash=ensemble.bundle_hash, path=bundle, training_duration_seconds=1.0,
        training_dataset_size=1,
    )  # fmt: skip
    with platform.connect() as connection:
        register_instruments(connection, spec.symbols, "XNYS", "test")
        for calendar in CALENDARS:
            days = spec.first - timedelta(days=20), spec.canary_day + timedelta(days=20)
            save_sessions(connection, build_sessions(calendar, *days))
        record_version(connection, model, promise_metrics(promise, "test"))
        deploy_version(connection, 1, feature_view=VIEWS[ensemble.feature_view].name, decided_by="test")
    return platform
