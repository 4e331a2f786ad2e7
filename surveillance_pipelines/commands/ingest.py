"""``surveillance ingest``: bars from files, from Yahoo Finance, or from the simulated market, into the lake."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer
from typer.core import TyperGroup

from surveillance_pipelines.commands.console import counted, say, table
from surveillance_pipelines.commands.options import SymbolOfFile, TimeZone
from surveillance_pipelines.contracts.errors import InvalidInputError, OperationFailedError

if TYPE_CHECKING:
    from surveillance_pipelines.services.ingestion import Ingestion

_DAY = ["%Y-%m-%d"]


class FileByDefault(TyperGroup):
    """Lets ``ingest bars.parquet`` mean ``ingest file bars.parquet``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["file", *args]
        return super().parse_args(ctx, args)


class Adjustment(StrEnum):
    """What prices are adjusted for."""

    NONE = "none"
    SPLIT = "split"
    SPLIT_AND_DIVIDEND = "split+dividend"


app: Final = typer.Typer(
    cls=FileByDefault,
    no_args_is_help=True,
    help="Bring bars in: `ingest PATH…` for files, `ingest yahoo`, `ingest simulate`. A repeat lands nothing twice.",
)

Calendar = Annotated[
    str | None, typer.Option(help="Trading calendar of new symbols (XNYS, 24/7 …); by their spelling when absent.")
]


@app.command("file")
def ingest_files(
    paths: Annotated[list[Path], typer.Argument(help="Parquet or CSV files of bars.")],
    *,
    tz: TimeZone = None,
    symbol: SymbolOfFile = None,
    timeframe: Annotated[str | None, typer.Option(help="1m, 5m … 1d; read off the distances when absent.")] = None,
    adjustment: Annotated[Adjustment, typer.Option(help="What the prices are adjusted for.")] = Adjustment.NONE,
    calendar: Calendar = None,
) -> None:
    """Land the bars of files; rows that are not valid are kept apart with their reason."""
    from surveillance_pipelines.services.ingestion import ingest_file
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    runs, unusable = [], []
    for path in paths:
        say(f"reading {path} …")
        done = ingest_file(
            platform,
            path,
            timezone=tz,
            symbol=symbol,
            timeframe=cast("Any", timeframe),
            adjustment=adjustment.value,
            calendar=calendar,
        )
        show_ingestion(done)
        runs.append(done)
        received = done.received
        if received.mostly_refused:
            refused = f"{len(received.refusals):,} of {received.rows_in:,} refused; {received.first_reason}"
            unusable.append(f"{path} ({refused if received.rows_in else '0 rows'})")
    _show_next_step(runs)
    if unusable:
        raise InvalidInputError(
            f"expected bars, more than half of the rows could not be used of {', '.join(unusable)}",
            remedy="`surveillance dead-letters list` says why rows were refused; the others have landed",
        )


@app.command("yahoo")
def ingest_yahoo(
    start: Annotated[datetime, typer.Option(formats=_DAY, help="First day.")],
    end: Annotated[datetime, typer.Option(formats=_DAY, help="Last day, included.")],
    symbols: Annotated[str, typer.Option(help="Separated by commas; SYMBOLS when absent.")] = "",
    interval: Annotated[str, typer.Option(help="1m (at most 30 days back), 5m, 15m, 1h or 1d.")] = "1m",
    calendar: Calendar = None,
) -> None:
    """Land bars of Yahoo Finance."""
    from surveillance_pipelines.services.ingestion import ingest_yahoo, require_within_yahoo_reach
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    wanted = require_symbols(symbols.split(",")) or platform.settings.symbols
    require_within_yahoo_reach(platform, start.date(), interval)
    say(f"asking Yahoo Finance for {interval} bars of {counted(len(wanted), 'symbol')} …")
    done = ingest_yahoo(platform, wanted, start.date(), end.date(), interval=cast("Any", interval), calendar=calendar)
    for symbol in done.missing:
        ended = done.outcomes[symbol]
        say(f"  {symbol}: {ended.outcome} after {counted(ended.attempts, 'attempt')}: {ended.reason}", style="yellow")
    show_ingestion(done)
    if done.received.bars.is_empty():
        raise OperationFailedError(
            f"expected bars of {', '.join(wanted)} from Yahoo, got none",
            remedy="check the symbols, the days (1m goes back 30 days) and the network",
        )
    _show_next_step([done])


@app.command("simulate")
def ingest_simulated(
    symbols: Annotated[str, typer.Option(help="Separated by commas; SYMBOLS when absent.")] = "",
    days: Annotated[int, typer.Option(min=1, max=2000, help="Sessions.")] = 10,
    last: Annotated[datetime | None, typer.Option(formats=_DAY, help="Last session; before today when absent.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal markets.")] = 7,
) -> None:
    """Land a synthetic market. Its rows say `simulated`, and never replace real ones."""
    from surveillance_pipelines.services.ingestion import ingest_simulated
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    wanted = require_symbols(symbols.split(",")) or platform.settings.symbols
    done = ingest_simulated(platform, wanted, sessions=days, last=last.date() if last else None, seed=seed)
    show_ingestion(done)
    _show_next_step([done])


def show_ingestion(done: "Ingestion") -> None:
    """Print the rows per symbol, their sums and the notes of the reader."""
    received = done.received
    refused = len(received.refusals)
    sums = f"{done.landed.height:,} landed + {refused:,} refused + {done.duplicates:,} duplicates"
    columns = ("symbol", "landed", "duplicates", "first", "last")
    table(
        f"{received.rows_in:,} rows in = {sums}", columns, done.per_symbol().iter_rows(), right=("landed", "duplicates")
    )
    for note in received.notes:
        say(f"note: {note}")
    if refused:
        say("refused rows are kept with their reason: `surveillance dead-letters list`", style="yellow")


def _show_next_step(runs: "Sequence[Ingestion]") -> None:
    days = [day for done in runs if done.days for day in done.days]
    if days:
        say(f"next: `surveillance backfill {min(days)} {max(days)}`, then `surveillance train`")
    elif any(done.duplicates for done in runs):
        say("nothing new: every bar was there before")
