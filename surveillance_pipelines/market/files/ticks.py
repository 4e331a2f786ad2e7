"""Trades of a user's file. Rows in = accepted + refused."""

from pathlib import Path

import polars as pl

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.hashing import sha256_file
from surveillance_pipelines.market.bars_to_ticks import to_tick_schema
from surveillance_pipelines.market.files.columns import column_of, standard_rows
from surveillance_pipelines.market.files.options import FileOptions
from surveillance_pipelines.market.files.result import FileResult, all_refusals, reading_of
from surveillance_pipelines.market.files.table import load_table
from surveillance_pipelines.market.row_checks import check_ticks


def read_ticks(path: Path, options: FileOptions, *, clock: Clock = SYSTEM_CLOCK) -> FileResult:
    """Return the trades of a file in order of time; rows of the same instant keep their order in the file.

    A file with ``price`` (and ``size`` or ``volume``) has trades. A file with OHLC has one-second bars; each becomes
    one tick at the bar's start, with the bar's close and volume.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    table = load_table(path, options)
    price = "close" if column_of(table, "price", options) is None else "price"
    wanted = ("symbol", "time", price, "volume", "suspicious")
    rows = standard_rows(table, wanted, path=path, options=options, allows_dates=False)
    named = rows.frame.rename({"time": "event_time", price: "price"}, strict=False)
    checked = check_ticks(named, now_us=clock.now_us())
    batch_id = f"file-{sha256_file(path)[:16]}"
    known = pl.lit(clock.now_us()).cast(UTC_MICROSECONDS)
    ticks = checked.good.with_columns(source=pl.lit("file"), knowledge_time=known).sort(
        "event_time", maintain_order=True
    )
    frame = to_tick_schema(ticks.drop("suspicious", strict=False))
    notes = (*table.notes, *rows.notes)
    return FileResult(frame, all_refusals(table, checked), 0, table.rows, batch_id, reading_of(table, rows), notes)


def holds_trades(path: Path, options: FileOptions) -> bool:
    """Return whether a file holds trades or bars shorter than a minute, which count as trades, instead of bars.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    table = load_table(path, options)
    if column_of(table, "price", options) is not None and column_of(table, "open", options) is None:
        return True
    if column_of(table, "open", options) is None:
        return False
    rows = standard_rows(table, ("symbol", "time"), path=path, options=options, allows_dates=True)
    times = rows.frame["time"].drop_nulls()
    return bool((times.dt.truncate("1m") != times).any())
