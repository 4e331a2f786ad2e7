"""``surveillance``: the command line. ``commands/`` has a module per command, with heavy imports inside functions."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from surveillance_pipelines.commands import (
    alerts,
    backfill,
    backup,
    dead_letters,
    demo,
    detect,
    doctor,
    features,
    feed,
    incidents,
    ingest,
    instruments,
    models,
    prepare,
    replay,
    reset,
    status,
    tail,
    train,
    up,
)
from surveillance_pipelines.commands.console import echo, show_error
from surveillance_pipelines.commands.exit_codes import EXIT_CODES, ExitCode, explain


class GuardedGroup(TyperGroup):
    """Prints errors with their message and remedy; with ``--debug``, as tracebacks."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except Exception as error:  # outermost boundary: any error is printed for the user
            if ctx.params.get("debug") or _belongs_to_typer(error):
                raise
            failure = explain(error)
            show_error(failure)
            raise typer.Exit(EXIT_CODES[failure.code]) from error


def _belongs_to_typer(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in ("typer", "click")


app = typer.Typer(
    name="surveillance",
    cls=GuardedGroup,
    help="Detect anomalies and create trading signals from market ticks and bars, live and in batch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        echo(f"surveillance_pipelines {version('surveillance_pipelines')}")
        raise typer.Exit


@app.callback()
def options(
    home: Annotated[
        Path | None,
        typer.Option(help="Set the folder of all embedded data; overrides SURVEILLANCE_HOME.", show_default=False),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # noqa: ARG001 - GuardedGroup reads it
    version: Annotated[  # noqa: ARG001 - the callback prints it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Detect anomalies and create trading signals from market ticks and bars, live and in batch."""
    if home is not None:
        # Settings reads the variable in this process and in every child process.
        os.environ["SURVEILLANCE_HOME"] = str(home.expanduser().absolute())


app.command("demo")(demo.demo)
app.command("up")(up.up)
app.add_typer(ingest.app, name="ingest")
app.command("backfill")(backfill.backfill)
app.command("train")(train.train)
app.command("detect")(detect.detect)
app.command("features")(features.features)
app.command("feed")(feed.feed)
app.add_typer(incidents.app, name="incidents")
app.add_typer(alerts.app, name="alerts")
app.command("tail")(tail.tail)
app.command("replay")(replay.replay)
app.command("status")(status.status)
app.command("prepare")(prepare.prepare)
app.command("doctor")(doctor.doctor)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(instruments.app, name="instruments")
app.add_typer(models.app, name="models")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("reset")(reset.reset)


def main() -> None:
    """Run the command line; the entry point of the ``surveillance`` script."""
    app()
