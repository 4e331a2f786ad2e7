"""``surveillance train``: train, evaluate, pass the gate or not, promote."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from surveillance_pipelines.commands.console import mark, say, table
from surveillance_pipelines.commands.days import as_days
from surveillance_pipelines.commands.failures import ExitCode

if TYPE_CHECKING:
    from surveillance_pipelines.commands.training import Training

_DAY = ["%Y-%m-%d"]
_OF_LABELS: Final = {"recall": "recall of bars", "events_found": "events found", "events_named": "events named"}
"""Figure → column of the table per kind."""


def train(
    *,
    first: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="First day of the training bars, UTC; the first there is.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Last day, UTC, included; the newest there is.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random: equal seed and data give equal models.")] = 7,
) -> None:
    """Train all models on the days of bars that there are, or a range of them; promote them if the gate agrees.

    Exits with 1 when the gate refuses: the models are kept as a version, the old champion stays.
    """
    from surveillance_pipelines.commands.training import train_range
    from surveillance_pipelines.services.platform import open_platform

    if first is not None and last is not None:
        as_days(first, last)
    platform = open_platform()
    result = train_range(platform, first and first.date(), last and last.date(), seed=seed)
    show_training(result)
    if not result.promoted:
        advice = "what to do: more days or symbols"
        if result.version is not None:
            folder = platform.endpoints.models_path / f"v{result.version}"
            advice += f"; try it as it is with `surveillance detect FILE --bundle {folder}`"
        say(advice)
        raise typer.Exit(ExitCode.FAILED)


def show_training(training: "Training") -> None:
    """Print the numbers of an evaluation and the verdict of the gate."""
    if training.days:
        say(f"bars from {training.days[0]} to {training.days[1]}")
    _show_metrics(training)
    rows = [
        (
            mark("ok" if check.passed else "fail" if check.blocking else "warn"),
            check.name,
            check.summary.replace("; ", "\n"),
        )
        for check in training.gate
    ]
    table("the gate", ("", "check", "rules"), rows)
    if training.promoted:
        say(f"promoted: v{training.version} is champion", style="green")
    else:
        say(f"refused: v{training.version} is kept, the champion stays as it was", style="red")


def _show_metrics(training: "Training") -> None:
    overall = training.metrics.items()
    table("evaluation on days that the training never saw", ("metric", "value"), overall, right=("value",))
    if training.by_label:
        rows = [(row["label"], *(row.get(name) for name in _OF_LABELS)) for row in training.by_label]
        columns = tuple(_OF_LABELS.values())
        table("by kind of anomaly", ("kind", *columns), rows, right=columns)
