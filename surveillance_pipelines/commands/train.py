"""``surveillance train``: train and evaluate the models, and promote them if they may replace the champion."""

import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from surveillance_pipelines.commands.console import echo, mark, table
from surveillance_pipelines.commands.days import as_days
from surveillance_pipelines.commands.exit_codes import ExitCode

if TYPE_CHECKING:
    from surveillance_pipelines.commands.training import Training
    from surveillance_pipelines.services.platform import Platform

_DAY = ["%Y-%m-%d"]
_OF_LABELS: Final = {"recall": "recall of bars", "events_found": "events found", "events_named": "events named"}
"""Metric → column of the table by kind."""


def train(
    *,
    first: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="First UTC day of training bars; default: the oldest.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Last UTC day, included; default: the newest.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Set the random seed; equal seed and data give equal models.")] = 7,
) -> None:
    """Train all models on all days of bars or a range of days, and promote them if they may replace the champion.

    Models that pass the gate and are not better than the champion become a shadow, which serves nothing. Exits with 1
    if the gate refuses the models: they are kept as a version, and the champion does not change.
    """
    from surveillance_pipelines.commands.training import train_range
    from surveillance_pipelines.services.platform import open_platform
    from surveillance_pipelines.services.training_set import require_training_bars

    if first is not None and last is not None:
        as_days(first, last)
    platform = open_platform()
    require_training_bars(platform, first and first.date(), last and last.date())
    result = train_range(platform, first and first.date(), last and last.date(), seed=seed)
    show_training(result)
    if result.kept_as_shadow:
        echo(f"to use it anyway: `surveillance models activate v{result.version}`")
        return
    if not result.promoted:
        for line in _advice(result, platform):
            echo(line)
        raise typer.Exit(ExitCode.FAILED)
    echo("next: `surveillance up` scores live ticks with it; `surveillance detect FILE` scores the bars of a file")


def _advice(refused: "Training", platform: "Platform") -> list[str]:
    """Return what a user can do after a refusal; each line holds whatever the cause of the low values is."""
    failed = {check.name for check in refused.gate if check.blocking and not check.passed}
    lines = []
    if "trained_on_enough_rows" in failed:
        lines.append("what to do: train on more days or symbols, or lower MODEL_TRAINING_MIN_DATASET_SIZE")
    elif failed:
        lines.append("what to do: see in the tables which kinds are weak; more days give more examples of each kind")
    if refused.version is not None:
        folder = platform.endpoints.models_path / f"v{refused.version}"
        lines.append(f"to use this version anyway: `surveillance detect FILE --bundle {shlex.quote(str(folder))}`")
    return lines


def show_training(training: "Training") -> None:
    """Print the metrics of an evaluation and the decision of the gate."""
    if training.days:
        echo(f"bars from {training.days[0]} to {training.days[1]}")
    _show_metrics(training)
    rows = [
        (
            mark("ok" if check.passed else "fail" if check.blocking else "warn"),
            check.name,
            check.summary.replace("; ", "\n"),
        )
        for check in training.gate
    ]
    table("promotion gate", ("", "check", "rules"), rows)
    if any(not check.passed and not check.blocking for check in training.gate):
        echo("warn: the check failed, and does not prevent the promotion")
    for line in filter(None, training.comparison.split("; ")):
        echo(f"compared: {line}")
    if training.kept_as_shadow:
        echo(f"kept: v{training.version} is a shadow, the champion does not change", style="yellow")
    elif training.promoted:
        echo(f"promoted: v{training.version} is the champion", style="green")
    else:
        echo(f"refused: v{training.version} is kept, the champion does not change", style="red")


def _show_metrics(training: "Training") -> None:
    overall = training.metrics.items()
    table("evaluation on held-out days", ("metric", "value"), overall, right=("value",))
    if training.by_label:
        rows = [(row["label"], *(row.get(name) for name in _OF_LABELS)) for row in training.by_label]
        columns = tuple(_OF_LABELS.values())
        table("by kind of anomaly", ("kind", *columns), rows, right=columns)
    for kind, reason in training.left_out.items():
        echo(f"left out: {kind} {reason}")
    if training.untested:
        echo(f"not tested: {', '.join(training.untested)}: no such anomaly fitted into the test days")
