"""Owners and freshness policies of assets, and the default status of automations."""

from datetime import timedelta
from typing import Final

import dagster as dg

OWNERS: Final = ["team:market-surveillance"]

DAILY: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=4), warn_window=timedelta(days=3))
"""For assets that follow the trading day. A long weekend has no session, so three days without a run are tolerated."""

WEEKLY: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=30), warn_window=timedelta(days=14))
"""For models: a champion older than a month was not trained on the recent market."""

SENSORS_START: Final = dg.DefaultSensorStatus.RUNNING
"""Sensors start enabled, so that the queue is served as soon as the daemon runs."""

SCHEDULES_START: Final = dg.DefaultScheduleStatus.RUNNING
"""Schedules start enabled, because a schedule exists only if a setting or the trading day requires it."""

REASON_TAG: Final = "surveillance/reason"
"""Run tag with the reason for which a sensor requested the run."""


def tags(lane: str, store: str) -> dict[str, str]:
    """Return the tags of an asset: the lane that writes it and the store that holds it."""
    return {"surveillance/lane": lane, "surveillance/store": store}
