"""``surveillance backfill``: compute bars and features, or scores, of a range of days in one run."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from surveillance_pipelines.commands.console import counted, echo, table
from surveillance_pipelines.commands.days import as_days

_DAY = ["%Y-%m-%d"]


class Job(StrEnum):
    """Jobs that process a range of days."""

    MARKET_DATA = "market_data_job"
    SCORING = "scoring_job"


def backfill(
    first: Annotated[datetime, typer.Argument(formats=_DAY, help="First day, UTC.")],
    last: Annotated[datetime, typer.Argument(formats=_DAY, help="Last day, UTC, included.")],
    job: Annotated[Job, typer.Option(help="Compute bars and features, or scores.")] = Job.MARKET_DATA,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="Score with the model bundle of this hash (8 characters or more), or with the `warmup` rules; "
            "default: the champion.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compute bars and features, or scores, for every day from FIRST to LAST in one Dagster run."""
    from surveillance_pipelines.commands.dagster_runs import run_job
    from surveillance_pipelines.defs.bars.partitions import range_tags
    from surveillance_pipelines.services.backfill import plan_backfill
    from surveillance_pipelines.services.platform import open_platform

    days = as_days(first, last)
    platform = open_platform()
    plan = plan_backfill(platform, job.value, *days, bundle=bundle)
    tags = range_tags(plan.first, plan.last)
    outcome = run_job(platform, plan.job, tags=tags, run_config=plan.run_config).require_success(plan.job)
    rows = [(key, made.get("dagster/row_count")) for key, made in sorted(outcome.materialized.items())]
    table(f"{job.value} in {outcome.seconds:.1f} s, run {outcome.run_id[:8]}", ("table", "rows"), rows, right=("rows",))
    if rows and not any(count for key, count in rows if key.startswith("bars_")) and "bars_1m" in outcome.materialized:
        echo("the lake has no bars for these days: run `surveillance ingest` first", style="yellow")
    failed = [check for check in outcome.checks if not check.passed]
    for check in failed:
        echo(f"check {check.asset}: {check.name} did not pass: {check.summary}", style="yellow")
    echo(f"{len(outcome.checks) - len(failed):,} of {counted(len(outcome.checks), 'check')} passed")
