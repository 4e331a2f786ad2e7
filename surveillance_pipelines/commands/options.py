"""Options shared by several commands: properties of a file that its columns do not state."""

from typing import Annotated

import typer

TimeZone = Annotated[str | None, typer.Option(help="Set the time zone of naive timestamps, such as America/New_York.")]
SymbolOfFile = Annotated[str | None, typer.Option(help="Set the symbol of a file without a symbol column.")]
CalendarOfBars = Annotated[
    str | None, typer.Option(help="Set the trading calendar; default: by the spelling of each symbol.")
]
