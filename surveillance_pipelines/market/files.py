"""A user's own bars and ticks, Parquet or CSV. Rows in = landed + refused + duplicates: nothing vanishes."""

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
from surveillance_pipelines.market.resolution import resolve_bars
from surveillance_pipelines.market.row_checks import CODE, DETAIL, RowRefusal, judge_bars, judge_ticks


@dataclass(frozen=True, slots=True)
class FileResult:
    """What a file gave.

    Attributes:
        frame: ``BAR_SCHEMA`` or ``TICK_SCHEMA``, source ``file``.
        refusals: the rows that did not land, each with its reason.
        duplicates: rows that repeat another one exactly.
        rows_in: rows of the file.
        batch_id: ``file-`` and the start of the content's sha256: the same file lands once.
        notes: what the reader had to assume.
        not_yet_known: good rows that were learned after the instant asked for.
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
        """Place and reason of the first refused row; empty if none was refused."""
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
        timeframe: of the bars; None takes the most common distance between neighbours.
        timezone: of times without one.
        symbol: for a file without a symbol column.
        adjustment: what the prices are adjusted for.
        clock: for the knowledge time: what a file says is known when it is read.

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
    judged = judge_bars(rows.rename({"time": "bar_start"}))
    if not set(ALIASES["volume"]) & set(table.columns):
        notes += ("the file has no volume column: every bar says 0, which means no volume reported",)
    batch_id = f"file-{sha256_file(path)[:16]}"
    frame = complete_bars(
        judged.good, source="file", adjustment=adjustment, timeframe=found, batch_id=batch_id,
        knowledge_time=clock.now_us(),
    )  # fmt: skip
    return FileResult(frame, _placed(judged.refusals, path), judged.duplicates, table.height, batch_id, notes)


def read_known_bars(
    path: Path, *, timezone: str | None = None, symbol: str | None = None, as_of: int | None = None
) -> FileResult:
    """Return the bars of a file as they were known at an instant, corrections as revisions.

    A file may say when it learned each row (``knowledge_time`` or ``known_at``), and then hold several rows of one bar:
    the first one learned is revision 0, a later one with other values the next revision, one with the values before it
    a duplicate. Without such a column each bar was learned at its end.

    Args:
        path: see ``read_bars``.
        timezone: of times without one.
        symbol: for a file without a symbol column.
        as_of: microseconds since the epoch; rows learned later do not exist. None for all.

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
    judged = judge_bars(rows.rename({"time": "bar_start"}))
    batch_id = f"file-{sha256_file(path)[:16]}"
    bars = complete_bars(
        judged.good, source="file", adjustment="none", timeframe=timeframe, batch_id=batch_id,
        knowledge_time=None if known is None else pl.col("knowledge_time"),
    )  # fmt: skip
    resolved = resolve_bars(bars, empty_bars(), as_of=as_of)
    return FileResult(
        resolved.bars, _placed(judged.refusals, path), judged.duplicates + resolved.duplicates, table.height, batch_id,
        notes + assumed, resolved.not_yet_known,
    )  # fmt: skip


def _with_known_times(rows: pl.DataFrame, known: pl.Series) -> pl.DataFrame:
    unread = pl.Series(known.is_null())
    said = pl.lit("expected in knowledge_time an instant such as 2024-03-06T14:30:00Z, got none that can be read")
    return rows.with_columns(
        known.alias("knowledge_time"),
        pl.coalesce(CODE, pl.when(unread).then(pl.lit("bad_timestamp"))).alias(CODE),
        pl.coalesce(DETAIL, pl.when(unread).then(said)).alias(DETAIL),
    )


def read_ticks(
    path: Path, *, timezone: str | None = None, symbol: str | None = None, clock: Clock = SYSTEM_CLOCK
) -> FileResult:
    """Return the trades of a file in order of time; rows of one instant keep the order of the file.

    A file with ``price`` (and ``size`` or ``volume``) holds trades. One with OHLC holds bars of seconds: each becomes
    one tick at the bar's start, with its close and volume.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    table = load_table(path)
    price = "price" if {"price", "last"} & set(table.columns) else "close"
    wanted = ("symbol", "time", price, "volume", "suspicious")
    rows = pick_columns(table, wanted, path=path, symbol=symbol, timezone=timezone, dates=False)
    judged = judge_ticks(rows.rename({"time": "event_time", price: "price"}, strict=False))
    batch_id = f"file-{sha256_file(path)[:16]}"
    known = pl.lit(clock.now_us()).cast(UTC_MICROSECONDS)
    ticks = judged.good.with_columns(source=pl.lit("file"), knowledge_time=known).sort(
        "event_time", maintain_order=True
    )
    frame = to_tick_schema(ticks.drop("suspicious", strict=False))
    return FileResult(frame, _placed(judged.refusals, path), 0, table.height, batch_id)


def _placed(refusals: tuple[RowRefusal, ...], path: Path) -> tuple[RowRefusal, ...]:
    """Return refusals that count lines as an editor does, where the file has lines."""
    return tuple(replace(refusal, header_lines=1) for refusal in refusals) if is_text(path) else refusals


def _split_venues(rows: pl.DataFrame, table: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Give a symbol that trades at several places one name per place: their prices are not one series."""
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
    note = f"{sorted(several)} trade at several places in this file: each place became a symbol of its own"
    return split.drop("place"), (note,)


def _infer_timeframe(times: pl.DataFrame, path: Path) -> tuple[Timeframe, tuple[str, ...]]:
    """Return the timeframe that the most common distance between a symbol's neighbouring bars names."""
    ordered = times.select("symbol", "time").drop_nulls().sort("symbol", "time")
    gaps = ordered.select(gap=pl.col("time").diff().over("symbol").dt.total_seconds()).drop_nulls()
    common = gaps.filter(pl.col("gap") > 0)["gap"].mode().sort()
    if common.is_empty():
        return "1m", ("too few neighbouring bars to tell the timeframe: taken as 1m",)
    by_seconds: dict[int, Timeframe] = {minutes * 60: name for name, minutes in TIMEFRAME_MINUTES.items()}
    seconds = int(common[0])
    if seconds not in by_seconds:
        raise FileError(
            f"expected bars of {', '.join(TIMEFRAME_MINUTES)}, those in {path.name} are {seconds} s apart: name the "
            "timeframe, or read bars of seconds as ticks"
        )
    return by_seconds[seconds], ()
