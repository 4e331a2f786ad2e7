"""``surveillance dead-letters``: inputs that were refused, with the reason."""

from typing import Annotated, Final

import typer

from surveillance_pipelines.commands.console import say, table

app: Final = typer.Typer(help="Inputs that were refused, kept with their body and the reason.", no_args_is_help=True)


@app.command("list")
def list_dead_letters(
    limit: Annotated[int, typer.Option(min=1, help="Rows to show, newest first.")] = 20,
    code: Annotated[str | None, typer.Option(help="Only this refusal code, such as not_json.")] = None,
) -> None:
    """Show how many inputs were refused by reason, and the newest of them."""
    from surveillance_pipelines.commands.context import open_platform

    with open_platform().connect() as connection:
        counts = connection.execute(
            "SELECT source, code, count(*), max(received_at) FROM ops.dead_letters GROUP BY 1, 2 ORDER BY 3 DESC"
        ).fetchall()
        newest = connection.execute(
            "SELECT received_at, source, code, reason, left(body, 120) FROM ops.dead_letters "
            "WHERE %(code)s::text IS NULL OR code = %(code)s ORDER BY received_at DESC LIMIT %(limit)s",
            {"code": code, "limit": limit},
        ).fetchall()
    if not counts:
        say("no input was ever refused")
        return
    table("refused inputs by reason", ("source", "code", "rows", "last"), counts, right=("rows",))
    table(f"the newest {len(newest)}", ("received", "source", "code", "reason", "body"), newest)
