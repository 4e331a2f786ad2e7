"""Health of the Dagster instance, for ``surveillance status`` and ``surveillance doctor``."""

from typing import TYPE_CHECKING, Final

from surveillance_pipelines.services.facts import Fact
from surveillance_pipelines.services.failures import translate

if TYPE_CHECKING:
    from surveillance_pipelines.services.platform import Platform

_REMEDY: Final = "check DAGSTER_DATABASE_URL; if it is not set, the database is `dagster` on the server of DATABASE_URL"


def dagster_health(platform: "Platform") -> list[Fact]:
    """Return the lines of runs, checks, automations, daemon and notifications; one failure if they cannot be read."""
    from surveillance_pipelines.commands.dagster_home import open_instance
    from surveillance_pipelines.defs.notifications import NAME
    from surveillance_pipelines.defs.run_records import dagster_state, sensor_cursor
    from surveillance_pipelines.services.notifications import notification_fact
    from surveillance_pipelines.services.run_health import dagster_facts

    try:
        with open_instance(platform) as instance:
            state = dagster_state(instance, platform.clock.now_us())
            cursor = sensor_cursor(instance, NAME)
    except Exception as error:  # noqa: BLE001 - any failure becomes a line
        known = translate(error)
        return [Fact("Dagster", "fail", known.message, known.remedy or _REMEDY)]
    return [*dagster_facts(state, platform.settings), notification_fact(platform.settings, cursor)]
