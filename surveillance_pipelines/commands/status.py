"""``surveillance status``: show the state of services, queues, tables and models."""

from typing import TYPE_CHECKING

from surveillance_pipelines.clock import now
from surveillance_pipelines.commands.console import echo, heading, mark, table

if TYPE_CHECKING:
    from surveillance_pipelines.services.facts import Fact
    from surveillance_pipelines.services.platform import Platform


def status() -> None:
    """Show services, queues, leases, champion, runs, checks, ledger counts, last bars and degraded parts."""
    from surveillance_pipelines.commands.dagster_health import dagster_health
    from surveillance_pipelines.services.configuration import misspelled_settings
    from surveillance_pipelines.services.health import check_health
    from surveillance_pipelines.services.homes import is_untouched
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    if is_untouched(platform.settings):
        echo(f"no data yet: {platform.home} is empty or does not exist, and DATABASE_URL is not set")
        echo("start with `surveillance demo` (synthetic data) or `surveillance ingest PATH`")
        return
    health = check_health(platform)
    lines = [*health.lines, *dagster_health(platform), *misspelled_settings(), *_training(platform)]
    table("state", ("part", "", "state"), [(line.name, mark(line.verdict), _state(line)) for line in lines])
    table("tables", ("table", "rows", "last"), health.tables, right=("rows",))
    table("lake", ("table", "days", "first day", "last bar"), health.lake, right=("days",))
    degraded = [line for line in lines if line.verdict != "ok"]
    heading("degraded: nothing" if not degraded else f"degraded: {', '.join(line.name for line in degraded)}")


def _state(line: "Fact") -> str:
    return f"{line.found}; what to do: {line.remedy}" if line.remedy else line.found


def _training(platform: "Platform") -> "list[Fact]":
    from surveillance_pipelines.services.facts import Fact, instant

    cron = platform.settings.model_retraining_schedule.strip()
    if not cron:
        return [Fact("next training", "ok", "none scheduled (MODEL_RETRAINING_SCHEDULE is not set)")]
    from surveillance_pipelines.defs.dagster_internals import cron_string_iterator

    upcoming = cron_string_iterator(now(platform.clock).timestamp(), cron, "UTC")
    return [Fact("next training", "ok", f"{instant(next(upcoming))} (schedule {cron!r}), if the daemon runs")]
