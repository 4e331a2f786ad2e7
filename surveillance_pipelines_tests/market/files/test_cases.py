"""Files modelled on public reports of users, in ``cases/``: what each of them means."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.market.aggregation import bars_from_ticks
from surveillance_pipelines.market.files.bars import read_bars
from surveillance_pipelines.market.files.options import FileOptions
from surveillance_pipelines.market.files.result import FileResult
from surveillance_pipelines.market.files.ticks import holds_trades, read_ticks

CASES = Path(__file__).parent / "cases"
CLOCK = ManualClock(datetime(2026, 12, 1, tzinfo=UTC))
MINUTES = [datetime(2024, 3, 4, 14, minute, tzinfo=UTC) for minute in (30, 31)]


def bars_of(name: str, **facts: Any) -> FileResult:
    return read_bars(CASES / name, FileOptions(**facts), clock=CLOCK)


@pytest.mark.parametrize("name", ["01_postgres_offset.csv", "01_postgres_offset_minus05.csv"])
def test_offset_of_two_digits_is_read(name: str) -> None:
    found = bars_of(name)
    assert (found.frame["bar_start"].to_list(), found.refusals) == (MINUTES, ())


@pytest.mark.parametrize("name", ["02_thousands_price.csv", "02_thousands_volume.csv"])
def test_row_longer_than_its_header_is_refused_with_its_line(name: str) -> None:
    found = bars_of(name, timeframe="1m")
    assert found.frame["bar_start"].to_list() == MINUTES[:1]
    ((where, code, reason),) = [(each.where, each.code, each.reason) for each in found.refusals]
    assert (where, code) == ("line 3", "wrong_columns")
    assert reason.startswith("expected 7 fields as in the header, got 9")


@pytest.mark.parametrize(
    ("name", "symbol", "days"),
    [
        ("03_daily_newyork_AAPL.csv", "AAPL", [date(2024, 3, day) for day in (7, 8, 11, 12)]),
        ("03_daily_tokyo_7203.T.csv", "7203.T", [date(2024, 1, day) for day in (4, 5, 9)]),
    ],
)
def test_daily_bar_at_midnight_of_its_exchange_means_that_date(name: str, symbol: str, days: list[date]) -> None:
    found = bars_of(name, symbol=symbol)
    assert found.frame["bar_start"].to_list() == [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days]
    assert set(found.frame["timeframe"]) == {"1d"}


def test_trades_of_the_repeated_hour_are_told_apart_by_their_order() -> None:
    facts = FileOptions(timezone="America/New_York", symbol="BTC-USD")
    bars = bars_from_ticks(read_ticks(CASES / "04_autumn_hour_trades.csv", facts, clock=CLOCK).frame)
    hours = bars.group_by(bars["bar_start"].dt.hour().alias("hour")).len().sort("hour").rows()
    assert hours == [(4, 30), (5, 60), (6, 60), (7, 30)]
    assert bars["high"].to_list() == bars["low"].to_list()


def test_bars_of_the_repeated_hour_are_told_apart_by_their_order() -> None:
    found = bars_of("04_autumn_hour_bars.csv", timezone="America/New_York", symbol="BTC-USD")
    assert (found.frame.height, found.refusals, found.duplicates) == (180, (), 0)
    assert found.frame["bar_start"].n_unique() == 180


def test_difference_in_the_last_bit_is_no_inconsistency() -> None:
    found = bars_of("05_adjusted_last_bit.csv")
    assert (found.frame.height, found.refusals) == (3, ())


def test_spaces_after_commas_do_not_matter() -> None:
    assert bars_of("06_space_after_comma_bars.csv").frame["volume"].to_list() == [530.0] * 3
    path = CASES / "06_space_after_comma_ticks.csv"
    assert holds_trades(path, FileOptions())
    assert read_ticks(path, FileOptions(), clock=CLOCK).frame["price"].to_list() == [231.1, 231.2]


@pytest.mark.parametrize("name", ["08_klines_no_header.csv", "08_klines_with_header.csv"])
def test_binance_klines_are_recognised_with_and_without_a_header(name: str) -> None:
    found = bars_of(name, symbol="ARKUSDT")
    assert found.reading.layout == "Binance klines"
    assert found.frame["bar_start"].to_list() == [datetime(2025, 1, 1, 0, minute, tzinfo=UTC) for minute in (0, 1)]
    assert found.frame.select("open", "high", "low", "close", "volume").row(0) == (0.316, 0.3162, 0.3158, 0.316, 27.0)


def test_polygon_flat_file_is_recognised() -> None:
    found = bars_of("09_flat_file_window_start.csv")
    assert found.reading.layout == "Polygon flat file"
    assert found.frame["bar_start"].to_list() == [datetime(2025, 4, 16, 8, minute, tzinfo=UTC) for minute in (35, 36)]
    assert found.frame.select("open", "high", "low", "close").row(0) == (200.29, 200.63, 200.29, 200.5)


def test_download_of_yfinance_with_three_header_lines_is_read() -> None:
    found = bars_of("10_three_header_lines_MSFT.csv")
    assert set(found.frame["symbol"]) == {"MSFT"}
    assert found.frame["bar_start"].to_list() == [datetime(2024, 10, 2, 13, minute, tzinfo=UTC) for minute in (30, 31)]
    assert found.frame.select("open", "high", "low", "close").row(0) == (255.84, 256.53, 252.49, 254.52)
    assert not holds_trades(CASES / "10_three_header_lines_MSFT.csv", FileOptions())


def test_bars_older_than_any_calendar_are_read() -> None:
    assert bars_of("12_before_calendar_7203.T.csv", symbol="7203.T").frame.height == 8


def test_bar_of_the_future_is_refused_as_in_the_queue() -> None:
    found = bars_of("16_bar_of_2050.csv")
    assert [refusal.code for refusal in found.refusals] == ["future_timestamp"] * 2
    assert "2050-01-03T14:30:00Z" in found.refusals[0].reason


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path: Path) -> None:
    found = bars_of("17_blank_lines.csv")
    assert (found.frame.height, found.duplicates + found.frame.height, found.refusals) == (3, 3, ())
    text = (CASES / "17_blank_lines.csv").read_text()
    (tmp_path / "bars.csv").write_text(text + "soon,AAPL,1,1,1,1,1\n")
    refused = read_bars(tmp_path / "bars.csv", FileOptions(), clock=CLOCK).refusals
    assert [refusal.where for refusal in refused] == [f"line {len(text.splitlines()) + 1}"]


def test_fixed_point_prices_of_databento_are_divided() -> None:
    found = bars_of("19_fixed_point_prices.csv")
    assert found.frame["close"].to_list() == [176.2, 176.3]
    assert any("divided by 1e+09" in note for note in found.notes)


def test_negative_price_is_refused_with_the_reason() -> None:
    found = bars_of("22_negative_oil.csv")
    assert [refusal.code for refusal in found.refusals] == ["out_of_bounds"] * 3
    assert "expected low above 0, got -0.05: prices of 0 and below are not supported" in found.refusals[0].reason


def test_volume_of_minus_one_means_that_none_is_reported() -> None:
    found = bars_of("23_volume_minus_one.csv", symbol="EURUSD")
    assert found.frame["volume"].to_list() == [0.0, 0.0]
    assert "2 rows report no volume (empty or -1): their volume is 0" in found.notes
