"""``surveillance ingest``: load bars from files, Yahoo Finance or the simulator into the lake."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from typer.core import TyperGroup

from surveillance_pipelines.commands.console import counted, echo, price_cell, table
from surveillance_pipelines.commands.options import (
    BarSize,
    BarTime,
    Columns,
    DateOrderOption,
    PriceDivisor,
    SymbolOfFile,
    TimeZone,
    Unit,
)
from surveillance_pipelines.contracts.errors import InvalidInputError, OperationFailedError

if TYPE_CHECKING:
    from surveillance_pipelines.services.files import FileOptions, NamedFile
    from surveillance_pipelines.services.ingestion import Ingestion

_DAY = ["%Y-%m-%d"]

YahooInterval = Literal["1m", "5m", "15m", "1h", "1d"]


class FileByDefault(TyperGroup):
    """Group with the default command ``file``: ``ingest bars.parquet`` means ``ingest file bars.parquet``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["file", *args]
        return super().parse_args(ctx, args)


class Adjustment(StrEnum):
    """Price adjustments."""

    NONE = "none"
    SPLIT = "split"
    SPLIT_AND_DIVIDEND = "split+dividend"


app: Final = typer.Typer(
    cls=FileByDefault,
    no_args_is_help=True,
    help="Load bars: `ingest PATH…` for files, `ingest yahoo`, `ingest simulate`. Repeating a command adds no rows.",
)

Calendar = Annotated[
    str | None, typer.Option(help="Set the trading calendar of new symbols (XNYS, 24/7 …); default: by spelling.")
]


@app.command("file")
def ingest_files(
    paths: Annotated[list[Path], typer.Argument(help="Parquet or CSV files of bars, folders or ZIP archives of them.")],
    *,
    tz: TimeZone = None,
    symbol: SymbolOfFile = None,
    columns: Columns = "",
    unit: Unit = None,
    date_order: DateOrderOption = None,
    bar_time: BarTime = None,
    price_divisor: PriceDivisor = None,
    timeframe: BarSize = None,
    adjustment: Annotated[Adjustment, typer.Option(help="Declare the price adjustment.")] = Adjustment.NONE,
    calendar: Calendar = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how the files are read; store nothing.")] = False,
) -> None:
    """Load bars from files; invalid rows are stored as dead letters with their reason."""
    from surveillance_pipelines.services.files import all_files, file_options

    facts = file_options(
        timezone=tz, symbol=symbol, columns=columns, unit=unit, date_order=date_order, bar_stamp=bar_time,
        price_divisor=price_divisor, timeframe=timeframe, adjustment=adjustment.value,
    )  # fmt: skip
    with all_files(paths) as files:
        if dry_run:
            _preview(files, facts, calendar)
        else:
            _ingest(files, facts, calendar)


def _ingest(files: "Sequence[NamedFile]", facts: "FileOptions", calendar: str | None) -> None:
    from surveillance_pipelines.services.ingestion import ingest_file
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    runs: list[Ingestion] = []
    unusable: list[str] = []
    for number, file in enumerate(files, start=1):
        echo(f"reading {file.name} …" if len(files) == 1 else f"reading {file.name} ({number} of {len(files)}) …")
        try:
            done = ingest_file(platform, file.path, facts, name=file.name, calendar=calendar)
        except InvalidInputError as error:
            if len(files) == 1:
                raise
            echo(f"  not read: {error}", style="yellow")
            unusable.append(f"{file.name} (not read)")
            continue
        show_ingestion(done)
        runs.append(done)
        received = done.received
        if received.mostly_refused:
            refused = f"{len(received.refusals):,} of {received.rows_in:,} refused; {received.first_reason}"
            unusable.append(f"{file.name} ({refused if received.rows_in else '0 rows'})")
    _show_next_step(runs)
    if unusable:
        raise InvalidInputError(
            f"expected at least half of the rows of each file to be valid, got {', '.join(unusable)}",
            remedy="the valid rows are stored; `surveillance dead-letters list` shows why rows were refused, and "
            "`surveillance ingest --dry-run` how a file is read",
        )


def _preview(files: "Sequence[NamedFile]", facts: "FileOptions", calendar: str | None) -> None:
    """Print how each file is read; store nothing."""
    from surveillance_pipelines.services.file_preview import preview_file
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    for file in files:
        seen = preview_file(platform, file.path, facts, calendar=calendar)
        table(f"{file.name} would be read as", ("property", "value"), seen.properties)
        rows = [(*row[:2], *map(price_cell, row[2:6]), *row[6:]) for row in seen.first_rows]
        table("first rows", seen.columns, rows, right=seen.columns[2:])
        if seen.refusals:
            table("first refused rows", ("row", "code", "reason"), seen.refusals)
    echo("nothing is stored; without --dry-run, the valid rows are")


@app.command("yahoo")
def ingest_yahoo(
    start: Annotated[datetime, typer.Option(formats=_DAY, help="First day.")],
    end: Annotated[datetime, typer.Option(formats=_DAY, help="Last day, included.")],
    symbols: Annotated[str, typer.Option(help="Load these symbols, separated by commas; default: SYMBOLS.")] = "",
    interval: Annotated[
        YahooInterval, typer.Option(help="Load bars of this size; bars of 1m reach at most 30 days back.")
    ] = "1m",
    calendar: Calendar = None,
) -> None:
    """Load bars from Yahoo Finance."""
    from surveillance_pipelines.services.ingestion import ingest_yahoo, require_within_yahoo_reach
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    wanted = require_symbols(symbols.split(",")) or platform.settings.symbols
    require_within_yahoo_reach(platform, start.date(), interval)
    echo(f"requesting {interval} bars of {counted(len(wanted), 'symbol')} from Yahoo Finance …")
    done = ingest_yahoo(platform, wanted, start.date(), end.date(), interval=interval, calendar=calendar)
    for symbol in done.missing:
        ended = done.outcomes[symbol]
        echo(f"  {symbol}: {ended.outcome} after {counted(ended.attempts, 'attempt')}: {ended.reason}", style="yellow")
    show_ingestion(done)
    if done.received.bars.is_empty():
        raise OperationFailedError(
            f"expected bars of {', '.join(wanted)} from Yahoo, got none",
            remedy="check the symbols, the days (1m bars are available for 30 days) and the network",
        )
    _show_next_step([done])


@app.command("simulate")
def ingest_simulated(
    symbols: Annotated[str, typer.Option(help="Simulate these symbols, separated by commas; default: SYMBOLS.")] = "",
    days: Annotated[int, typer.Option(min=1, max=2000, help="Simulate this many sessions.")] = 10,
    last: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Last session; default: the last one before today.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Set the random seed; equal seeds give equal markets.")] = 7,
) -> None:
    """Load bars of a simulated market. Their source is `simulated`; they never replace real bars."""
    from surveillance_pipelines.services.ingestion import ingest_simulated
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    wanted = require_symbols(symbols.split(",")) or platform.settings.symbols
    done = ingest_simulated(platform, wanted, sessions=days, last=last.date() if last else None, seed=seed)
    show_ingestion(done)
    _show_next_step([done])


def show_ingestion(done: "Ingestion") -> None:
    """Print the rows per symbol, the totals and the notes of the reader."""
    received = done.received
    refused = len(received.refusals)
    sums = f"{done.landed.height:,} landed + {refused:,} refused + {done.duplicates:,} duplicates"
    columns = ("symbol", "landed", "duplicates", "first", "last", "calendar")
    table(
        f"{received.rows_in:,} rows in = {sums}", columns, done.per_symbol().iter_rows(), right=("landed", "duplicates")
    )
    for note in (*received.notes, *done.calendar_notes()):
        echo(f"note: {note}")
    if refused:
        echo("`surveillance dead-letters list` shows the refused rows with their reasons", style="yellow")


def _show_next_step(runs: "Sequence[Ingestion]") -> None:
    from surveillance_pipelines.services.backfill import steps_after_landing

    landed = [done.landed for done in runs if not done.landed.is_empty()]
    for step in steps_after_landing(landed):
        echo(step)
    if not landed and any(done.duplicates for done in runs):
        echo("no new bars: all bars were stored before")
