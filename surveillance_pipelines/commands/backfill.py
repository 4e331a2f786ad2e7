"""``surveillance backfill``: bars and features of a range of days, as one run."""

from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surveillance_pipelines.clock import now
from surveillance_pipelines.commands.console import say, table
from surveillance_pipelines.commands.days import as_days
from surveillance_pipelines.commands.failures import ExitCode, failing_as

if TYPE_CHECKING:
    from surveillance_pipelines.commands.context import Platform

_DAY = ["%Y-%m-%d"]


class Job(StrEnum):
    """Jobs over days."""

    MARKET_DATA = "market_data_job"
    SCORING = "scoring_job"


def backfill(
    first: Annotated[datetime, typer.Argument(formats=_DAY, help="First day, UTC.")],
    last: Annotated[datetime, typer.Argument(formats=_DAY, help="Last day, UTC, included.")],
    job: Annotated[Job, typer.Option(help="What to compute: bars and features, or scores.")] = Job.MARKET_DATA,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="Score with the model bundle of this hash (8 characters or more), or with the `warmup` rules; "
            "default: the champion.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Materialize bars and features of every day between FIRST and LAST, in one Dagster run."""
    from surveillance_pipelines.commands.context import open_platform
    from surveillance_pipelines.commands.dagster_runs import day_range_tags, run_job

    days = as_days(first, last)
    _require_partitions(*days)
    if bundle is not None and job is not Job.SCORING:
        raise typer.BadParameter(f"expected --bundle with --job {Job.SCORING.value}, as {job.value} asks no model")
    platform = open_platform()
    run_config = {} if bundle is None else _pinned(platform, bundle)
    tags = day_range_tags(*days)
    outcome = run_job(platform, job.value, tags=tags, run_config=run_config).require_success(job.value)
    rows = [(key, made.get("dagster/row_count")) for key, made in sorted(outcome.materialized.items())]
    table(f"{job.value} in {outcome.seconds:.1f} s, run {outcome.run_id[:8]}", ("table", "rows"), rows, right=("rows",))
    if outcome.materialized.get("bars_1m", {}).get("dagster/row_count") == 0:
        say("no bars of these days have landed: `surveillance ingest` brings them in", style="yellow")
    failed = [f"{check.asset}: {check.name}" for check in outcome.checks if not check.passed]
    say(f"checks that did not pass: {', '.join(failed)}" if failed else f"{len(outcome.checks)} checks passed")


def _pinned(platform: "Platform", bundle: str) -> dict[str, Any]:
    """Return the run's configuration that pins a bundle, after a look whether it can score."""
    from surveillance_pipelines.models.bundle import BundleError
    from surveillance_pipelines.stores.predictors import load_pinned_predictor

    remedy = "column bundle_hash of surveillance.model_versions, and of every row, names them"
    with (
        failing_as(ExitCode.USAGE, LookupError, ValueError, BundleError, remedy=remedy),
        platform.connect() as connection,
    ):
        bundle_hash = load_pinned_predictor(connection, bundle).bundle_hash
    return {"ops": {"batch_scoring": {"config": {"bundle_hash": bundle_hash}}}}


def _require_partitions(first: date, last: date) -> None:
    from surveillance_pipelines.defs.bars.partitions import FIRST_DAY

    today = now().date()
    if first < FIRST_DAY or last > today:
        raise typer.BadParameter(f"expected days from {FIRST_DAY} on, up to {today}, got {first} to {last}")
