"""Bars of a user's file. Rows in = landed + refused + duplicates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.market import TIMEFRAME_MINUTES, Timeframe
from surveillance_pipelines.hashing import sha256_file
from surveillance_pipelines.market.bar_frames import OHLC, complete_bars, empty_bars
from surveillance_pipelines.market.files.columns import StandardRows, known_times, standard_rows
from surveillance_pipelines.market.files.options import FileError, FileOptions
from surveillance_pipelines.market.files.result import FileResult, all_refusals, reading_of
from surveillance_pipelines.market.files.table import Table, load_table
from surveillance_pipelines.market.row_checks import CODE, DETAIL, check_bars
from surveillance_pipelines.market.source_resolution import resolve_bars
from surveillance_pipelines.market.timestamps import exchange_dates

_COLUMNS: Final = ("symbol", "time", *OHLC, "volume")

_JUDGED_BARS: Final = 6
"""Minimum number of bars of a symbol whose size is judged."""


def read_bars(path: Path, options: FileOptions, *, clock: Clock = SYSTEM_CLOCK) -> FileResult:
    """Return the bars of a file by their start.

    Bars of one symbol on several exchanges become one symbol per exchange. A daily bar starts at 00:00 UTC of its
    exchange's date, which is the date of the midnight that the file states, in whatever zone.

    Args:
        path: Parquet or text; see ``files.layouts`` for the names of columns and the vendors' layouts.
        options: facts that the file does not state.
        clock: for the knowledge time, which is the time of reading, and for times in the future.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    table = load_table(path, options)
    rows = standard_rows(table, _COLUMNS, path=path, options=options, allows_dates=options.timeframe in {None, "1d"})
    frame, venues = _split_venues(rows.frame, table.cells)
    timeframe, assumed = _timeframe(frame, path, table, options)
    starts, stamped = _starts(frame, rows, timeframe, path=path, table=table, options=options)
    checked = check_bars(starts, now_us=clock.now_us())
    batch_id = f"file-{sha256_file(path)[:16]}"
    bars = complete_bars(
        checked.good, source="file", adjustment=options.adjustment, timeframe=timeframe, batch_id=batch_id,
        knowledge_time=clock.now_us(),
    )  # fmt: skip
    notes = (*table.notes, *rows.notes, *venues, *assumed, *stamped)
    return FileResult(
        bars, all_refusals(table, checked), checked.duplicates, table.rows, batch_id,
        reading_of(table, rows, timeframe), notes,
    )  # fmt: skip


def read_known_bars(
    path: Path, options: FileOptions, *, as_of: int | None = None, clock: Clock = SYSTEM_CLOCK
) -> FileResult:
    """Return the bars of a file as known at an instant, with corrections as revisions.

    A file may state when each row became known (``knowledge_time`` or ``known_at``), and may then have several rows of
    one bar. The first is revision 0, a later one with different values the next revision, and one that repeats the
    previous values a duplicate. Without such a column, each bar became known at its end.

    Args:
        path: see ``read_bars``.
        options: see ``read_bars``.
        as_of: microseconds since the epoch; rows that became known later are ignored. None uses all rows.
        clock: for times in the future.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    table = load_table(path, options)
    rows = standard_rows(table, _COLUMNS, path=path, options=options, allows_dates=True)
    known = known_times(table, path, options)
    frame = rows.frame if known is None else _with_known_times(rows.frame, known.instants)
    frame, venues = _split_venues(frame, table.cells)
    timeframe, assumed = _timeframe(frame, path, table, options)
    starts, stamped = _starts(frame, rows, timeframe, path=path, table=table, options=options)
    checked = check_bars(starts, now_us=clock.now_us())
    batch_id = f"file-{sha256_file(path)[:16]}"
    bars = complete_bars(
        checked.good, source="file", adjustment="none", timeframe=timeframe, batch_id=batch_id,
        knowledge_time=None if known is None else pl.col("knowledge_time"),
    )  # fmt: skip
    resolved = resolve_bars(bars, empty_bars(), as_of=as_of)
    return FileResult(
        resolved.bars, all_refusals(table, checked), checked.duplicates + resolved.duplicates, table.rows, batch_id,
        reading_of(table, rows, timeframe), (*table.notes, *rows.notes, *venues, *assumed, *stamped),
        resolved.not_yet_known,
    )  # fmt: skip


def _with_known_times(rows: pl.DataFrame, known: pl.Series) -> pl.DataFrame:
    unreadable = pl.Series(known.is_null())
    reason = pl.lit("expected in knowledge_time an instant such as 2024-03-06T14:30:00Z, got none that can be read")
    return rows.with_columns(
        known.alias("knowledge_time"),
        pl.coalesce(CODE, pl.when(unreadable).then(pl.lit("bad_timestamp"))).alias(CODE),
        pl.coalesce(DETAIL, pl.when(unreadable).then(reason)).alias(DETAIL),
    )


def _split_venues(rows: pl.DataFrame, cells: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Rename a symbol that trades at several venues to one symbol per venue, because their prices differ."""
    places = [name for name in ("exchange", "market") if name in cells.columns]
    if not places:
        return rows, ()
    place = cells.select(pl.concat_str(places, separator=".", ignore_nulls=True).str.to_uppercase()).to_series()
    placed = rows.with_columns(place.alias("place"))
    several = placed.group_by("symbol").agg(pl.col("place").n_unique()).filter(pl.col("place") > 1)["symbol"].to_list()
    if not several:
        return rows, ()
    named = pl.concat_str("symbol", "place", separator=".")
    split = placed.with_columns(pl.when(pl.col("symbol").is_in(several)).then(named).otherwise(pl.col("symbol")))
    note = f"{sorted(several)} trade at several venues in this file: each venue became a separate symbol"
    return split.drop("place"), (note,)


def _starts(
    frame: pl.DataFrame, rows: StandardRows, timeframe: Timeframe, *, path: Path, table: Table, options: FileOptions
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the rows with the start of each bar, and notes."""
    if timeframe == "1d":
        dates = exchange_dates(rows.times, options.timezone)
        if dates is None:
            example = rows.times.instants.drop_nulls()[0]
            raise FileError(
                f"expected daily bars of {path.name} at midnight of their exchange, got times such as {example:%H:%M} "
                "UTC, which leave the date open",
                lacks="timezone",
            )
        return frame.with_columns(dates.alias("bar_start")).drop("time"), ()
    starts, stamp = frame.rename({"time": "bar_start"}), options.bar_stamp or table.layout.bar_stamp
    if stamp == "start":
        return starts, ()
    moved = pl.col("bar_start") - pl.duration(minutes=TIMEFRAME_MINUTES[timeframe])
    return starts.with_columns(moved.alias("bar_start")), ("the times of the file are the ends of the bars",)


def _timeframe(
    times: pl.DataFrame, path: Path, table: Table, options: FileOptions
) -> tuple[Timeframe, tuple[str, ...]]:
    """Return the given timeframe, else the most common distance between neighbouring bars, and notes."""
    if (stated := options.timeframe or table.layout.timeframe) is not None:
        return stated, ()
    ordered = times.select("symbol", "time").drop_nulls().sort("symbol", "time")
    gaps = ordered.select(gap=pl.col("time").diff().over("symbol").dt.total_seconds()).drop_nulls()
    common = gaps.filter(pl.col("gap") > 0)["gap"].mode().sort()
    if common.is_empty():
        return "1m", ("too few neighbouring bars to infer the timeframe: 1m is assumed",)
    by_seconds: dict[int, Timeframe] = {minutes * 60: name for name, minutes in TIMEFRAME_MINUTES.items()}
    seconds = int(common[0])
    if seconds not in by_seconds:
        raise FileError(
            f"expected bars of {', '.join(TIMEFRAME_MINUTES)}, those in {path.name} are {seconds} s apart: specify the "
            "timeframe, or read one-second bars as ticks"
        )
    _require_one_size(ordered, by_seconds, seconds, path)
    return by_seconds[seconds], ()


def _require_one_size(ordered: pl.DataFrame, sizes: Mapping[int, Timeframe], common: int, path: Path) -> None:
    """Check that no symbol has only bars of a larger size; rarely traded symbols have bars off any larger grid.

    Args:
        ordered: symbol, time; sorted.
        sizes: seconds → bar size.
        common: seconds between most bars of the file.
        path: for the message.

    Raises:
        FileError: if the file mixes bar sizes.
    """
    gap = pl.col("time").diff().over("symbol").dt.total_seconds()
    usual = ordered.with_columns(gap=gap).filter(pl.col("gap") > 0).group_by("symbol").agg(
        size=pl.col("gap").mode().min(), bars=pl.len() + 1
    )  # fmt: skip
    larger = usual.filter(pl.col("bars") >= _JUDGED_BARS, pl.col("size") > common, pl.col("size").is_in(list(sizes)))
    on_grid = ordered.join(larger, on="symbol").group_by("symbol", "size").agg(
        (pl.col("time").dt.epoch("s") % pl.col("size") == 0).all().alias("all")
    )  # fmt: skip
    for symbol, size, every in on_grid.sort("symbol").iter_rows():
        if every:
            raise FileError(
                f"expected bars of one size in {path.name}, those of {symbol} are {sizes[size]} bars and others "
                f"{sizes[common]} bars: split the file by bar size"
            )
