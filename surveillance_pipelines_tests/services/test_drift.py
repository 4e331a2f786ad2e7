"""Drift and outcomes read the feature table of the champion's view."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.features.batch import feature_schema
from surveillance_pipelines.features.views import CORE_V1, VIEWS
from surveillance_pipelines.models.bundle import Bundle
from surveillance_pipelines.services.drift import DriftInputs, champion_drift, drift_inputs
from surveillance_pipelines.services.outcomes import settle_days
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores import predictors
from surveillance_pipelines.stores.deployments import deploy_version, serving_view
from surveillance_pipelines.stores.model_store import ModelVersion, record_version

OTHER = replace(CORE_V1, name="other_v1")
LAST = date(2024, 3, 6)


@pytest.fixture
def platform(settings: Settings) -> Platform:
    """A core_v1 table that ends on ``LAST``, and a table of another view that ends the day before."""
    platform = Platform(settings, ManualClock(datetime(2024, 3, 8, tzinfo=UTC)))
    platform.lake.write_days("features_core_v1", features(LAST, 99.0), days=[LAST])
    platform.lake.write_days("features_core_v1", features(LAST, 99.0), days=[LAST])
    day_before = LAST - timedelta(days=1)
    platform.lake.write_days("features_other_v1", features(day_before, 101.0), days=[day_before])
    return platform


def features(day: date, last_close: float) -> pl.DataFrame:
    starts = [datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC) + timedelta(minutes=n) for n in range(30)]
    known = {"symbol": "SPY", "date": day, "bar_start": starts, "close": [100.0] * 10 + [last_close] * 20}
    schema = feature_schema(OTHER)
    missing = [pl.lit(None).alias(name) for name in schema if name not in known]
    return pl.DataFrame(known).with_columns(missing).select(schema.names()).cast(schema)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def other_champion(platform: Platform, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setitem(VIEWS, OTHER.name, OTHER)
    monkeypatch.setattr(predictors, "load_bundle", lambda *_args, **_options: replace(bundle, view=OTHER))
    with platform.connect() as connection:
        record_version(connection, ModelVersion(
            version=1, bundle_hash=bundle.bundle_hash, path=Path(bundle.path), training_duration_seconds=1.0,
            training_dataset_size=1,
        ))  # fmt: skip
        deploy_version(connection, 1, feature_view=OTHER.name, decided_by="test")
    return platform


def test_drift_reads_the_table_of_the_champions_view(other_champion: Platform, bundle: Bundle):
    report = champion_drift(other_champion)
    assert report is not None
    assert (report.rows, report.last) == (30, LAST - timedelta(days=1))
    assert drift_inputs(other_champion) == DriftInputs(1, bundle.bundle_hash, 0)


def test_drift_without_a_champion_has_no_inputs(platform: Platform):
    assert (drift_inputs(platform), champion_drift(platform)) == (None, None)
    with platform.connect() as connection:
        assert serving_view(connection) == CORE_V1.name


def test_outcomes_come_from_the_features_of_the_serving_view(other_champion: Platform):
    settled = settle_days(other_champion, LAST - timedelta(days=5), LAST)
    assert set(settled.directions) == {"BUY", "HOLD"}


def test_outcomes_without_a_champion_come_from_the_default_view(platform: Platform):
    settled = settle_days(platform, LAST - timedelta(days=5), LAST)
    assert set(settled.directions) == {"SELL", "HOLD"}
