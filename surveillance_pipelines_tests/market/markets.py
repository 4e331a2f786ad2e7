"""Small synthetic markets for the tests of this folder."""

from datetime import UTC, date, datetime
from functools import cache

import polars as pl

from surveillance_pipelines.contracts.frames import BAR_SCHEMA, conform
from surveillance_pipelines.contracts.market import Source
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.market.bars_to_ticks import to_tick_schema
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.simulator import default_market, simulate

FIRST, LAST = date(2024, 3, 6), date(2024, 3, 13)
"""Six sessions, during which daylight saving time starts."""
SYMBOLS = ("AAPL", "MSFT", "NVDA", "SPY")


@cache
def sessions() -> pl.DataFrame:
    return build_sessions("XNYS", FIRST, LAST)


@cache
def session_table() -> SessionTable:
    return SessionTable.from_frame(sessions())


@cache
def market_bars() -> pl.DataFrame:
    return simulate(default_market(SYMBOLS, seed=11), sessions())


def minute(hour: int, minutes: int, second: float = 0.0) -> datetime:
    whole = int(second)
    return datetime(2024, 3, 6, hour, minutes, whole, round((second - whole) * 1e6), tzinfo=UTC)


def bar(start: datetime, close: float, *, source: Source = "file", known: datetime | None = None) -> pl.DataFrame:
    """Return one 1-minute bar of AAPL."""
    row = {"symbol": "AAPL", "bar_start": start, "open": close, "high": close + 1, "low": close - 1, "close": close}
    frame = pl.DataFrame([{**row, "volume": 10.0}])
    whole = complete_bars(frame, source=source, adjustment="none", timeframe="1m", batch_id="test")
    return whole if known is None else conform(whole.with_columns(knowledge_time=pl.lit(known)), BAR_SCHEMA)


def ticks(*rows: tuple[datetime, float, float, str]) -> pl.DataFrame:
    """Return ticks of AAPL from (event time, price, volume, outcome), in the order of receipt."""
    columns = ("event_time", "price", "volume", "outcome")
    frame = pl.DataFrame([dict(zip(columns, row, strict=True)) for row in rows])
    numbered = frame.with_row_index("source_message_id").with_columns(symbol=pl.lit("AAPL"), source=pl.lit("sqs"))
    return to_tick_schema(numbered)
