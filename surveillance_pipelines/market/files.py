"""Bars and ticks from a user's Parquet or CSV file. Rows in = landed + refused + duplicates."""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import TIMEFRAME_MINUTES, Adjustment, Timeframe
from surveillance_pipelines.hashing import sha256_file
from surveillance_pipelines.market.bar_frames import OHLC, complete_bars, empty_bars
from surveillance_pipelines.market.bars_to_ticks import to_tick_schema
from surveillance_pipelines.market.file_columns import (
    ALIASES,
    FileError,
    is_text,
    known_times,
    load_table,
    pick_columns,
)
from surveillance_pipelines.market.row_checks import CODE, DETAIL, RowRefusal, check_bars, check_ticks
from surveillance_pipelines.market.source_resolution import resolve_bars


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result of reading a file.

    Attributes:
        frame: ``BAR_SCHEMA`` or ``TICK_SCHEMA``, source ``file``.
        refusals: rows that did not land, each with its reason.
        duplicates: number of rows that repeat another one exactly.
        rows_in: number of rows of the file.
        batch_id: ``file-`` and the start of the content's sha256, so that a file lands once.
        notes: assumptions made while reading.
        not_yet_known: number of valid rows that became known after the requested instant.
    """

    frame: pl.DataFrame
    refusals: tuple[RowRefusal, ...]
    duplicates: int
    rows_in: int
    batch_id: str
    notes: tuple[str, ...] = ()
    not_yet_known: int = 0

    @property
    def first_reason(self) -> str:
        """Position and reason of the first refused row; empty if none was refused."""
        return next((f"{refusal.where}: {refusal.reason}" for refusal in self.refusals), "")


def read_bars(
    path: Path,
    *,
    timeframe: Timeframe | None = None,
    timezone: str | None = None,
    symbol: str | None = None,
    adjustment: Adjustment = "none",
    clock: Clock = SYSTEM_CLOCK,
) -> FileResult:
    """Return the bars of a file. Times are the start of each bar.

    Args:
        path: ``.parquet``, ``.csv`` or ``.csv.gz``; column names as in ``file_columns.ALIASES``. Bars of one symbol on
            several exchanges become one symbol per exchange. Daily bars may carry dates; they start at 00:00 UTC.
        timeframe: length of the bars; None infers it from the most common distance between neighbouring bars.
        timezone: time zone of times without one.
        symbol: symbol of a file without a symbol column.
        adjustment: adjustment of the prices.
        clock: for the knowledge time, which is the time of reading.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    table = load_table(path)
    rows = pick_columns(
        table, ("symbol", "time", *OHLC, "volume"), path=path, symbol=symbol, timezone=timezone,
        dates=timeframe in {None, "1d"},
    )  # fmt: skip
    rows, notes = _split_venues(rows, table)
    found, assumed = (timeframe, ()) if timeframe is not None else _infer_timeframe(rows, path)
    notes += assumed
    checked = check_bars(rows.rename({"time": "bar_start"}))
    if not set(ALIASES["volume"]) & set(table.columns):
        notes += ("the file has no volume column: the volume of every bar is 0, which means no volume reported",)
    batch_id = f"file-{sha256_file(path)[:16]}"
    frame = complete_bars(
        checked.good, source="file", adjustment=adjustment, timeframe=found, batch_id=batch_id,
        knowledge_time=clock.now_us(),
    )  # fmt: skip
    return FileResult(frame, _placed(checked.refusals, path), checked.duplicates, table.height, batch_id, notes)


def read_known_bars(
    path: Path, *, timezone: str | None = None, symbol: str | None = None, as_of: int | None = None
) -> FileResult:
    """Return the bars of a file as known at an instant, with corrections as revisions.

    A file may state when each row became known (``knowledge_time`` or ``known_at``), and may then have several rows of
    one bar. The first is revision 0, a later one with different values the next revision, and one that repeats the
    previous values a duplicate. Without such a column, each bar became known at its end.

    Args:
        path: see ``read_bars``.
        timezone: time zone of times without one.
        symbol: symbol of a file without a symbol column.
        as_of: microseconds since the epoch; rows that became known later are ignored. None uses all rows.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    table = load_table(path)
    rows = pick_columns(
        table, ("symbol", "time", *OHLC, "volume"), path=path, symbol=symbol, timezone=timezone, dates=True
    )
    known = known_times(table, path, timezone)
    if known is not None:
        rows = _with_known_times(rows, known)
    rows, notes = _split_venues(rows, table)
    timeframe, assumed = _infer_timeframe(rows, path)
    checked = check_bars(rows.rename({"time": "bar_start"}))
    batch_id = f"file-{sha256_file(path)[:16]}"
    bars = complete_bars(
        checked.good, source="file", adjustment="none", timeframe=timeframe, batch_id=batch_id,
        knowledge_time=None if known is None else pl.col("knowledge_time"),
    )  # fmt: skip
    resolved = resolve_bars(bars, empty_bars(), as_of=as_of)
    return FileResult(
        resolved.bars, _placed(checked.refusals, path), checked.duplicates + resolved.duplicates, table.height,
        batch_id, notes + assumed, resolved.not_yet_known,
    )  # fmt: skip


def _with_known_times(rows: pl.DataFrame, known: pl.Series) -> pl.DataFrame:
    unreadable = pl.Series(known.is_null())
    reason = pl.lit("expected in knowledge_time an instant such as 2024-03-06T14:30:00Z, got none that can be read")
    return rows.with_columns(
        known.alias("knowledge_time"),
        pl.coalesce(CODE, pl.when(unreadable).then(pl.lit("bad_timestamp"))).alias(CODE),
        pl.coalesce(DETAIL, pl.when(unreadable).then(reason)).alias(DETAIL),
    )


def read_ticks(
    path: Path, *, timezone: str | None = None, symbol: str | None = None, clock: Clock = SYSTEM_CLOCK
) -> FileResult:
    """Return the trades of a file in order of time; rows of the same instant keep their order in the file.

    A file with ``price`` (and ``size`` or ``volume``) has trades. A file with OHLC has one-second bars; each becomes
    one tick at the bar's start, with the bar's close and volume.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    table = load_table(path)
    price = "price" if {"price", "last"} & set(table.columns) else "close"
    wanted = ("symbol", "time", price, "volume", "suspicious")
    rows = pick_columns(table, wanted, path=path, symbol=symbol, timezone=timezone, dates=False)
    checked = check_ticks(rows.rename({"time": "event_time", price: "price"}, strict=False))
    batch_id = f"file-{sha256_file(path)[:16]}"
    known = pl.lit(clock.now_us()).cast(UTC_MICROSECONDS)
    ticks = checked.good.with_columns(source=pl.lit("file"), knowledge_time=known).sort(
        "event_time", maintain_order=True
    )
    frame = to_tick_schema(ticks.drop("suspicious", strict=False))
    return FileResult(frame, _placed(checked.refusals, path), 0, table.height, batch_id)


def _placed(refusals: tuple[RowRefusal, ...], path: Path) -> tuple[RowRefusal, ...]:
    """Return refusals with line numbers that count the header, if the file is text."""
    return tuple(replace(refusal, header_lines=1) for refusal in refusals) if is_text(path) else refusals


def _split_venues(rows: pl.DataFrame, table: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Rename a symbol that trades at several venues to one symbol per venue, because their prices differ."""
    places = [name for name in ("exchange", "market") if name in table.columns]
    if not places:
        return rows, ()
    place = table.select(pl.concat_str(places, separator=".", ignore_nulls=True).str.to_uppercase()).to_series()
    placed = rows.with_columns(place.alias("place"))
    several = placed.group_by("symbol").agg(pl.col("place").n_unique()).filter(pl.col("place") > 1)["symbol"].to_list()
    if not several:
        return rows, ()
    named = pl.concat_str("symbol", "place", separator=".")
    split = placed.with_columns(pl.when(pl.col("symbol").is_in(several)).then(named).otherwise(pl.col("symbol")))
    note = f"{sorted(several)} trade at several venues in this file: each venue became a separate symbol"
    return split.drop("place"), (note,)


def _infer_timeframe(times: pl.DataFrame, path: Path) -> tuple[Timeframe, tuple[str, ...]]:
    """Return the timeframe that equals the most common distance between neighbouring bars, and notes."""
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
    return by_seconds[seconds], ()
