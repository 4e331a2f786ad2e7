"""``surveillance instruments``: list and register symbols and their trading calendars."""

from typing import Annotated, Final

import typer

from surveillance_pipelines.commands.console import echo, table

app: Final = typer.Typer(help="List and change the instruments and their calendars.", no_args_is_help=True)

_COLUMNS: Final = ("symbol", "name", "class", "calendar", "calendar by", "currency", "active", "source", "added")


@app.command("list")
def list_instruments() -> None:
    """List the registered instruments."""
    from surveillance_pipelines.services import instruments
    from surveillance_pipelines.services.platform import open_platform

    rows = instruments.list_instruments(open_platform())
    if not rows:
        echo("no instruments yet: register them with `surveillance ingest` or `surveillance instruments add AAPL`")
        return
    # Narrow terminals: names and currencies are mostly unknown.
    known = [place for place in range(len(_COLUMNS)) if any(row[place] is not None for row in rows)]
    table("instruments", [_COLUMNS[place] for place in known], [[row[place] for place in known] for row in rows])


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

    wanted, platform = require_symbols(symbols), open_platform()
    added = register(platform, wanted, calendar=calendar, source="command line")
    for symbol, choice in added.items():
        echo(f"{symbol}: calendar {choice.sentence}", style="yellow" if choice.is_assumed else "")
    if any(choice.is_assumed for choice in added.values()):
        echo("set another calendar with `surveillance instruments set SYMBOL --calendar NAME`")
    seconds = platform.settings.drain_window_seconds
    echo(f"drain runs accept new symbols from their next start; one that serves now ends within {seconds:.0f} s")


@app.command("set")
def set_instruments(
    symbols: Annotated[list[str], typer.Argument(help="Registered symbols.")],
    calendar: Annotated[str, typer.Option(help="Set this trading calendar (XNYS, XHKG, 24/7 …).")],
) -> None:
    """Set the trading calendar of registered symbols."""
    from surveillance_pipelines.services.instruments import change_calendar, require_symbols
    from surveillance_pipelines.services.platform import open_platform

    wanted = require_symbols(symbols)
    name = change_calendar(open_platform(), wanted, calendar)
    echo(f"calendar {name}: {', '.join(wanted)}")
    echo("stored features keep the sessions of their time: run `surveillance backfill` for the days to compute again")


@app.command("disable")
def disable_instruments(symbols: Annotated[list[str], typer.Argument(help="Registered symbols.")]) -> None:
    """Refuse messages of symbols from the next drain run on, and request no bars of them from Yahoo."""
    _set_active(symbols, active=False)


@app.command("enable")
def enable_instruments(symbols: Annotated[list[str], typer.Argument(help="Registered symbols.")]) -> None:
    """Accept messages of disabled symbols again."""
    _set_active(symbols, active=True)


@app.command("remove")
def remove_instruments(symbols: Annotated[list[str], typer.Argument(help="Registered symbols.")]) -> None:
    """Delete symbols from the registered instruments; their bars, scores and alerts stay."""
    from surveillance_pipelines.services.instruments import remove, require_symbols
    from surveillance_pipelines.services.platform import open_platform

    wanted = require_symbols(symbols)
    remove(open_platform(), wanted)
    echo(f"removed: {', '.join(wanted)}")


def _set_active(symbols: list[str], *, active: bool) -> None:
    from surveillance_pipelines.services.instruments import change_activity, require_symbols
    from surveillance_pipelines.services.platform import open_platform

    wanted = require_symbols(symbols)
    change_activity(open_platform(), wanted, active=active)
    echo(f"{'enabled' if active else 'disabled'}: {', '.join(wanted)}")
