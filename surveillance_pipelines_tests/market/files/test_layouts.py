"""Files in the layouts of vendors, with and without headers, and files that name their columns freely."""

import gzip
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.market.files.bars import read_bars
from surveillance_pipelines.market.files.layouts import NAMES
from surveillance_pipelines.market.files.options import FileError, FileOptions, parse_columns
from surveillance_pipelines.market.files.result import FileResult
from surveillance_pipelines.market.files.sets import files_of
from surveillance_pipelines.market.files.ticks import holds_trades, read_ticks

CLOCK = ManualClock(datetime(2026, 12, 1, tzinfo=UTC))
FIRST, SECOND = (datetime(2024, 3, 6, 14, minute, tzinfo=UTC) for minute in (30, 31))
PRICES = (10.0, 12.0, 9.0, 11.0, 500.0)
ROW = "10,12,9,11,500"
MS = 1_709_735_400_000


def read(folder: Path, name: str, text: str | bytes, **facts: Any) -> FileResult:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_bars(path, FileOptions(**facts), clock=CLOCK)


NEW_YORK = {"timezone": "America/New_York"}
SYMBOL = {"symbol": "AAPL"}
TABLE: dict[str, tuple[str, str | bytes, dict[str, Any]]] = {
    "Alpaca": (
        "a.csv",
        "symbol,timestamp,open,high,low,close,volume,trade_count,vwap\n"
        "AAPL,2024-03-06 14:30:00+00:00,10,12,9,11,500,7,10.5\nAAPL,2024-03-06 14:31:00+00:00,10,12,9,11,500,7,10.5\n",
        {},
    ),
    "Alpaca, short names": (
        "a.csv", "t,o,h,l,c,v,n,vw\n2024-03-06T14:30:00Z,10,12,9,11,500,7,10\n2024-03-06T14:31:00Z,10,12,9,11,500,7,10\n",
        SYMBOL,
    ),
    "Alpha Vantage, newest first": (
        "a.csv", f"timestamp,open,high,low,close,volume\n2024-03-06 09:31:00,{ROW}\n2024-03-06 09:30:00,{ROW}\n",
        {**SYMBOL, **NEW_YORK},
    ),
    "Binance in microseconds": (
        "AAPL1-1m-2024-03.csv",
        f"{MS}000,10,12,9,11,500,{MS + 59_999}999,1,2,3,4,0\n{MS + 60_000}000,10,12,9,11,500,{MS + 119_999}999,1,2,3,4,0\n",
        {},
    ),
    "Coinbase": (
        "c.csv", f"time,low,high,open,close,volume\n{MS // 1000},9,12,10,11,500\n{MS // 1000 + 60},9,12,10,11,500\n", SYMBOL
    ),
    "CryptoDataDownload, with a title": (
        "c.csv",
        "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USD\n"
        f"{MS + 60_000},2024-03-06 14:31:00,BTC/USD,10,12,9,11,500,5\n{MS},2024-03-06 14:30:00,BTC/USD,10,12,9,11,500,5\n",
        {"columns": {"time": "unix", "volume": "Volume BTC"}},
    ),
    "Databento with decimals": (
        "d.csv",
        "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
        "2024-03-06T14:30:00.000000000Z,33,2,38,10.000000000,12.000000000,9.000000000,11.000000000,500,AAPL\n"
        "2024-03-06T14:31:00.000000000Z,33,2,38,10.000000000,12.000000000,9.000000000,11.000000000,500,AAPL\n",
        {},
    ),
    "Dukascopy": (
        "d.csv",
        f"Gmt time,Open,High,Low,Close,Volume\n06.03.2024 14:30:00.000,{ROW}\n06.03.2024 14:31:00.000,{ROW}\n",
        SYMBOL,
    ),
    "IBKR": (
        "i.csv",
        f",date,open,high,low,close,volume,average,barCount\n0,2024-03-06 09:30:00-05:00,{ROW},10.5,9\n"
        f"1,2024-03-06 09:31:00-05:00,{ROW},10.5,9\n",
        SYMBOL,
    ),
    "IBKR, with a zone of the exchange": (
        "i.csv",
        f"date,open,high,low,close,volume,average,barCount\n20240306 09:30:00 US/Eastern,{ROW},10.5,9\n"
        f"20240306 09:31:00 US/Eastern,{ROW},10.5,9\n",
        SYMBOL,
    ),
    "Kraken": (
        "XBTUSD_1.csv", f"{MS // 1000},10,12,9,11,500,7\n{MS // 1000 + 60},10,12,9,11,500,7\n", {}
    ),
    "Lean minutes": (
        "20240306_aapl_minute_trade.csv",
        "34200000,100000,120000,90000,110000,500\n34260000,100000,120000,90000,110000,500\n",
        {},
    ),
    "MetaTrader 4": (
        "m.csv", f"2024.03.06,16:30,{ROW}\n2024.03.06,16:31,{ROW}\n", {**SYMBOL, "timezone": "Europe/Athens"}
    ),
    "MetaTrader 5, in UTF-16": (
        "m.csv",
        (
            "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\r\n"
            "2024.03.06\t16:30:00\t10\t12\t9\t11\t80\t500\t1\r\n2024.03.06\t16:31:00\t10\t12\t9\t11\t80\t500\t1\r\n"
        ).encode("utf-16"),
        {**SYMBOL, "timezone": "Europe/Athens"},
    ),
    "NinjaTrader, ends of bars": (
        "n.txt", "20240306 143100;10;12;9;11;500\n20240306 143200;10;12;9;11;500\n", SYMBOL
    ),
    "Nasdaq-like, day and clock apart": (
        "n.csv", f"Date,Time,Open,High,Low,Close,Vol\n03/06/2024,09:30,{ROW}\n03/06/2024,09:31,{ROW}\n",
        {**SYMBOL, **NEW_YORK, "date_order": "mdy"},
    ),
    "quoted, with semicolons": (
        "q.csv",
        '"Ticker";"Datetime";"Open";"High";"Low";"Close";"Volume"\n"AAPL";"2024-03-06T14:30:00Z";"10";"12";"9";"11";"500"\n'
        '"AAPL";"2024-03-06T14:31:00Z";"10";"12";"9";"11";"500"\n',
        {},
    ),
    "Stooq": (
        "s.txt",
        f"<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\nAAPL.US,1,20240306,153000,{ROW},0\n"
        f"AAPL.US,1,20240306,153100,{ROW},0\n",
        {"timezone": "Europe/Warsaw"},
    ),
    "yfinance, columns for each symbol": (
        "y.csv",
        "Price,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\nTicker,AAPL,MSFT,AAPL,MSFT,AAPL,MSFT,AAPL,MSFT,AAPL,MSFT\n"
        "Datetime,,,,,,,,,,\n2024-03-06 14:30:00+00:00,11,,12,,9,,10,,500,\n2024-03-06 14:31:00+00:00,11,1,12,1,9,1,10,1,500,1\n",
        {},
    ),
    "yfinance, grouped by symbol": (
        "y.csv",
        "Ticker,AAPL,AAPL,AAPL,AAPL,AAPL\nPrice,Open,High,Low,Close,Volume\nDatetime,,,,,\n"
        f"2024-03-06 14:30:00+00:00,{ROW}\n2024-03-06 14:31:00+00:00,{ROW}\n",
        {},
    ),
    "columns named by position": (
        "p.csv", f"x,{MS},{ROW}\nx,{MS + 60_000},{ROW}\n",
        {**SYMBOL, "columns": {"time": "2", "open": "3", "high": "4", "low": "5", "close": "6", "volume": "7"}},
    ),
    "columns named by name": (
        "p.csv", f"Zeit,Erster,Hoch,Tief,Schluss,Stück\n2024-03-06T14:30:00Z,{ROW}\n2024-03-06T14:31:00Z,{ROW}\n",
        {**SYMBOL, "columns": {"time": "Zeit", "open": "Erster", "high": "Hoch", "low": "Tief", "close": "Schluss",
                               "volume": "Stück"}},
    ),
    "gzip": (
        "g.csv.gz",
        gzip.compress(f"ts,symbol,open,high,low,close,volume\n2024-03-06T14:30Z,AAPL,{ROW}\n2024-03-06T14:31Z,AAPL,{ROW}\n".encode()),
        {},
    ),
    "byte order mark and old line ends": (
        "b.csv",
        b"\xef\xbb\xbf" + f"ts,symbol,open,high,low,close,volume\r2024-03-06T14:30Z,AAPL,{ROW}\r2024-03-06T14:31Z,AAPL,{ROW}\r".encode(),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", TABLE)
def test_layout_is_read(tmp_path: Path, layout: str) -> None:
    name, text, facts = TABLE[layout]
    found = read(tmp_path, name, text, **facts)
    assert found.refusals == ()
    main = found.frame.filter(pl.col("symbol") != "MSFT").sort("bar_start")
    assert main["bar_start"].to_list() == [FIRST, SECOND]
    assert main.select("open", "high", "low", "close", "volume").rows() == [PRICES, PRICES]
    assert set(found.frame["timeframe"]) == {"1m"}


def test_symbols_of_vendors_file_names_are_used_and_stated(tmp_path: Path) -> None:
    for layout, symbol in (("Binance in microseconds", "AAPL1"), ("Kraken", "XBTUSD"), ("Lean minutes", "AAPL")):
        name, text, facts = TABLE[layout]
        found = read(tmp_path, name, text, **facts)
        assert set(found.frame["symbol"]) == {symbol}
        assert any(f"symbol {symbol}, from the file's name" in note for note in found.notes)


TRADES = {
    "Binance trades": ("BTCUSDT-trades-2024-03-06.csv", f"1,10.5,2,21,{MS},True,True\n2,10.6,3,31.8,{MS + 500},False,True\n", {}),
    "Kraken trades": ("XBTUSD.csv", f"{MS // 1000},10.5,2\n{MS // 1000}.5,10.6,3\n", {}),
    "Polygon trades": (
        "t.csv", f"ticker,price,sip_timestamp,size\nAAPL,10.5,{MS}000000,2\nAAPL,10.6,{MS + 500}000000,3\n", {}
    ),
    "generic": ("t.csv", "time,price,qty\n2024-03-06T14:30:00Z,10.5,2\n2024-03-06T14:30:00.5Z,10.6,3\n", SYMBOL),
}  # fmt: skip


@pytest.mark.parametrize("layout", TRADES)
def test_trades_are_read(tmp_path: Path, layout: str) -> None:
    name, text, facts = TRADES[layout]
    path, options = tmp_path / name, FileOptions(**facts)
    path.write_text(text)
    assert holds_trades(path, options)
    found = read_ticks(path, options, clock=CLOCK)
    assert found.refusals == ()
    assert found.frame["event_time"].to_list() == [FIRST, FIRST.replace(microsecond=500_000)]
    assert found.frame.select("price", "volume").rows() == [(10.5, 2.0), (10.6, 3.0)]


@pytest.mark.parametrize(
    ("text", "facts", "message"),
    [
        ("1,2,3\n4,5,6\n", {}, "no header line, its first row is 1,2,3; what to do: `--columns"),
        (f"{MS},10,12,9,11\n", SYMBOL, "no header line"),
        ("ts,close\n2024-03-06T14:30:00Z,1\n", SYMBOL, "a column for open"),
        (f"ts,{ROW}\n", {"columns": {"time": "when"}}, "no header line|a column 'when' for time"),
        ('{"Note": "call frequency"}\n', {}, "no header line"),
    ],
)
def test_file_of_no_known_layout_asks_for_its_columns(
    tmp_path: Path, text: str, facts: dict[str, Any], message: str
) -> None:
    with pytest.raises(FileError, match=message):
        read(tmp_path, "x.csv", text, **facts)


def test_daily_bars_that_leave_the_date_open_ask_for_the_zone(tmp_path: Path) -> None:
    rows = "".join(f"2024-03-0{day}T05:00:00Z,{ROW}\n" for day in (6, 7, 8))
    text = f"timestamp,open,high,low,close,volume\n{rows}"
    with pytest.raises(FileError, match="leave the date open; what to do: `--tz"):
        read(tmp_path, "x.csv", text, symbol="AAPL")
    found = read(tmp_path, "x.csv", text, symbol="AAPL", timezone="America/New_York")
    assert found.frame["bar_start"].to_list() == [datetime(2024, 3, day, tzinfo=UTC) for day in (6, 7, 8)]


def test_row_with_an_unclosed_quote_or_too_few_fields_is_refused_alone(tmp_path: Path) -> None:
    text = f'ts,symbol,open,high,low,close,volume\n2024-03-06T14:29Z,"AAPL,{ROW}\n2024-03-06T14:30Z,AAPL,{ROW}\n2024-03,A\n'
    found = read(tmp_path, "x.csv", text, timeframe="1m")
    assert found.frame["bar_start"].to_list() == [FIRST]
    assert [(refusal.where, refusal.code) for refusal in found.refusals] == [
        ("line 2", "wrong_columns"), ("line 4", "wrong_columns"),
    ]  # fmt: skip
    assert (found.rows_in, found.duplicates) == (3, 0)


def test_folder_and_archive_are_their_files(tmp_path: Path) -> None:
    text = f"ts,symbol,open,high,low,close,volume\n2024-03-06T14:30Z,AAPL,{ROW}\n"
    folder = tmp_path / "bars"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.csv", "deep/a.csv", ".hidden.csv", "notes.md"):
        (folder / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "bars.zip", "w") as archive:
        archive.writestr("../../evil.csv", text)
        archive.writestr("x/b.csv", text)
        archive.writestr("__MACOSX/._b.csv", text)
    with files_of(folder) as files:
        assert [str(file.path.relative_to(folder)) for file in files] == ["b.csv", "deep/a.csv"]
    with files_of(tmp_path / "bars.zip") as files:
        assert [file.name.removeprefix(f"{tmp_path}/") for file in files] == [
            "bars.zip/../../evil.csv",
            "bars.zip/x/b.csv",
        ]
        assert [read_bars(file.path, FileOptions(timeframe="1m"), clock=CLOCK).frame.height for file in files] == [1, 1]
        places = [file.path for file in files]
    assert not any(place.exists() for place in places)
    assert not (tmp_path.parent / "evil.csv").exists()


@pytest.mark.parametrize("name", ["empty", "bad.zip", "empty.zip"])
def test_folder_or_archive_without_readable_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"PK junk")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.md", "x")
    with pytest.raises(FileError, match="expected"), files_of(tmp_path / name):
        pass


@pytest.mark.parametrize("text", ["time", "time=", "when=ts", "time=a,time=b"])
def test_columns_option_that_cannot_be_parsed_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        parse_columns(text, NAMES)


def test_columns_option() -> None:
    assert parse_columns("time=window_start, open=o", NAMES) == {"time": "window_start", "open": "o"}
