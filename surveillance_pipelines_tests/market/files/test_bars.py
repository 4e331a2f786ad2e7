import json
from datetime import UTC, date, datetime, time
from pathlib import Path

import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.contracts.frames import BAR_SCHEMA, TICK_SCHEMA
from surveillance_pipelines.market.aggregation import bars_from_ticks
from surveillance_pipelines.market.files.bars import read_bars
from surveillance_pipelines.market.files.options import FileError, FileOptions
from surveillance_pipelines.market.files.result import FileResult
from surveillance_pipelines.market.files.ticks import read_ticks

READ_AT = datetime(2024, 5, 1, tzinfo=UTC)
HEADER = "Timestamp,Ticker,Open,High,Low,Close,Adj Close,Volume\n"


def read_csv(folder: Path, lines: str, header: str = HEADER, **options: object) -> FileResult:
    path = folder / "bars.csv"
    path.write_text(header + lines)
    return read_bars(path, FileOptions(**options), clock=ManualClock(READ_AT))  # type: ignore[arg-type]


def test_read_bars_csv_with_other_names_and_a_zone_is_read(tmp_path: Path) -> None:
    lines = "2024-01-02 09:30,aapl,10,11,9,10.5,10.4,100\n2024-01-02 09:31,aapl,10.5,11,9,10.6,10.4,0\n"
    result = read_csv(tmp_path, lines, timezone="America/New_York", adjustment="split")
    assert result.frame.schema == BAR_SCHEMA
    first = result.frame.row(0, named=True)
    assert (first["symbol"], first["timeframe"], first["source"], first["adjustment"]) == (
        "AAPL",
        "1m",
        "file",
        "split",
    )
    assert first["bar_start"] == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    assert (first["close"], first["volume"], first["knowledge_time"]) == (10.5, 100.0, READ_AT)
    assert result.refusals == ()


BAD_ROWS = [
    ("2024-01-02T14:31:00Z,AAPL,10,x,9,10.5,10.5,100", "wrong_type"),
    ("2024-01-02T14:32:00Z,AAPL,10,,9,10.5,10.5,100", "missing_value"),
    ("2024-01-02T14:33:00Z,,10,11,9,10.5,10.5,100", "missing_value"),
    (",AAPL,10,11,9,10.5,10.5,100", "missing_value"),
    ("2024-01-02T14:33:00Z,AAPL,10,9,11,10.5,10.5,100", "inconsistent_bar"),
    ("2024-01-02T14:33:00Z,AAPL,12,11,9,10.5,10.5,100", "inconsistent_bar"),
    ("yesterday,AAPL,10,11,9,10.5,10.5,100", "bad_timestamp"),
    ("2024-01-02T14:34:00Z,AAPL,-1,11,-2,10.5,10.5,100", "out_of_bounds"),
    ("2024-01-02T14:34:00Z,AAPL,0,11,0,10.5,10.5,100", "out_of_bounds"),
    ("2024-01-02T14:34:00Z,AAPL,10,11,9,10.5,10.5,-100", "out_of_bounds"),
    ("2024-01-02T14:35:00Z,AAPL,10,inf,9,10.5,10.5,100", "non_finite"),
    ("2024-01-02T14:35:00Z,AAPL,NaN,11,9,10.5,10.5,100", "non_finite"),
    ("2024-01-02T14:35:07Z,AAPL,10,11,9,10.5,10.5,100", "misaligned"),
    ("2024-01-02T14:35:00Z,A B,10,11,9,10.5,10.5,100", "bad_symbol"),
    ("2024-01-02T14:30:00Z,AAPL,10,11,9,10.6,10.5,100", "conflicting_duplicate"),
]


@pytest.mark.parametrize(("row", "code"), BAD_ROWS)
def test_read_bars_keeps_a_bad_row_with_its_reason_and_lands_the_others(tmp_path: Path, row: str, code: str) -> None:
    good = "2024-01-02T14:30:00Z,AAPL,10,11,9,10.5,10.5,100\n"
    result = read_csv(tmp_path, f"{good}{row}\n{good}", timeframe="1m")
    assert [refusal.code for refusal in result.refusals] == [code]
    assert result.refusals[0].row == 1
    assert result.refusals[0].reason.startswith("expected ")
    assert [value or "" for value in json.loads(result.refusals[0].body).values()] == [
        value
        for _, value in sorted(zip(HEADER.strip().lower().replace(" ", "_").split(","), row.split(","), strict=True))
    ]
    assert (result.frame.height, result.duplicates, result.rows_in) == (1, 1, 3)


@pytest.mark.parametrize(
    ("stamp", "unit"),
    [(1704205800, "s"), (1704205800_000, "ms"), (1704205800_000_000, "us"), (1704205800_000_000_000, "ns")],
)
def test_read_bars_infers_the_unit_of_epochs_from_their_magnitude(tmp_path: Path, stamp: int, unit: str) -> None:
    columns = {"ts": [stamp], "symbol": ["A"], **{name: [1.0] for name in ("open", "high", "low", "close", "volume")}}
    path = tmp_path / f"{unit}.parquet"
    pl.DataFrame(columns).write_parquet(path)
    assert read_bars(path, FileOptions(timeframe="1m")).frame["bar_start"][0] == datetime(
        2024, 1, 2, 14, 30, tzinfo=UTC
    )


def test_read_bars_dates_are_daily_bars_from_midnight_utc(tmp_path: Path) -> None:
    lines = "2024-01-02,AAPL,10,11,9,10.5,10.4,100\n2024-01-03,AAPL,10,11,9,10.5,10.4,100\n"
    frame = read_csv(tmp_path, lines).frame
    assert set(frame["timeframe"]) == {"1d"}
    assert frame["bar_start"].to_list() == [datetime(2024, 1, day, tzinfo=UTC) for day in (2, 3)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_read_bars_dates_written_as_numbers_are_not_epochs(tmp_path: Path, suffix: str) -> None:
    prices = {name: [1.0, 1.0, 1.0] for name in ("open", "high", "low", "close", "volume")}
    table = pl.DataFrame({"date": [20240102, 20240103, 20240230], "symbol": ["A", "A", "A"], **prices})
    path = tmp_path / f"daily.{suffix}"
    table.write_csv(path) if suffix == "csv" else table.write_parquet(path)
    result = read_bars(path, FileOptions())
    assert result.frame["bar_start"].to_list() == [datetime(2024, 1, day, tzinfo=UTC) for day in (2, 3)]
    assert set(result.frame["timeframe"]) == {"1d"}
    assert [(refusal.code, refusal.row) for refusal in result.refusals] == [("bad_timestamp", 2)]


def test_read_bars_symbol_at_several_exchanges_becomes_several_symbols(tmp_path: Path) -> None:
    header = "ts,symbol,exchange,open,high,low,close,volume\n"
    lines = "".join(f"2024-01-02T14:3{n}:00Z,{s},{e},1,1,1,1,5\n" for n in (0, 1) for s, e in PLACES)
    result = read_csv(tmp_path, lines, header)
    assert set(result.frame["symbol"]) == {"BTCUSD.BITFINEX", "BTCUSD.COINBASE", "ETHUSD"}
    assert "BTCUSD" in result.notes[0]


PLACES = [("BTCUSD", "coinbase"), ("BTCUSD", "bitfinex"), ("ETHUSD", "coinbase")]


def test_read_bars_without_symbol_and_volume_columns_uses_the_arguments(tmp_path: Path) -> None:
    header = "ts,open,high,low,close\n"
    result = read_csv(tmp_path, "2024-01-02T14:30:00Z,1,1,1,1\n", header, symbol="spy")
    assert result.frame.select("symbol", "volume").row(0) == ("SPY", 0.0)
    assert any("volume" in note for note in result.notes)
    assert any("timeframe" in note for note in result.notes)


def test_read_bars_same_content_has_the_same_batch_id(tmp_path: Path) -> None:
    line = "2024-01-02T14:30:00Z,AAPL,10,11,9,10.5,10.5,100\n"
    first, again, other = (read_csv(tmp_path, lines) for lines in (line, line, line.replace("100", "101")))
    assert first.batch_id == again.batch_id != other.batch_id


@pytest.mark.parametrize(
    ("lines", "header", "options", "message"),
    [
        ("2024-01-02 09:30:00,A,1,1,1,1,1,1\n", HEADER, {}, "time zone"),
        ("2024-01-02 09:30:00,A,1,1,1,1,1,1\n", HEADER, {"timezone": "Mars/Olympus"}, "Mars/Olympus"),
        (
            "2024-01-02T14:30:00Z,1\n",
            "ts,Close\n",
            {},
            r"a column for symbol \(symbol or ticker or sym or instrument\); open \(open or o\).* has ts, Close; what",
        ),
        ("1,2,3\n", "ts,TS,close\n", {}, "each column once, bars.csv has ts more than once"),
        ("1,2,3\n", "ts,open,open\n", {}, "each column once, bars.csv has open more than once"),
        ("1,2,3,,\n", "ts,Close, close,,\n", {}, "each column once, bars.csv has close more than once"),
        ("", "", {}, "the file is empty"),
        (
            "".join(f"2024-01-02T14:30:0{n}Z,A,1,1,1,1,1,1\n" for n in range(5)),
            HEADER,
            {},
            "read one-second bars as ticks",
        ),
    ],
)
def test_read_bars_unreadable_file_explains_the_remedy(
    tmp_path: Path, lines: str, header: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(FileError, match=message):
        read_csv(tmp_path, lines, header, **options)


@pytest.mark.parametrize("name", ["absent.parquet", "bars.xlsx", "broken.parquet"])
def test_read_bars_missing_file_or_unknown_format_raises(tmp_path: Path, name: str) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"PK junk")
    with pytest.raises(FileError, match="expected"):
        read_bars(tmp_path / name, FileOptions())


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "rows", "timeframe"),
    [
        ("equity_minute/yahoo_1m_2019_2022", 139_356, "1m"),
        ("equity_minute/lean_minute_trade", 10_044, "1m"),
        ("equity_minute/eqker_1m_201902", 22_027, "1m"),
        ("equity_hour/lean_hour", 100_136, "1h"),
        ("equity_daily/yahoo_daily", 223_915, "1d"),
        ("crypto/freqtrade_5m", 34_517, "5m"),
        ("crypto/lean_crypto_minute", 14_871, "1m"),
        ("crypto/nautilus_btcperp_1m", 30_299, "1m"),
    ],
)
def test_read_bars_recorded_file_is_read_completely(shared_data: Path, name: str, rows: int, timeframe: str) -> None:
    result = read_bars(shared_data / f"{name}.parquet", FileOptions())
    assert (result.rows_in, result.frame.height, result.refusals, result.duplicates) == (rows, rows, (), 0)
    assert set(result.frame["timeframe"]) == {timeframe}


@pytest.mark.shared_data
def test_read_bars_recording_with_empty_rows_refuses_and_keeps_them(shared_data: Path) -> None:
    result = read_bars(shared_data / "dirty" / "yahoo_1m_duplicates_and_null_rows.parquet", FileOptions())
    assert (result.rows_in, result.frame.height, len(result.refusals), result.duplicates) == (8, 3, 5, 0)
    assert {refusal.code for refusal in result.refusals} == {"missing_value"}
    assert json.loads(result.refusals[0].body)["symbol"] == "EWA"


@pytest.mark.shared_data
def test_read_ticks_converts_one_second_bars_to_ticks(shared_data: Path) -> None:
    result = read_ticks(shared_data / "equity_second" / "lean_second_trade.parquet", FileOptions())
    assert result.frame.schema == TICK_SCHEMA
    assert result.rows_in == result.frame.height == 120_731
    assert result.frame["event_time"].is_sorted()
    seconds = pl.read_parquet(shared_data / "equity_second" / "lean_second_trade.parquet")
    bars = bars_from_ticks(result.frame)
    assert bars["volume"].sum() == seconds["volume"].sum()
    assert set(bars["symbol"]) == {"AIG", "BAC", "SPY"}


@pytest.mark.shared_data
def test_read_ticks_trades_keep_their_order_within_an_instant(shared_data: Path) -> None:
    path = shared_data / "equity_tick" / "lean_tick_trade.parquet"
    result = read_ticks(path, FileOptions())
    assert result.rows_in == result.frame.height == 909_122
    trades = pl.read_parquet(path).filter(pl.col("symbol") == "AIG").sort("ts", "seq")
    ours = result.frame.filter(pl.col("symbol") == "AIG")
    assert ours["price"].to_list() == trades["price"].to_list()


def test_read_ticks_flagged_and_malformed_trades_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(
        "ts,symbol,price,size,suspicious\n2024-01-02T14:30:00.5Z,A,10,5,0\n2024-01-02T14:30:00.5Z,A,10,5,0\n"
        "2024-01-02T14:30:01Z,A,99,5,1\n2024-01-02T14:30:02Z,A,-1,5,0\n2024-01-02T14:30:03Z,A,ten,5,0\n"
    )
    result = read_ticks(path, FileOptions())
    assert [refusal.code for refusal in result.refusals] == ["flagged", "out_of_bounds", "wrong_type"]
    assert result.frame["price"].to_list() == [10.0, 10.0]  # two equal trades are two trades
    assert set(result.frame["date"]) == {date(2024, 1, 2)}


@pytest.mark.parametrize(
    ("day", "clock", "zone"),
    [
        ("2024-01-02", "09:30", "America/New_York"),
        ("2024-01-02", "9:30:00", "America/New_York"),
        ("20240102", "093000", "America/New_York"),
        ("2024-01-02", "930", "America/New_York"),
        ("2024-01-02", "14:30Z", None),
        ("2024-01-02", "09:30:00-05:00", None),
    ],
)
def test_read_bars_combines_date_and_time_columns(tmp_path: Path, day: str, clock: str, zone: str | None) -> None:
    result = read_csv(tmp_path, f"{day},{clock},A,1,1,1,1,5\n", SPLIT_HEADER, timezone=zone, timeframe="1m")
    assert result.refusals == ()
    assert result.frame["bar_start"].to_list() == [datetime(2024, 1, 2, 14, 30, tzinfo=UTC)]


def test_read_bars_combines_date_and_time_columns_of_parquet(tmp_path: Path) -> None:
    prices = {name: [1.0] for name in ("open", "high", "low", "close", "volume")}
    days = {"date": [date(2024, 1, 2)], "time": [time(9, 30)], "symbol": ["A"]}
    pl.DataFrame({**days, **prices}).write_parquet(tmp_path / "apart.parquet")
    result = read_bars(tmp_path / "apart.parquet", FileOptions(timeframe="1m", timezone="America/New_York"))
    assert result.frame["bar_start"].to_list() == [datetime(2024, 1, 2, 14, 30, tzinfo=UTC)]


SPLIT_HEADER = "Date,Time,Symbol,Open,High,Low,Close,Volume\n"


def test_read_bars_refusals_show_the_value_and_the_line_of_the_file(tmp_path: Path) -> None:
    lines = (
        "2024-01-02,14:30Z,A,1,1,1,1,5\n2024-01-02,soon,A,1,1,1,1,5\n2024-01-02,14:31Z,A,abc,1,1,1,5\n"
        "2024-01-02,14:32Z,A,1,1,1,1,5\n"
    )
    result = read_csv(tmp_path, lines, SPLIT_HEADER, timeframe="1m")
    assert [(refusal.where, refusal.code, refusal.reason) for refusal in result.refusals] == [
        ("line 3", "bad_timestamp", "expected a time such as 2024-03-06T14:30:00Z, got '2024-01-02 soon' for date"),
        ("line 4", "wrong_type", "expected a number, got 'abc' for open"),
    ]
    assert result.frame.height == 2


@pytest.mark.parametrize(("clock", "zone"), [("9:30 AM", "America/New_York"), ("09:30:00 EST", None)])
def test_read_bars_combines_dates_with_clock_times_of_12_hours_or_with_a_zone(
    tmp_path: Path, clock: str, zone: str | None
) -> None:
    lines = f"2024-01-02,{clock},A,1,1,1,1,5\n2024-01-03,{clock},A,1,1,1,1,5\n"
    result = read_csv(tmp_path, lines, SPLIT_HEADER, timezone=zone, timeframe="1m")
    assert result.frame["bar_start"].to_list() == [datetime(2024, 1, day, 14, 30, tzinfo=UTC) for day in (2, 3)]


@pytest.mark.parametrize(("other", "value"), [("time", "2024-01-02T14:30:00Z"), ("ts_event", "1704205800")])
def test_read_bars_dates_next_to_unread_times_are_refused(tmp_path: Path, other: str, value: str) -> None:
    header, line = f"date,{other},symbol,open,high,low,close,volume\n", f"2024-01-02,{value},A,1,1,1,1,5\n"
    with pytest.raises(FileError, match=f"one column of times .* dates in date and values such as '{value}' in"):
        read_csv(tmp_path, line, header)
    named = read_csv(tmp_path, line, header, columns={"time": other})
    assert named.frame["bar_start"].to_list() == [datetime(2024, 1, 2, 14, 30, tzinfo=UTC)]


def test_read_bars_second_header_with_other_columns_is_refused(tmp_path: Path) -> None:
    first = "ts,symbol,open,high,low,close,volume\n"
    row = "2024-01-02T14:3{}:00Z,A,1,3,1,2,5\n"
    with pytest.raises(FileError, match=r"one header in bars\.csv, line 3 is another one, ts,symbol,close"):
        read_csv(tmp_path, row.format(0) + "ts,symbol,close,high,low,open,volume\n" + row.format(1), first)
    again = read_csv(tmp_path, row.format(0) + first + row.format(1), first)
    assert (again.frame.height, [refusal.where for refusal in again.refusals]) == (2, ["line 3"])


def test_read_bars_thousands_before_an_empty_last_column_are_refused(tmp_path: Path) -> None:
    header = "ts,symbol,open,high,low,close,volume,note\n"
    row = "2024-01-02T14:3{}:00Z,A,1,3,1,2,{},\n"
    result = read_csv(tmp_path, row.format(0, 999) + row.format(1, "1,234"), header)
    assert result.frame["volume"].to_list() == [999.0]
    assert [(refusal.where, refusal.code) for refusal in result.refusals] == [("line 3", "wrong_columns")]


def test_read_bars_separator_at_the_end_of_every_row_is_no_field(tmp_path: Path) -> None:
    rows = "".join(f"2024-01-02T14:3{minute}:00Z,A,1,3,1,2,5,\n" for minute in range(3))
    assert read_csv(tmp_path, rows, "ts,symbol,open,high,low,close,volume\n").frame.height == 3


def test_read_bars_unreadable_volumes_are_not_noted_as_zero(tmp_path: Path) -> None:
    result = read_csv(tmp_path, "2024-01-02T14:30:00Z,A,1,3,1,2,2,5K\n")
    assert not [note for note in result.notes if "volume of every row is 0" in note]


def minutes_and(symbol: str, every: int, count: int) -> str:
    """Return 30 one-minute bars of AAPL, and bars of another symbol ``every`` minutes."""
    row = "2024-01-02T{:02d}:{:02d}:00Z,{},10,11,9,10.5,10.5,100".format
    minutes = [row(14, minute, "AAPL") for minute in range(30)]
    others = [row(10 + k * every // 60, k * every % 60, symbol) for k in range(count)]
    return "\n".join([*minutes, *others]) + "\n"


def test_file_that_mixes_bar_sizes_is_refused_with_the_symbol(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"one size in bars.csv, those of BTC-USD are 1h bars and others 1m bars"):
        read_csv(tmp_path, minutes_and("BTC-USD", 60, 8))


@pytest.mark.parametrize(("every", "count"), [(7, 12), (60, 5)])
def test_rarely_traded_symbol_in_a_file_of_minutes_is_read(tmp_path: Path, every: int, count: int) -> None:
    result = read_csv(tmp_path, minutes_and("THIN", every, count))
    assert result.frame["timeframe"].unique().to_list() == ["1m"]
    assert result.frame.height == 30 + count


@pytest.mark.parametrize(
    ("volumes", "has_note"), [(("1.234", "17.700", "2.001"), True), (("1.234", "17.7", "2"), False)]
)
def test_volumes_that_may_have_separators_of_thousands_are_read_with_a_note(tmp_path: Path, volumes, has_note) -> None:
    lines = [f"2024-01-02T14:{minute}:00Z,A,1,1,1,1,1,{volume}" for minute, volume in enumerate(volumes, start=30)]
    result = read_csv(tmp_path, "\n".join(lines) + "\n")
    assert result.frame["volume"].to_list() == [float(volume) for volume in volumes]
    assert any("if the dot separates thousands" in note for note in result.notes) == has_note
