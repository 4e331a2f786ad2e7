"""``surveillance ingest``: bars from files, from Yahoo Finance, or from the simulated market, into the lake."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from surveillance_pipelines.commands.console import say
from surveillance_pipelines.commands.options import SymbolOfFile, TimeZone
from surveillance_pipelines.contracts.errors import InvalidInputError, OperationFailedError

if TYPE_CHECKING:
    from surveillance_pipelines.commands.landing import Landed

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
    from surveillance_pipelines.commands import landing
    from surveillance_pipelines.commands.files import first_reason, read_bars_file
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    visits, useless = [], []
    for path in paths:
        say(f"reading {path} …")
        found = read_bars_file(path, tz=tz, symbol=symbol, timeframe=timeframe, adjustment=adjustment.value)
        arrival = landing.Arrival("file", found.frame, found.refusals, found.duplicates, found.rows_in, found.notes)
        landed = landing.land(platform, arrival, calendar=calendar, detail={"path": str(path), "file": found.batch_id})
        landing.show(landed, found.notes)
        visits.append(landed)
        if found.frame.is_empty() or len(found.refusals) * 2 > found.rows_in:
            refused = f"{len(found.refusals):,} of {found.rows_in:,} refused; {first_reason(found)}"
            useless.append(f"{path} ({refused if found.rows_in else '0 rows'})")
    _say_what_next(visits)
    if useless:
        raise InvalidInputError(
            f"expected bars, more than half of the rows could not be used of {', '.join(useless)}",
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
    from surveillance_pipelines.commands import landing
    from surveillance_pipelines.commands.symbols import parse_symbols
    from surveillance_pipelines.commands.yahoo import fetch
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    wanted = parse_symbols(symbols) or platform.settings.symbols
    arrival = fetch(platform, wanted, start.date(), end.date(), interval)
    landed = landing.land(platform, arrival, calendar=calendar, detail={"symbols": list(wanted), "interval": interval})
    landing.show(landed, arrival.notes)
    if arrival.bars.is_empty():
        raise OperationFailedError(
            f"expected bars of {', '.join(wanted)} from Yahoo, got none",
            remedy="check the symbols, the days (1m goes back 30 days) and the network",
        )
    _say_what_next([landed])


@app.command("simulate")
def ingest_simulated(
    symbols: Annotated[str, typer.Option(help="Separated by commas; SYMBOLS when absent.")] = "",
    days: Annotated[int, typer.Option(min=1, max=2000, help="Sessions.")] = 10,
    last: Annotated[datetime | None, typer.Option(formats=_DAY, help="Last session; before today when absent.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal markets.")] = 7,
) -> None:
    """Land a synthetic market. Its rows say `simulated`, and never replace real ones."""
    from surveillance_pipelines.commands import landing
    from surveillance_pipelines.commands.simulation import CALENDAR, last_sessions, simulated_bars
    from surveillance_pipelines.commands.symbols import parse_symbols
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    wanted = parse_symbols(symbols) or platform.settings.symbols
    bars = simulated_bars(wanted, last_sessions(days, last.date() if last else None, platform.clock), seed)
    arrival = landing.Arrival("simulated", bars, (), 0, bars.height)
    landed = landing.land(platform, arrival, calendar=CALENDAR, detail={"seed": seed, "symbols": list(wanted)})
    landing.show(landed)
    _say_what_next([landed])


def _say_what_next(visits: Sequence["Landed"]) -> None:
    days = [day for landed in visits if landed.days for day in landed.days]
    if days:
        say(f"next: `surveillance backfill {min(days)} {max(days)}`, then `surveillance train`")
    elif any(landed.duplicates for landed in visits):
        say("nothing new: every bar was there before")
