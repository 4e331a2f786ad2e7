"""Bars from files, from Yahoo Finance and from the simulator into the lake table ``bars_landed``.

Every source goes through ``land``. A bar lands when it differs from the newest landing of its source, so the newest
landing wins and a correction of a correction counts as one: 10, 11 and 10 again are three landings. A bar that repeats
the newest landing is a duplicate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.clock import now
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.market import LANDED_TABLE
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.services.instruments import register, span
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.market import Adjustment, Timeframe
    from surveillance_pipelines.market.client import SymbolOutcome
    from surveillance_pipelines.market.row_checks import RowRefusal

_YAHOO_REACH: Final = {"1m": timedelta(days=30), "5m": timedelta(days=60), "15m": timedelta(days=60)}
"""How far back Yahoo keeps bars of an interval; longer ones reach further."""
_PREDECESSOR: Final = "predecessor_known_at"
_CONTENT: Final = (
    "symbol", "timeframe", "bar_start", "open", "high", "low", "close", "volume", "source", "adjustment", _PREDECESSOR,
)  # fmt: skip
"""Columns that name a batch."""


@dataclass(frozen=True, slots=True)
class ReceivedBars:
    """The answer of a source.

    Attributes:
        source: of every bar.
        bars: ``BAR_SCHEMA``.
        refusals: rows that cannot be used, each with its reason.
        duplicates: rows that repeat another row of the same answer.
        rows_in: rows of the answer = bars + refusals + duplicates.
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
        """Whether there is no bar, or more than half of the rows were refused."""
        return self.bars.is_empty() or len(self.refusals) * 2 > self.rows_in

    @property
    def first_reason(self) -> str:
        """Place and reason of the first refused row; empty if none was refused."""
        return next((f"{refusal.where}: {refusal.reason}" for refusal in self.refusals), "")


@dataclass(frozen=True, slots=True)
class Ingestion:
    """The outcome of one ingestion run: rows in = landed + refused + duplicates.

    Attributes:
        received: the answer of the source.
        landed: ``BAR_SCHEMA``, the bars that were added.
        outcomes: symbol → how the vendor answered for it; empty for other sources.
        unfinished: bars left out because their interval is not over; they are not among the rows in.
    """

    received: ReceivedBars
    landed: "pl.DataFrame"
    outcomes: "Mapping[str, SymbolOutcome]" = field(default_factory=dict)
    unfinished: int = 0

    @property
    def duplicates(self) -> int:
        return self.received.duplicates + self.received.bars.height - self.landed.height

    @property
    def days(self) -> tuple[date, date] | None:
        """First and last day of the landed bars."""
        return None if self.landed.is_empty() else span(self.landed["date"])

    @property
    def missing(self) -> tuple[str, ...]:
        """Symbols of which the vendor gave no bars."""
        return tuple(sorted(symbol for symbol, ended in self.outcomes.items() if ended.outcome != "ok"))

    def per_symbol(self) -> "pl.DataFrame":
        """Return symbol, landed, duplicates, and the start of the first and the last bar received."""
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
        ).sort("symbol")


def ingest_file(
    stores: Stores,
    path: Path,
    *,
    timezone: str | None = None,
    symbol: str | None = None,
    timeframe: "Timeframe | None" = None,
    adjustment: "Adjustment" = "none",
    calendar: str | None = None,
) -> Ingestion:
    """Land the bars of a Parquet or CSV file; see ``market.files.read_bars`` for the options.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    from surveillance_pipelines.market.files import read_bars

    found = read_bars(
        path, timezone=timezone, symbol=symbol, timeframe=timeframe, adjustment=adjustment, clock=stores.clock
    )
    received = ReceivedBars("file", found.frame, found.refusals, found.duplicates, found.rows_in, found.notes)
    return land(stores, received, calendar=calendar, detail={"path": str(path), "file": found.batch_id})


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
    """Land Yahoo's bars of two days and all between.

    Args:
        stores: where they land.
        symbols: by Yahoo's names.
        first: first day.
        last: last day, included.
        interval: length of the bars.
        calendar: of new symbols; None to go by their spelling.
        fallback: recorded with the ingestion run: a silent queue is the reason for it.

    Raises:
        InvalidInputError: if Yahoo does not serve the interval, or the dates are out of order.
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
    answers = {symbol: ended.outcome for symbol, ended in result.outcomes.items()}
    detail = {"symbols": list(symbols), "interval": interval, "fallback": fallback, "outcomes": answers}
    done = land(stores, received, calendar=calendar, detail=detail, started_at=started_at)
    return Ingestion(received, done.landed, result.outcomes, result.unfinished)


def require_within_yahoo_reach(stores: Stores, first: date, interval: str) -> None:
    """Raise an ``InvalidInputError`` if Yahoo no longer keeps bars of an interval back to a day."""
    reach, today = _YAHOO_REACH.get(interval), stores.today()
    if reach is not None and first < today - reach:
        raise InvalidInputError(
            f"expected days from {today - reach} on, got {first}: Yahoo keeps {interval} bars for {reach.days} days",
            remedy="a later --start, or a longer --interval (1h, 1d)",
        )


def ingest_simulated(
    stores: Stores, symbols: Sequence[str], *, sessions: int, last: date | None = None, seed: int
) -> Ingestion:
    """Land a synthetic market of some New York sessions up to a day; before today when None."""
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
    """Land the bars that differ from the newest landing, register their symbols, and record the run and its refusals.

    The write is one transaction of the lake. Its id names the bars and the landings that they correct, so the same file
    handed over twice, or by two processes at once, lands once, and lands again after another correction.

    Args:
        stores: lake and database.
        received: the answer of a source.
        detail: recorded with the ingestion run.
        calendar: of new symbols; None to go by their spelling.
        started_at: when the source was asked; None for now.
    """
    from surveillance_pipelines.stores.ingestion_runs import IngestionRun, record_ingestion_run

    began = started_at or now(stores.clock)
    changed = _changed(stores, received.bars)
    if not received.bars.is_empty():
        first, last = span(received.bars["date"])
        symbols = received.bars["symbol"].unique()
        register(stores, symbols, source=received.source, calendar=calendar, first=first, last=last)
    done = Ingestion(received, _append(stores, received.source, changed))
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


def _changed(stores: Stores, bars: "pl.DataFrame") -> "pl.DataFrame":
    """Return the bars that differ from the newest landing of their source, with the time that one was known.

    A first landing keeps the knowledge time of its source. A correction is known when it lands, and after what it
    corrects: the order of knowledge times is the order of landings, whatever the source or a clock says.
    """
    import polars as pl

    from surveillance_pipelines.contracts.frames import BAR_SCHEMA, UTC_MICROSECONDS
    from surveillance_pipelines.market.bar_frames import BAR_KEY
    from surveillance_pipelines.market.resolution import without_repeats

    if bars.is_empty():
        return bars.with_columns(pl.lit(None, UTC_MICROSECONDS).alias(_PREDECESSOR))
    landed = stores.lake.read(
        LANDED_TABLE, days=span(bars["date"]), symbols=bars["symbol"].unique().to_list(), schema=BAR_SCHEMA
    )
    key = [*BAR_KEY, "source"]
    newest = landed.group_by(key).agg(pl.col("knowledge_time").max().alias(_PREDECESSOR))
    changed = without_repeats(bars, landed).join(newest, on=key, how="left", maintain_order="left")
    landing_at = pl.lit(stores.clock.now_us()).cast(UTC_MICROSECONDS)
    corrected = pl.max_horizontal("knowledge_time", landing_at, pl.col(_PREDECESSOR) + pl.duration(microseconds=1))
    known = pl.when(pl.col(_PREDECESSOR).is_null()).then("knowledge_time").otherwise(corrected)
    return changed.with_columns(known.alias("knowledge_time"))


def _append(stores: Stores, source: str, changed: "pl.DataFrame") -> "pl.DataFrame":
    """Add bars to the lake and return those added: none if another process has just added the very same."""
    import polars as pl

    bars = changed.drop(_PREDECESSOR)
    if changed.is_empty():
        return bars
    batch_id = f"{source}-{_content_hash(changed)[:24]}"
    bars = bars.with_columns(pl.lit(batch_id).alias("batch_id"))
    return bars if stores.lake.append(LANDED_TABLE, bars, batch_id=batch_id) else bars.clear()


def _content_hash(changed: "pl.DataFrame") -> str:
    """Return a hash of bars and of the landings that they correct; the time of their own landing is no part of it."""
    content = BytesIO()
    changed.select(_CONTENT).sort("symbol", "timeframe", "bar_start").write_csv(content)
    return sha256_bytes(content.getvalue())
