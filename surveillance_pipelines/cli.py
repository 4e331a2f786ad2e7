"""``surveillance``: the command line. One module of ``commands/`` per command; heavy imports wait until it runs."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from surveillance_pipelines.commands import (
    backfill,
    dead_letters,
    demo,
    detect,
    doctor,
    features,
    feed,
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
from surveillance_pipelines.commands.console import error_console
from surveillance_pipelines.commands.failures import EXIT_CODES, ExitCode, explain


class GuardedGroup(TyperGroup):
    """Prints an error as what happened and what to do; ``--debug`` shows the traceback instead."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except Exception as error:  # the outermost edge: whatever it is, a person reads it
            if ctx.params.get("debug") or _belongs_to_typer(error):
                raise
            failure = explain(error)
            error_console().print(f"error: {failure.message}", style="red", markup=False)
            if failure.remedy:
                error_console().print(f"what to do: {failure.remedy}", markup=False)
            raise typer.Exit(EXIT_CODES[failure.code]) from error


def _belongs_to_typer(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in ("typer", "click")


app = typer.Typer(
    name="surveillance",
    cls=GuardedGroup,
    help="Watch markets: ticks and bars in, anomalies, signals and a live output queue out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def options(
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of everything embedded; overrides SURVEILLANCE_HOME.", show_default=False),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # noqa: ARG001 - GuardedGroup reads it
) -> None:
    """Watch markets: ticks and bars in, anomalies, signals and a live output queue out."""
    if home is not None:
        # Read by Settings here and in every child process.
        os.environ["SURVEILLANCE_HOME"] = str(home.expanduser().absolute())


app.command("demo")(demo.demo)
app.command("up")(up.up)
app.add_typer(ingest.app, name="ingest")
app.command("backfill")(backfill.backfill)
app.command("train")(train.train)
app.command("detect")(detect.detect)
app.command("features")(features.features)
app.command("feed")(feed.feed)
app.command("tail")(tail.tail)
app.command("replay")(replay.replay)
app.command("status")(status.status)
app.command("prepare")(prepare.prepare)
app.command("doctor")(doctor.doctor)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(instruments.app, name="instruments")
app.add_typer(models.app, name="models")
app.command("reset")(reset.reset)


def main() -> None:
    """Run the command line; the entry point of the ``surveillance`` script."""
    app()
