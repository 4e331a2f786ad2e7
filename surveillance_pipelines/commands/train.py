"""``surveillance train``: train, evaluate, pass the gate or not, promote."""

import math
from datetime import datetime
from typing import Annotated, Any

import typer

from surveillance_pipelines.commands.backfill import as_days
from surveillance_pipelines.commands.console import cell, say, table

_DAY = ["%Y-%m-%d"]


def train(
    *,
    first: Annotated[datetime, typer.Option(formats=_DAY, help="First day of the training bars, UTC.")],
    last: Annotated[datetime, typer.Option(formats=_DAY, help="Last day of the training bars, UTC, included.")],
    seed: Annotated[int, typer.Option(help="Of everything random: equal seed and data give equal models.")] = 7,
) -> None:
    """Train all models on a range of days in one Dagster run; promote them if the gate agrees.

    Exits with 1 when the gate refuses: the models are kept as a version, the old champion stays.
    """
    from surveillance_pipelines.commands.context import open_platform
    from surveillance_pipelines.commands.training import train_range

    result = train_range(open_platform(), *as_days(first, last), seed=seed)
    show_metrics(result.metrics)
    show_decision(promoted=result.promoted, reasons=result.reasons, version=result.version)
    if not result.promoted:
        raise typer.Exit(1)


def show_metrics(metrics: dict[str, Any]) -> None:
    """Print the numbers of an evaluation."""
    rows = [
        (name, value) for name, value in metrics.items() if isinstance(value, (int, float)) and math.isfinite(value)
    ]
    table("evaluation on the held-out days", ("metric", "value"), rows, right=("value",))


def show_decision(*, promoted: bool, reasons: list[str], version: int | None) -> None:
    """Print what the gate decided, and why."""
    word = f"promoted: v{cell(version)} is champion" if promoted else "refused: the champion stays as it was"
    say(f"gate: {word}", style="green" if promoted else "red")
    for reason in reasons:
        say(f"  - {reason}")
