"""Files and messages of the scripted day: the market of the demo as CSV, a damaged file, and messages to refuse."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import polars as pl

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.services.demo_market import build_market, served_ticks

SEED: Final = 7
_COPIES: Final = 5
"""Messages of each kind to refuse."""


def market_files(folder: Path, symbols: Sequence[str]) -> tuple[Path, Path, int]:
    """Write twelve sessions of bars and the ticks of the next session, with planted anomalies, as CSV.

    Returns:
        Path of the bars, path of the ticks, and the number of ticks.
    """
    market = build_market(symbols, SEED, SYSTEM_CLOCK)
    bars, ticks = folder / "bars.csv", folder / "ticks.csv"
    columns = ("symbol", "open", "high", "low", "close", "volume")
    market.history.select(pl.col("bar_start").alias("ts"), *columns).write_csv(bars)
    sent = served_ticks(market, SEED)
    sent.select(pl.col("event_time").alias("ts"), "symbol", "price", "volume").write_csv(ticks)
    return bars, ticks, sent.height


def newest_file(table: Path) -> tuple[Path, str]:
    """Return a data file of the newest day of a lake table, and the day."""
    days = sorted(folder for folder in table.iterdir() if folder.name.startswith("date="))
    return next(days[-1].glob("**/*.parquet")), days[-1].name.removeprefix("date=")


def damage(file: Path) -> None:
    """Overwrite the second half of a file with zeros."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


def dead_letter_messages(symbol: str) -> list[SendEntry]:
    """Return messages that the platform refuses: of an unknown symbol, without JSON, and without a positive price."""
    now = SYSTEM_CLOCK.now_us() - round(timedelta(minutes=2) / timedelta(microseconds=1))
    ticks = [encode_tick(Tick(symbol, 100.0 + i, 1.0, now + i * MICROSECONDS)) for i in range(_COPIES)]
    negative = [encode_tick(Tick("AAPL", -1.0 - i, 1.0, now + i * MICROSECONDS)) for i in range(_COPIES)]
    broken = [f"price of AAPL is {i}" for i in range(_COPIES)]
    bodies = [(symbol, body) for body in ticks] + [("AAPL", body) for body in (*negative, *broken)]
    return [SendEntry(body, group, f"{now}-{i}") for i, (group, body) in enumerate(bodies)]
