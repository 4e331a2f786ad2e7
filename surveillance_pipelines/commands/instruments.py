"""``surveillance instruments``: which symbols are watched, and on which calendar they trade."""

from typing import Annotated, Final

import typer

from surveillance_pipelines.commands.console import say, table

app: Final = typer.Typer(help="Which symbols are watched.", no_args_is_help=True)


@app.command("list")
def list_instruments() -> None:
    """Show the instrument table."""
    from surveillance_pipelines.services import instruments
    from surveillance_pipelines.services.platform import open_platform

    rows = instruments.list_instruments(open_platform())
    if not rows:
        say("no instruments yet: `surveillance ingest` and `surveillance instruments add AAPL` register them")
        return
    table("instruments", ("symbol", "name", "class", "calendar", "currency", "active", "source", "added"), rows)


@app.command("add")
def add_instruments(
    symbols: Annotated[list[str], typer.Argument(help="Symbols, upper case, such as AAPL BTCUSDT 9988.HK.")],
    calendar: Annotated[
        str | None, typer.Option(help="Trading calendar (XNYS, XHKG, 24/7 …); guessed from the spelling when absent.")
    ] = None,
) -> None:
    """Register symbols, so that the queue's messages for them are accepted."""
    from surveillance_pipelines.services.instruments import register, require_symbols
    from surveillance_pipelines.services.platform import open_platform

    wanted = require_symbols(symbols)
    added = register(open_platform(), wanted, calendar=calendar, source="command line")
    for name, names in sorted(added.items()):
        say(f"on calendar {name}: {', '.join(names)}")
