"""A backfill of served days gives the rows that were served; days after them change nothing."""

from collections.abc import Iterator
from datetime import time

import polars as pl
import pytest
import structlog

from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines_tests.runtime.served_world import Market, World, make_world, serve_and_compare
from surveillance_pipelines_tests.training.tiny_bundle import TINY_FIRST, TINY_LAST, build_tiny_bundle, tiny_market

SYMBOLS = ("AAPL", "SPY")


@pytest.fixture
def market() -> Market:
    """The first 50 minutes of four sessions of two symbols with volume spikes, three of them served."""
    early = pl.col("bar_start").dt.time() < time(15, 20)
    bars = tiny_market()[0].filter(pl.col("symbol").is_in(SYMBOLS), early)
    days = bars["date"].unique().sort()[:4]
    sessions = build_sessions("XNYS", TINY_FIRST, TINY_LAST)
    spiked = pl.int_range(pl.len()).over("symbol", "date").is_in((35, 47))
    volume = pl.when(spiked).then(400.0 * pl.col("volume")).otherwise("volume")
    return Market(bars.filter(pl.col("date").is_in(days.implode())).with_columns(volume=volume), sessions, served=3)


@pytest.fixture
def world(settings, services, market: Market, tmp_path) -> Iterator[World]:
    build_tiny_bundle(tmp_path / "models" / "v1")
    yield make_world(settings, services.server_url, tmp_path / "models" / "v1", market)
    structlog.reset_defaults()


@pytest.mark.requirement("BEY-11")
def test_served_days_scored_at_rest_with_their_bundle_have_the_rows_that_were_served(world: World, market: Market):
    found = serve_and_compare(world, market, runs=2)
    assert sum(found.outcomes.values()) == 3 * 50 * len(SYMBOLS) * market.ticks_per_bar
    assert found.outcomes.keys() <= {"scored", "late"}
    assert [table.differences for table in found.compared] == [(), (), (), ()]
    assert [table.equal > 3 for table in found.compared] == [True, True, True, True]
    assert (found.added, found.changed) == (0, [])
    assert found.holds
