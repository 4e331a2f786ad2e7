"""What the checks of bars say in words."""

import polars as pl

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.defs.bars.checks import silence_result


def without(bars: pl.DataFrame, symbol: str, first: int, minutes: int) -> pl.DataFrame:
    """Take some bars of a symbol away, counted from its first."""
    place = pl.int_range(pl.len()).over("symbol")
    return bars.filter((pl.col("symbol") != symbol) | ~place.is_between(first, first + minutes - 1))


def test_bars_have_no_gaps_names_the_count_the_worst_symbols_and_a_remedy(
    simulated_bars: pl.DataFrame, simulated_sessions: pl.DataFrame
):
    sessions = SessionTable.from_frame(simulated_sessions)
    gaps = without(without(without(simulated_bars, "AAPL", 30, 20), "MSFT", 30, 47), "MSFT", 100, 16)
    result = silence_result("bars_have_no_gaps", gaps, sessions)
    assert not result.passed
    said = str(result.description)
    assert said.startswith("3 gaps of more than 15 minutes, in 2 symbols; longest: MSFT 47 minutes, AAPL 20 minutes.")
    assert "`surveillance ingest`" in said
    assert "`surveillance backfill`" in said


def test_bars_have_no_gaps_when_it_holds_says_what_it_looked_for(
    simulated_bars: pl.DataFrame, simulated_sessions: pl.DataFrame
):
    result = silence_result("bars_have_no_gaps", simulated_bars, SessionTable.from_frame(simulated_sessions))
    assert result.passed
    assert result.description == "no symbol has a gap of more than 15 minutes within a session"
