"""Bars brought in by a command: landed in the lake once, refused rows kept with their reason, the visit recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.clock import now
from surveillance_pipelines.commands.console import say, table
from surveillance_pipelines.commands.days import span
from surveillance_pipelines.commands.registration import register
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.services.platform import Platform

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.market.row_checks import RowRefusal

LANDED_TABLE: Final = "bars_landed"

_WHAT_MAKES_A_REPEAT: Final = (
    "symbol",
    "timeframe",
    "bar_start",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "source",
    "adjustment",
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a source gave: bars of ``BAR_SCHEMA``, rows that it could not use, and how many rows there were."""

    source: str
    bars: "pl.DataFrame"
    refusals: "Sequence[RowRefusal]"
    duplicates: int
    rows_in: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Landed:
    """Rows in = landed + refused + duplicates, in sum and per symbol."""

    per_symbol: "pl.DataFrame"  # symbol, landed, duplicates, first, last
    days: tuple[date, date] | None  # first and last day of what landed
    rows_in: int
    landed: int
    refused: int
    duplicates: int


def land(platform: Platform, arrival: Arrival, *, calendar: str | None = None, detail: dict[str, Any]) -> Landed:
    """Land what is new, register its symbols and sessions, keep what was refused, and record the visit.

    A bar that the table already holds with the same values from the same source is a duplicate, so a repeat of a file
    lands nothing. The write is one transaction of the lake, named by the hash of its content.

    Args:
        platform: whose lake and database.
        arrival: what the source gave.
        calendar: of new symbols; None to go by their spelling.
        detail: kept with the record of the visit.
    """
    from surveillance_pipelines.stores.ingestion_runs import IngestionRun, record_ingestion_run

    started = now(platform.clock)
    fresh = without_known(platform, arrival.bars)
    if not arrival.bars.is_empty():
        first, last = span(arrival.bars["date"])
        symbols = arrival.bars["symbol"].unique()
        register(platform, symbols, source=arrival.source, calendar=calendar, first=first, last=last)
    if not fresh.is_empty():
        batch_id = f"{arrival.source}-{content_hash(fresh)[:24]}"
        if not platform.lake.append(LANDED_TABLE, fresh.with_columns(batch_id=_literal(batch_id)), batch_id=batch_id):
            fresh = fresh.clear()  # another process has landed the very same bars since we looked
    landed = _count(arrival, fresh)
    visit = IngestionRun(
        source=arrival.source,
        started_at=started,
        finished_at=now(platform.clock),
        rows_in=landed.rows_in,
        landed=landed.landed,
        refusals=arrival.refusals,
        duplicates=landed.duplicates,
        detail=detail,
    )
    with platform.connect() as connection:
        record_ingestion_run(connection, visit)
    return landed


def without_known(platform: Platform, bars: "pl.DataFrame") -> "pl.DataFrame":
    """Return the bars that ``bars_landed`` does not hold yet."""
    if bars.is_empty() or not platform.lake.exists(LANDED_TABLE):
        return bars
    known = platform.lake.read(
        LANDED_TABLE,
        days=span(bars["date"]),
        symbols=bars["symbol"].unique().to_list(),
        columns=[*_WHAT_MAKES_A_REPEAT],
        schema=BAR_SCHEMA,
    )
    return bars.join(known, on=list(_WHAT_MAKES_A_REPEAT), how="anti", nulls_equal=True, maintain_order="left")


def content_hash(bars: "pl.DataFrame") -> str:
    """Return a hash of what the bars say; when and in which batch they came is no part of it."""
    content = BytesIO()
    bars.select(_WHAT_MAKES_A_REPEAT).sort("symbol", "timeframe", "bar_start").write_csv(content)
    return sha256_bytes(content.getvalue())


def show(landed: Landed, notes: Sequence[str] = ()) -> None:
    """Print rows per symbol and the sum."""
    rows = [tuple(row) for row in landed.per_symbol.iter_rows()]
    parts = f"{landed.landed:,} landed + {landed.refused:,} refused + {landed.duplicates:,} duplicates"
    title = f"{landed.rows_in:,} rows in = {parts}"
    table(title, ("symbol", "landed", "duplicates", "first", "last"), rows, right=("landed", "duplicates"))
    for note in notes:
        say(f"note: {note}")
    if landed.refused:
        say("refused rows are kept with their reason: `surveillance dead-letters list`", style="yellow")


def _count(arrival: Arrival, fresh: "pl.DataFrame") -> Landed:
    import polars as pl

    new = fresh.group_by("symbol").agg(landed=pl.len())
    per_symbol = (
        arrival.bars.group_by("symbol")
        .agg(rows=pl.len(), first=pl.col("bar_start").min(), last=pl.col("bar_start").max())
        .join(new, on="symbol", how="left")
        .select(
            "symbol",
            landed=pl.col("landed").fill_null(0).cast(pl.Int64),
            duplicates=pl.col("rows").cast(pl.Int64) - pl.col("landed").fill_null(0).cast(pl.Int64),
            first=pl.col("first").dt.to_string("%Y-%m-%d %H:%M"),
            last=pl.col("last").dt.to_string("%Y-%m-%d %H:%M"),
        )
        .sort("symbol")
    )
    repeats = arrival.duplicates + arrival.bars.height - fresh.height
    days = None if fresh.is_empty() else span(fresh["date"])
    return Landed(per_symbol, days, arrival.rows_in, fresh.height, len(arrival.refusals), repeats)


def _literal(text: str) -> Any:
    import polars as pl

    return pl.lit(text)
