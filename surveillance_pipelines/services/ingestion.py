"""Ingests bars from files, Yahoo Finance and the simulator into the lake table ``bars_landed``.

All sources use ``land``. A bar is stored ("landed") if it differs from the newest landed version of its source, else it
is a duplicate. The newest version wins. A correction of a correction counts: 10, 11 and 10 again are three versions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.clock import now
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.market import LANDED_TABLE
from surveillance_pipelines.contracts.text import listed
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.services.instruments import register, span
from surveillance_pipelines.services.landed_bars import PREDECESSOR, changed_bars
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.market import Timeframe
    from surveillance_pipelines.market.calendar_choice import CalendarChoice
    from surveillance_pipelines.market.client import SymbolOutcome
    from surveillance_pipelines.market.files.options import FileOptions
    from surveillance_pipelines.market.row_checks import RowRefusal
    from surveillance_pipelines.stores.open_table import OpenTable

_YAHOO_REACH: Final = {"1m": timedelta(days=30), "5m": timedelta(days=60), "15m": timedelta(days=60)}
"""Interval → age of the oldest bars at Yahoo; longer intervals reach further back."""
_SHOWN: Final = 10
"""Maximum number of symbols in a note."""
_CONTENT: Final = (
    "symbol", "timeframe", "bar_start", "open", "high", "low", "close", "volume", "source", "adjustment", PREDECESSOR,
)  # fmt: skip
"""Columns hashed for the id of a batch."""


@dataclass(frozen=True, slots=True)
class ReceivedBars:
    """Bars received from a source.

    Attributes:
        source: source of all bars.
        bars: ``BAR_SCHEMA``.
        refusals: invalid rows with their reasons.
        duplicates: number of rows that repeat another received row.
        rows_in: number of received rows = bars + refusals + duplicates.
        notes: assumptions of the reader.
    """

    source: str
    bars: "pl.DataFrame"
    refusals: "Sequence[RowRefusal]" = ()
    duplicates: int = 0
    rows_in: int = 0
    notes: tuple[str, ...] = ()

    @property
    def mostly_refused(self) -> bool:
        """Whether no bar is valid or more than half of the rows were refused."""
        return self.bars.is_empty() or len(self.refusals) * 2 > self.rows_in

    @property
    def first_reason(self) -> str:
        """Place and reason of the first refused row; empty if none was refused."""
        return next((f"{refusal.where}: {refusal.reason}" for refusal in self.refusals), "")


@dataclass(frozen=True, slots=True)
class Ingestion:
    """Result of one ingestion run: rows in = landed + refused + duplicates.

    Attributes:
        received: bars received from the source.
        landed: ``BAR_SCHEMA``, the added bars.
        outcomes: symbol → outcome of the vendor's request; empty for other sources.
        unfinished: number of bars left out because their interval is not over; not part of ``rows_in``.
        calendars: symbol → its calendar, with the basis of the choice.
    """

    received: ReceivedBars
    landed: "pl.DataFrame"
    outcomes: "Mapping[str, SymbolOutcome]" = field(default_factory=dict)
    unfinished: int = 0
    calendars: "Mapping[str, CalendarChoice]" = field(default_factory=dict)

    @property
    def duplicates(self) -> int:
        return self.received.duplicates + self.received.bars.height - self.landed.height

    @property
    def days(self) -> tuple[date, date] | None:
        """First and last day of the landed bars."""
        return None if self.landed.is_empty() else span(self.landed["date"])

    @property
    def missing(self) -> tuple[str, ...]:
        """Symbols without bars from the vendor."""
        return tuple(sorted(symbol for symbol, ended in self.outcomes.items() if ended.outcome != "ok"))

    def per_symbol(self) -> "pl.DataFrame":
        """Return symbol, landed, duplicates, the start of the first and the last bar received, and the calendar."""
        import polars as pl

        added = self.landed.group_by("symbol").agg(landed=pl.len())
        rows = self.received.bars.group_by("symbol").agg(
            rows=pl.len(), first=pl.col("bar_start").min(), last=pl.col("bar_start").max()
        )
        counted = rows.join(added, on="symbol", how="left").with_columns(pl.col("landed").fill_null(0))
        return counted.select(
            "symbol",
            landed=pl.col("landed").cast(pl.Int64),
            duplicates=pl.col("rows").cast(pl.Int64) - pl.col("landed").cast(pl.Int64),
            first=pl.col("first").dt.to_string("%Y-%m-%d %H:%M"),
            last=pl.col("last").dt.to_string("%Y-%m-%d %H:%M"),
            calendar=pl.col("symbol").replace_strict(
                {symbol: choice.sentence for symbol, choice in self.calendars.items()},
                default="",
                return_dtype=pl.String,
            ),
        ).sort("symbol")

    def calendar_notes(self) -> list[str]:
        """Return notes about assumed calendars, and about bars before the first day of a calendar."""
        from surveillance_pipelines.market.calendars import calendar_begins

        assumed = sorted(symbol for symbol, choice in self.calendars.items() if choice.is_assumed)
        notes = [_assumed_calendars(assumed, self.calendars[assumed[0]].calendar)] if assumed else []
        if self.received.bars.is_empty():
            return notes
        first = span(self.received.bars["date"])[0]
        for name in sorted({choice.calendar for choice in self.calendars.values()}):
            begins = calendar_begins(name)
            if begins is not None and first < begins:
                notes.append(f"bars before {begins} are stored without sessions: the calendar {name} begins then")
        return notes


def ingest_file(
    stores: Stores, path: Path, options: "FileOptions", *, name: str = "", calendar: str | None = None
) -> Ingestion:
    """Ingest the bars of a Parquet or text file.

    Args:
        stores: lake and database.
        path: the file.
        options: facts that the file does not state.
        name: the file's name for people; default: its path.
        calendar: calendar of new symbols; None derives it from the spelling of each symbol.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    from surveillance_pipelines.market.files.bars import read_bars

    found = read_bars(path, options, clock=stores.clock)
    received = ReceivedBars("file", found.frame, found.refusals, found.duplicates, found.rows_in, found.notes)
    return land(stores, received, calendar=calendar, detail={"path": name or str(path), "file": found.batch_id})


def ingest_yahoo(
    stores: Stores,
    symbols: Sequence[str],
    first: date,
    last: date,
    *,
    interval: "Timeframe" = "1m",
    calendar: str | None = None,
    fallback: bool = False,
) -> Ingestion:
    """Ingest bars of a range of days from Yahoo.

    Args:
        stores: settings, lake and database.
        symbols: symbols in Yahoo's spelling.
        first: first day.
        last: last day, included.
        interval: length of the bars.
        calendar: calendar of new symbols; None derives it from the spelling of each symbol.
        fallback: whether missing queue data caused the request; recorded with the ingestion run.

    Raises:
        InvalidInputError: if Yahoo does not offer the interval, or the dates are out of order.
        NotReadyError: if yfinance is not installed.
    """
    from surveillance_pipelines.market.yahoo import fetch_bars

    settings = stores.settings
    started_at = now(stores.clock)
    result = fetch_bars(
        symbols,
        start=first,
        end=last + timedelta(days=1),
        interval=interval,
        adjustment=settings.yfinance_adjustment,
        cache_folder=stores.home / "cache" / "yfinance",
        batch_size=settings.yfinance_batch_size,
        max_attempts=settings.yfinance_max_attempts,
        clock=stores.clock,
    )
    notes = result.notes
    if result.unfinished:
        notes = (*notes, f"{result.unfinished:,} bars were left out because their interval is not over")
    received = ReceivedBars(
        "yfinance", result.frame, result.refusals, result.duplicates, result.rows_in - result.unfinished, notes
    )
    outcomes = {symbol: ended.outcome for symbol, ended in result.outcomes.items()}
    detail = {"symbols": list(symbols), "interval": interval, "fallback": fallback, "outcomes": outcomes}
    done = land(stores, received, calendar=calendar, detail=detail, started_at=started_at)
    return replace(done, outcomes=result.outcomes, unfinished=result.unfinished)


def require_within_yahoo_reach(stores: Stores, first: date, interval: str) -> None:
    """Raise ``InvalidInputError`` if Yahoo no longer has bars of an interval for a day."""
    reach, today = _YAHOO_REACH.get(interval), stores.today()
    if reach is not None and first < today - reach:
        raise InvalidInputError(
            f"expected days from {today - reach} on, got {first}: Yahoo keeps {interval} bars for {reach.days} days",
            remedy="set a later --start, or a longer --interval (1h, 1d)",
        )


def ingest_simulated(
    stores: Stores, symbols: Sequence[str], *, sessions: int, last: date | None = None, seed: int
) -> Ingestion:
    """Ingest simulated bars of the last New York sessions up to ``last``; None means the day before today."""
    from surveillance_pipelines.services.simulation import CALENDAR, last_sessions, simulated_bars

    bars = simulated_bars(symbols, last_sessions(sessions, last, stores.clock), seed)
    received = ReceivedBars("simulated", bars, rows_in=bars.height)
    return land(stores, received, calendar=CALENDAR, detail={"seed": seed, "symbols": list(symbols)})


def land(
    stores: Stores,
    received: ReceivedBars,
    *,
    detail: dict[str, Any],
    calendar: str | None = None,
    started_at: Any = None,
) -> Ingestion:
    """Store the bars that differ from the newest landed version, register their symbols, and record the run.

    The write is one lake transaction on top of the version that the bars were compared with; if another process commits
    first, they are compared again. Its id is a hash of the bars and of the versions that they correct. Therefore the
    same bars ingested twice, also concurrently, are stored once, and are stored again after another correction.

    Args:
        stores: lake and database.
        received: bars of a source.
        detail: details recorded with the ingestion run.
        calendar: calendar of new symbols; None derives it from the spelling of each symbol.
        started_at: start of the ingestion run; None means now.
    """
    from surveillance_pipelines.stores.ingestion_runs import IngestionRun, record_ingestion_run

    began = started_at or now(stores.clock)
    calendars: Mapping[str, CalendarChoice] = {}
    if not received.bars.is_empty():
        first, last = span(received.bars["date"])
        symbols = received.bars["symbol"].unique()
        calendars = register(stores, symbols, source=received.source, calendar=calendar, first=first, last=last)
    landed, received = _append_or_rebuild(stores, received)
    done = Ingestion(received, landed, calendars=calendars)
    run = IngestionRun(
        source=received.source,
        started_at=began,
        finished_at=now(stores.clock),
        rows_in=received.rows_in,
        landed=done.landed.height,
        refusals=received.refusals,
        duplicates=done.duplicates,
        detail=detail,
    )
    with stores.connect() as connection:
        record_ingestion_run(connection, run)
    return done


def _assumed_calendars(symbols: Sequence[str], calendar: str) -> str:
    return (
        f"calendar {calendar} is assumed for {listed(symbols, _SHOWN)}: DEFAULT_CALENDAR; set another with "
        "`surveillance instruments set SYMBOL --calendar NAME`"
    )


def _append_or_rebuild(stores: Stores, received: ReceivedBars) -> "tuple[pl.DataFrame, ReceivedBars]":
    """Append the bars; if files of their days are lost, first rebuild those that they came from, and note it."""
    from surveillance_pipelines.services.landed_repair import rebuild_landed
    from surveillance_pipelines.stores.lake_history import READ_ERRORS

    try:
        return _append(stores, received), received
    except READ_ERRORS as error:
        rebuilt = rebuild_landed(stores, received.bars, error)
        noted = replace(received, notes=(*received.notes, *rebuilt.notes))
        return (received.bars.clear() if rebuilt.left else _append(stores, received)), noted


def _append(stores: Stores, received: ReceivedBars) -> "pl.DataFrame":
    """Append the bars that differ from the newest landed version to the lake, and return them."""
    import polars as pl

    from surveillance_pipelines.contracts.frames import BAR_SCHEMA

    bars = received.bars
    if bars.is_empty():
        return bars
    days, symbols = span(bars["date"]), bars["symbol"].unique().to_list()

    def compare(table: "OpenTable | None") -> "tuple[pl.DataFrame, str] | None":
        landed = BAR_SCHEMA.to_frame() if table is None else table.read(days=days, symbols=symbols, schema=BAR_SCHEMA)
        changed = changed_bars(landed, bars, stores.clock.now_us())
        if changed.is_empty():
            return None
        batch_id = f"{received.source}-{_content_hash(changed)[:24]}"
        return changed.drop(PREDECESSOR).with_columns(pl.lit(batch_id).alias("batch_id")), batch_id

    added = stores.lake.append_compared(LANDED_TABLE, compare)
    return bars.clear() if added is None else added


def _content_hash(changed: "pl.DataFrame") -> str:
    """Return a hash of bars and of the versions that they correct; their landing time is not part of it."""
    content = BytesIO()
    changed.select(_CONTENT).sort("symbol", "timeframe", "bar_start").write_csv(content)
    return sha256_bytes(content.getvalue())
