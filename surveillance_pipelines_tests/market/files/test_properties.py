"""Any bars, written in any layout and any form of time, are read back equal, or refused with a reason."""

import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.market.files.bars import read_bars
from surveillance_pipelines.market.files.options import FileOptions

CLOCK = ManualClock(datetime(2026, 12, 1, tzinfo=UTC))
NEW_YORK: Final = ZoneInfo("America/New_York")
Writer = Callable[[datetime], str]


def _local(form: str) -> Writer:
    return lambda at: at.astimezone(NEW_YORK).strftime(form)


TIMES: Final[Mapping[str, tuple[Writer, dict[str, Any]]]] = {
    "ISO": (lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ"), {}),
    "offset": (lambda at: at.astimezone(NEW_YORK).isoformat(), {}),
    "basic": (lambda at: at.strftime("%Y%m%dT%H%M%SZ"), {}),
    "local": (_local("%Y-%m-%d %H:%M"), {"timezone": "America/New_York"}),
    "slashes": (_local("%m/%d/%Y %I:%M %p"), {"timezone": "America/New_York", "date_order": "mdy"}),
    "dots": (lambda at: at.strftime("%d.%m.%Y %H:%M:%S UTC"), {}),
    "digits": (lambda at: at.strftime("%Y%m%d%H%M%S"), {"timezone": "UTC"}),
    "s": (lambda at: str(round(at.timestamp())), {}),
    "ms": (lambda at: str(round(at.timestamp()) * 1000), {}),
    "ns": (lambda at: f"{round(at.timestamp())}000000000", {}),
    "s with decimals": (lambda at: f"{round(at.timestamp())}.000", {}),
}
SEPARATORS: Final = (",", ";", "\t", "|")
HEADERS: Final = (
    ("ts", "symbol", "open", "high", "low", "close", "volume"),
    ("volume", "Close", "Low", "High", "Open", "Ticker", "Date Time"),
    ("t", "sym", "o", "h", "l", "c", "v"),
    ("<TIMESTAMP>", "<TICKER>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
)
KEYS: Final = ("bar_start", "symbol", "open", "high", "low", "close", "volume")
_ORDERS: Final = {0: KEYS, 1: ("volume", "close", "low", "high", "open", "symbol", "bar_start"), 2: KEYS, 3: KEYS}


@st.composite
def bars(draw: st.DrawFn) -> pl.DataFrame:
    """Draw 1-minute bars of up to three symbols, without a gap, not on a day when clocks change."""
    start = draw(st.datetimes(datetime(2001, 1, 2), datetime(2025, 12, 1)))  # noqa: DTZ001
    begin = start.replace(second=0, microsecond=0, tzinfo=UTC)
    if begin.month in {3, 11}:  # those days have a test of their own
        begin = begin.replace(month=6, day=min(begin.day, 28))
    price = st.floats(1e-6, 1e9, allow_nan=False).map(lambda value: float(f"{value:.9g}"))
    rows: list[dict[str, Any]] = []
    for symbol in draw(
        st.lists(st.sampled_from(["AAPL", "BTC-USD", "600519.SS", "BRK.B"]), min_size=1, max_size=3, unique=True)
    ):
        for minute in range(draw(st.integers(2, 6))):
            low, *middle, high = sorted(draw(st.tuples(price, price, price, price)))
            volume = float(draw(st.integers(0, 10**9)))
            rows.append(
                {"bar_start": begin + timedelta(minutes=minute), "symbol": symbol, "open": middle[0], "high": high,
                 "low": low, "close": middle[1], "volume": volume}
            )  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"bar_start": pl.Datetime("us", "UTC")})


def write(rows: pl.DataFrame, path: Path, stamp: Writer, header: int, separator: str, *, quoted: bool) -> None:
    order = _ORDERS[header]
    around = '"' if quoted else ""
    lines = [separator.join(f"{around}{name}{around}" for name in HEADERS[header])]
    for row in rows.iter_rows(named=True):
        cells = [stamp(row[key]) if key == "bar_start" else f"{row[key]}" for key in order]
        lines.append(separator.join(f"{around}{cell}{around}" for cell in cells))
    path.write_text("\n".join(lines) + "\n")


@given(
    rows=bars(), form=st.sampled_from(sorted(TIMES)), header=st.integers(0, len(HEADERS) - 1),
    separator=st.sampled_from(SEPARATORS), quoted=st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_bars_in_any_layout_are_read_back_equal(
    rows: pl.DataFrame, form: str, header: int, separator: str, quoted: bool
) -> None:
    stamp, facts = TIMES[form]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.csv"
        write(rows, path, stamp, header, separator, quoted=quoted)
        found = read_bars(path, FileOptions(**facts), clock=CLOCK)
    assert found.refusals == ()
    assert found.frame["timeframe"].unique().to_list() == ["1m"]
    assert found.frame.select(KEYS).rows() == rows.sort("symbol", "bar_start").rows()


_DAMAGES: Final[Mapping[str, Callable[[str], str]]] = {
    "cut": lambda line: line[: len(line) // 2],
    "longer": lambda line: f"{line},1",
    "letters": lambda line: line.replace(line.split(",")[3], "n/a", 1),
    "thousands": lambda line: line.replace(line.split(",")[6], "1,234,567", 1),
    "no time": lambda line: "," + line.split(",", 1)[1],
}


@given(rows=bars(), damages=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(sorted(_DAMAGES))), max_size=4))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_damaged_rows_are_refused_and_the_others_are_read_back_equal(
    rows: pl.DataFrame, damages: list[tuple[int, str]]
) -> None:
    harmed = {place: name for place, name in damages if place < rows.height}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.csv"
        write(rows, path, TIMES["ISO"][0], 0, ",", quoted=False)
        header, *lines = path.read_text().splitlines()
        lines = [_DAMAGES[harmed[place]](line) if place in harmed else line for place, line in enumerate(lines)]
        path.write_text("\n".join([header, *lines]))
        found = read_bars(path, FileOptions(timeframe="1m"), clock=CLOCK)
    kept = rows.with_row_index("row").filter(~pl.col("row").is_in(list(harmed))).drop("row")
    assert found.frame.select(KEYS).rows() == kept.sort("symbol", "bar_start").rows()
    assert sorted(refusal.line or 0 for refusal in found.refusals) == sorted(place + 2 for place in harmed)
    assert found.rows_in == rows.height
