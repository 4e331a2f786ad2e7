"""Who owns the assets, how fresh they must be, and which automations start switched on: stated once."""

from datetime import timedelta
from typing import Final

import dagster as dg

OWNERS: Final = ["team:market-surveillance"]

DAILY: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=4), warn_window=timedelta(days=3))
"""For what follows the trading day: a long weekend has no session, so three days without a run are not yet late."""

WEEKLY: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=30), warn_window=timedelta(days=14))
"""For models: a champion older than a month has not seen the market it judges."""

SENSORS_START: Final = dg.DefaultSensorStatus.RUNNING
"""The queue is served as soon as the daemon runs: a platform that needs a click before it watches would lose alerts."""

SCHEDULES_START: Final = dg.DefaultScheduleStatus.RUNNING
"""A schedule exists only where a setting or the trading day asks for it, so it also runs."""

REASON_TAG: Final = "surveillance/reason"
"""Run tag: why a sensor asked for the run."""


def tags(lane: str, store: str) -> dict[str, str]:
    """Return the tags of an asset: the lane that writes it, and where it is stored."""
    return {"surveillance/lane": lane, "surveillance/store": store}
