"""Options shared by several commands: properties of a file that its columns do not state."""

from typing import Annotated

import typer

from surveillance_pipelines.contracts.market import BarStamp, DateOrder, EpochUnit, Timeframe

TimeZone = Annotated[str | None, typer.Option(help="Set the time zone of naive timestamps, such as America/New_York.")]
SymbolOfFile = Annotated[str | None, typer.Option(help="Set the symbol of a file without a symbol column.")]
CalendarOfBars = Annotated[
    str | None,
    typer.Option(help="Set the trading calendar; default: as registered, else by the spelling of each symbol."),
]
Columns = Annotated[
    str,
    typer.Option(help="Name the columns of the file, such as time=window_start,open=o or, by position, time=1,open=2."),
]
Unit = Annotated[EpochUnit | None, typer.Option(help="Set the unit of epoch numbers; default: by their size.")]
DateOrderOption = Annotated[
    DateOrder | None, typer.Option("--date-order", help="Set the order of day and month in dates such as 03/04/2024.")
]
PriceDivisor = Annotated[
    float | None, typer.Option(min=1e-12, help="Divide the prices, such as by 1e9 for fixed-point numbers.")
]
BarTime = Annotated[
    BarStamp | None,
    typer.Option(
        "--bar-time", help="Set whether times are the start or the end of bars; default: as the vendor, else start."
    ),
]
BarSize = Annotated[Timeframe | None, typer.Option("--timeframe", help="Set the bar size; default: detected.")]
