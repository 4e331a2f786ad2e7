"""The daily partitions of bars, features and scores."""

from datetime import date
from typing import Final

import dagster as dg

from surveillance_pipelines.contracts.market import FIRST_DAY

DAYS: Final = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), end_offset=1)
"""UTC date of the bar's start. ``end_offset`` includes the current day."""

_RANGE_START: Final = "dagster/asset_partition_range_start"
_RANGE_END: Final = "dagster/asset_partition_range_end"


def days_of_run(context: dg.AssetExecutionContext) -> tuple[date, date]:
    """Return the first and the last day of the run, both inclusive."""
    keys = context.partition_key_range
    return date.fromisoformat(keys.start), date.fromisoformat(keys.end)


def range_tags(first: date, last: date) -> dict[str, str]:
    """Return the run tags that make one run of a partitioned job cover ``first`` to ``last``, both inclusive."""
    if first < FIRST_DAY or last < first:
        raise ValueError(f"expected {FIRST_DAY} <= first <= last, got first={first}, last={last}")
    return {_RANGE_START: first.isoformat(), _RANGE_END: last.isoformat()}
