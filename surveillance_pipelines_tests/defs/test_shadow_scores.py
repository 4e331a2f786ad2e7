"""The shadow scores the served bars and writes nothing but its own table."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.models.bundle import CONFIG_FILE, copy_bundle
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines_tests.defs.conftest import FIRST, LAST
from surveillance_pipelines_tests.defs.runs import check_of, metadata_of, run_job
from surveillance_pipelines_tests.models.edited_bundles import edit_json
from surveillance_pipelines_tests.services.test_models import add_version
from surveillance_pipelines_tests.services.test_probation import scale_thresholds
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle


@pytest.fixture
def served(landed: Lake, simulated_bars: pl.DataFrame, simulated_sessions: pl.DataFrame) -> Lake:
    """Features of three days in the lake; the bars of the first day come from the queue."""
    days = simulated_bars["date"].unique().to_list()
    features = features_of_days(simulated_bars, days, SessionTable.from_frame(simulated_sessions)).with_columns(
        source=pl.when(pl.col("date") == FIRST).then(pl.lit("sqs")).otherwise("source")
    )
    landed.write_days("bars_1m", simulated_bars, days=days)
    landed.write_days("features_core_v1", features, days=days)
    return landed


def deploy(platform: PlatformResource, path: Path, *, shadow: bool) -> str:
    """Make v1 the champion and, if wanted, v2 with an eighth of its thresholds the shadow; return the hash of v2."""
    champion = build_tiny_bundle(path / "v1")
    copy_bundle(path / "v1", path / "v2")
    other = edit_json(path / "v2", CONFIG_FILE, lambda config: scale_thresholds(1 / 8, config))
    with platform.connect() as connection:
        add_version(connection, 1, path / "v1", champion)
        add_version(connection, 2, path / "v2", other)
        deploy_version(connection, 1, decided_by="test")
        if shadow:
            deploy_version(connection, 2, role="shadow", decided_by="test")
    return other


@pytest.mark.requirement("BEY-05")
def test_shadow_scores_are_those_of_the_served_bars_and_nothing_is_published(
    platform: PlatformResource, served: Lake, instance: dg.DagsterInstance, tmp_path: Path
):
    bundle_hash = deploy(platform, tmp_path, shadow=True)
    result = run_job("scoring_job", platform, instance, tags=range_tags(FIRST, LAST))
    figures = metadata_of(result, "shadow_scores")
    scores = served.read("shadow_scores")
    assert scores["date"].unique().to_list() == [FIRST]
    assert scores["bundle_hash"].unique().to_list() == [bundle_hash]
    assert (figures["shadow"], figures["dagster/row_count"], scores.height) == ("v2", 3 * 390, 3 * 390)
    assert figures["shadow_alerts_per_symbol_day"] > 2 * figures["champion_alerts_per_symbol_day"]
    assert figures["alerts_of_champion_only"] == 0
    assert figures["alerts_of_both"] + figures["alerts_of_shadow_only"] == int(scores["is_anomaly"].sum())
    shown = [record.data for record in figures["disagreements"].records]
    assert len(shown) == min(50, figures["alerts_of_shadow_only"])
    assert {row["alert_of"] for row in shown} == {"shadow"}
    assert not check_of(result, "shadow_keeps_the_alert_budget").passed
    with platform.connect() as connection:
        for table in ("anomalies", "incidents", "signals", "predictions"):
            hashes = connection.execute(f"SELECT DISTINCT bundle_hash FROM surveillance.{table}".encode()).fetchall()
            assert (bundle_hash,) not in hashes
        assert connection.execute("SELECT count(*) FROM ops.outbox").fetchone() == (0,)
    assert set(served.read("scores")["bundle_hash"]) != {bundle_hash}


def test_shadow_scores_without_a_shadow_write_nothing(
    platform: PlatformResource, served: Lake, instance: dg.DagsterInstance, tmp_path: Path
):
    deploy(platform, tmp_path, shadow=False)
    result = run_job("scoring_job", platform, instance, tags=range_tags(FIRST, LAST))
    assert metadata_of(result, "shadow_scores") == {"shadow": "none"}
    assert check_of(result, "shadow_keeps_the_alert_budget").passed
    assert served.days("shadow_scores") == []
