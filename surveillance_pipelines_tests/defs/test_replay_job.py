"""Batch scores replayed from the versions of the lake that their runs read."""

from typing import Any

import dagster as dg
import polars as pl
import pytest

from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.replay.comparison import Replayed
from surveillance_pipelines.replay.replayer import Replayer
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines_tests.defs.conftest import FIRST, LAST
from surveillance_pipelines_tests.defs.runs import check_of, run_job

DAYS = range_tags(FIRST, LAST)
SAMPLE = {"ops": {"replay_outputs": {"config": {"sample": 60, "seed": 3}}}}


@pytest.fixture
def scored(platform: PlatformResource, landed: Lake, instance: dg.DagsterInstance) -> PlatformResource:
    run_job("market_data_job", platform, instance, tags=DAYS)
    result = run_job("scoring_job", platform, instance, tags=DAYS)
    assert check_of(result, "alerts_can_be_replayed").passed
    return platform


def replayed(platform: PlatformResource, size: int = 60) -> list[Replayed]:
    with platform.connect() as connection:
        replayer = Replayer(connection, platform.lake, platform.settings)
        return list(replayer.replay(replayer.sample(size, seed=3)))


def overrule(platform: PlatformResource, bars: pl.DataFrame) -> None:
    """Land a correction: a file, which wins over the simulator, with other prices for every bar."""
    prices = [pl.col(name) * 1.01 for name in ("open", "high", "low", "close")]
    corrected = bars.with_columns(*prices, source=pl.lit("file"), batch_id=pl.lit("correction"))
    platform.lake.append("bars_landed", corrected, batch_id="correction")


def test_correction_of_the_bars_changes_no_replay(
    scored: PlatformResource, simulated_bars: pl.DataFrame, instance: dg.DagsterInstance
):
    first = replayed(scored)
    assert {result.outcome for result in first} == {"equal"}, [result.summary for result in first if not result.passed]
    assert {result.kind for result in first} >= {"signal", "prediction"}

    overrule(scored, simulated_bars)
    run_job("market_data_job", scored, instance, tags=DAYS)
    assert set(scored.lake.read("bars_1m")["source"]) == {"file"}
    assert replayed(scored) == first
    run_job("scoring_job", scored, instance, tags=DAYS)  # the same ids stay as they were written first
    assert replayed(scored) == first


def test_job_names_what_differs_and_fails(scored: PlatformResource, instance: dg.DagsterInstance):
    assert run_job("replay_job", scored, instance, run_config=SAMPLE).success
    with scored.connect() as connection:
        connection.execute("UPDATE surveillance.anomalies SET score = score + 1e-12, price = price * 2")
        found: Any = connection.execute("SELECT min(id) FROM surveillance.anomalies").fetchone()
    config = {"ops": {"replay_outputs": {"config": {"ids": [found[0]]}}}}
    failed = run_job("replay_job", scored, instance, run_config=config, raise_on_error=False)
    assert not failed.success
    error = failed.failure_data_for_node("replay_outputs")
    assert error is not None
    assert error.user_failure_data is not None
    assert "score: on record" in str(error.user_failure_data.description)


def test_features_that_are_not_what_their_bars_give_are_named(scored: PlatformResource):
    """The bars that a run read are other bytes now, as after a damage that a Delta table does not notice."""
    table = "features_core_v1"
    damaged = scored.lake.read(table).with_columns(pl.col("range") + 1e-9)
    version = scored.lake.write_days(table, damaged, days=damaged["date"].unique().to_list())
    with scored.connect() as connection:
        connection.execute(
            "UPDATE ops.scoring_runs SET versions_read = jsonb_build_object('features_core_v1', %s::int) "
            "WHERE lane = 'batch'",
            (version,),
        )
    results = replayed(scored, 20)
    assert {result.outcome for result in results} == {"different"}
    assert all(result.difference and result.difference.field.startswith("range of bar") for result in results)


def test_run_that_is_not_on_record_is_said(scored: PlatformResource):
    with scored.connect() as connection:
        connection.execute("DELETE FROM ops.scoring_runs")
    results = replayed(scored, 3)
    assert {result.outcome for result in results} == {"impossible"}
    assert all("ops.scoring_runs" in result.summary for result in results)
