"""Options that several commands share: properties of a file that the file itself does not state."""

from typing import Annotated

import typer

TimeZone = Annotated[str | None, typer.Option(help="Time zone of naive timestamps, such as America/New_York.")]
SymbolOfFile = Annotated[str | None, typer.Option(help="For a file without a symbol column.")]
CalendarOfBars = Annotated[str | None, typer.Option(help="Trading calendar; by the symbols' spelling when absent.")]
