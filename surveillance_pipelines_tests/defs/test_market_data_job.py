"""From landed bars to features, as one run over a range of days."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.defs.bars.checks import bars_are_fresh
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines_tests.defs.conftest import FIRST, LAST, SYMBOLS
from surveillance_pipelines_tests.defs.runs import check_of, metadata_of, run_job


@pytest.mark.requirement("ING-07", "ING-10", "ING-11")
def test_market_data_job_over_a_range_fills_every_table(
    platform: PlatformResource, landed: Lake, simulated_bars: pl.DataFrame, instance: dg.DagsterInstance
):
    result = run_job("market_data_job", platform, instance, tags=range_tags(FIRST, LAST))
    assert landed.read("bars_1m").height == simulated_bars.height
    assert landed.read("bars_1d").height == 3 * len(SYMBOLS)
    assert landed.read("features_core_v1").height == simulated_bars.height
    assert landed.days("features_core_v2") == landed.days("features_core_v1")
    assert landed.days("features_core_v1") == [FIRST, *landed.days("bars_1m")[1:-1], LAST]
    assert metadata_of(result, "bars_1m")["dagster/row_count"] == simulated_bars.height
    assert check_of(result, "bars_are_unique").passed
    for view in ("core_v1", "core_v2"):
        assert check_of(result, "features_are_finite", f"features_{view}").passed
    assert not check_of(result, "bars_are_fresh").passed


def test_market_data_job_daily_bars_that_landed_stay_out_of_the_minutes(
    platform: PlatformResource, landed: Lake, simulated_bars: pl.DataFrame, instance: dg.DagsterInstance
):
    midnight = pl.col("bar_start").dt.truncate("1d")
    daily = simulated_bars.head(1).with_columns(midnight, timeframe=pl.lit("1d"), source=pl.lit("file"))
    landed.append("bars_landed", daily, batch_id="daily")
    result = run_job("market_data_job", platform, instance, tags=range_tags(FIRST, FIRST))
    assert set(landed.read("bars_1m")["timeframe"]) == {"1m"}
    assert metadata_of(result, "bars_1m")["of_other_timeframes"] == 1
    assert landed.read("features_core_v1").height == landed.read("bars_1m").height


def test_bars_are_fresh_names_the_symbol_that_stopped_although_others_go_on(
    platform: PlatformResource, landed: Lake, simulated_bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    def check(bars: pl.DataFrame) -> dg.AssetCheckResult:
        landed.write_days("bars_1m", bars, days=[FIRST, *landed.days("bars_landed")])
        result: Any = bars_are_fresh(platform)
        return result

    clock = ManualClock(datetime(2024, 3, 6, 22, 30, tzinfo=UTC))
    monkeypatch.setattr(PlatformResource, "clock", property(lambda _self: clock))
    assert check(simulated_bars).passed
    stopped = check(simulated_bars.filter((pl.col("symbol") != "MSFT") | (pl.col("date") == FIRST)))
    assert not stopped.passed
    shown: Any = stopped.metadata["behind"]
    assert [(row.data["symbol"], row.data["sessions_behind"]) for row in shown.records] == [("MSFT", 2)]
    absent = check(simulated_bars.filter(pl.col("symbol") != "SPY"))
    shown = absent.metadata["behind"]
    assert [row.data["newest_bar"] for row in shown.records] == ["none since 2024-02-21"]
