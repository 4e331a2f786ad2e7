"""``surveillance instruments``: list and register symbols and their trading calendars."""

from typing import Annotated, Final

import typer

from surveillance_pipelines.commands.console import echo, table

app: Final = typer.Typer(help="List and register the watched symbols.", no_args_is_help=True)


@app.command("list")
def list_instruments() -> None:
    """List the registered instruments."""
    from surveillance_pipelines.services import instruments
    from surveillance_pipelines.services.platform import open_platform

    rows = instruments.list_instruments(open_platform())
    if not rows:
        echo("no instruments yet: register them with `surveillance ingest` or `surveillance instruments add AAPL`")
        return
    table("instruments", ("symbol", "name", "class", "calendar", "currency", "active", "source", "added"), rows)


@app.command("add")
def add_instruments(
    symbols: Annotated[list[str], typer.Argument(help="Symbols in upper case, such as AAPL BTCUSDT 9988.HK.")],
    calendar: Annotated[
        str | None, typer.Option(help="Set the trading calendar (XNYS, XHKG, 24/7 …); default: by spelling.")
    ] = None,
) -> None:
    """Register symbols, so that queue messages with these symbols are accepted."""
    from surveillance_pipelines.services.instruments import register, require_symbols
    from surveillance_pipelines.services.platform import open_platform

    wanted = require_symbols(symbols)
    added = register(open_platform(), wanted, calendar=calendar, source="command line")
    for name, names in sorted(added.items()):
        echo(f"registered with calendar {name}: {', '.join(names)}")
