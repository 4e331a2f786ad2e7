"""Options that several commands share: what a file of bars or ticks leaves unsaid."""

from typing import Annotated

import typer

TimeZone = Annotated[str | None, typer.Option(help="Time zone of naive timestamps, such as America/New_York.")]
SymbolOfFile = Annotated[str | None, typer.Option(help="For a file without a symbol column.")]
CalendarOfBars = Annotated[str | None, typer.Option(help="Trading calendar; by the symbols' spelling when absent.")]
