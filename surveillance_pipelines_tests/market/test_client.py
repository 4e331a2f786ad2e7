from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.market import Source, Timeframe
from surveillance_pipelines.market.client import BarRequest, MarketDataClient, SymbolOutcome

NOW = datetime(2024, 6, 1, tzinfo=UTC)
FIRST, LAST = date(2024, 3, 4), date(2024, 3, 14)


class House(MarketDataClient):
    """A provider with one bar per day, an unknown symbol, and a symbol that is returned on the second attempt only."""

    source: ClassVar[Source] = "file"
    longest_window: ClassVar[Mapping[Timeframe, timedelta]] = {"1m": timedelta(days=4)}

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.asked: list[BarRequest] = []

    def history(self, request: BarRequest) -> pl.DataFrame:
        self.asked.append(request)
        if request.symbol == "NOPE":
            raise LookupError(request.symbol)
        if request.symbol == "BUSY" and len(self.asked) < 2:
            raise TimeoutError
        days = (request.end - request.start).days
        starts = [request.start + timedelta(days=day, hours=15) for day in range(days)]
        row = dict.fromkeys(("open", "high", "low", "close", "volume"), 10.0)
        return pl.DataFrame([{"symbol": request.symbol, "bar_start": start, **row} for start in starts])

    def failure(self, symbol: str, error: Exception) -> SymbolOutcome:
        return SymbolOutcome("unknown_symbol" if isinstance(error, LookupError) else "unreachable", repr(error))


@pytest.mark.requirement("ING-09")
def test_market_data_client_subclass_needs_only_requests_and_errors() -> None:
    house = House(clock=ManualClock(NOW), adjustment="none")
    result = house.fetch_bars(["NOPE", "AAPL"], start=FIRST, end=LAST)
    assert result.frame.schema == BAR_SCHEMA
    assert result.frame.select("symbol", "source", "adjustment").unique().rows() == [("AAPL", "file", "none")]
    assert result.frame.height == result.outcomes["AAPL"].rows == 10
    assert result.outcomes["NOPE"].outcome == "unknown_symbol"
    assert result.missing == ("NOPE",)


def test_market_data_client_long_range_is_split_into_adjacent_windows() -> None:
    house = House(clock=ManualClock(NOW))
    house.fetch_bars(["AAPL"], start=FIRST, end=LAST)
    windows = [(request.start.day, request.end.day) for request in house.asked]
    assert sorted(windows) == [(4, 8), (8, 12), (12, 14)]


def test_market_data_client_temporary_failure_is_retried() -> None:
    clock = ManualClock(NOW)
    result = House(clock=clock).fetch_bars(["BUSY"], start=date(2024, 3, 4), end=date(2024, 3, 5))
    assert (result.outcomes["BUSY"].outcome, result.outcomes["BUSY"].attempts) == ("ok", 2)
    assert clock.now_us() > ManualClock(NOW).now_us()


def test_market_data_client_batches_are_limited_to_the_batch_size() -> None:
    house = House(clock=ManualClock(NOW), batch_size=2, max_attempts=1)
    symbols = [f"S{number}" for number in range(5)]
    result = house.fetch_bars(symbols, start=date(2024, 3, 4), end=date(2024, 3, 5))
    assert sorted(result.outcomes) == symbols
    first_batches = [{request.symbol for request in house.asked[place : place + 2]} for place in (0, 2)]
    assert first_batches == [{"S0", "S1"}, {"S2", "S3"}]


def test_market_data_client_position_of_a_refused_row_is_independent_of_other_symbols() -> None:
    class Broken(House):
        def history(self, request: BarRequest) -> pl.DataFrame:
            rows = super().history(request)
            return rows.with_columns(close=pl.lit(-1.0)) if request.symbol == "ZZZ" else rows

    day: dict[str, Any] = {"start": date(2024, 3, 4), "end": date(2024, 3, 6)}
    alone, beside = (Broken(clock=ManualClock(NOW)).fetch_bars(names, **day) for names in (["ZZZ"], ["AAPL", "ZZZ"]))
    assert alone.refusals == beside.refusals != ()
    assert beside.rows_in == beside.frame.height + len(beside.refusals) == 4
