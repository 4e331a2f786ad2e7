"""Checks of the clocks of producers and of this host against the clock of the queue."""

import socket
from typing import Final

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.defs.metadata import counts_table
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.queues import input_queues, queue_name

AHEAD_SECONDS: Final = 5.0
"""Tolerated lead of a producer's timestamps: more than network delays and the accuracy of NTP explain."""

HOST_SECONDS: Final = 5.0
"""Tolerated difference between this host and the queue; latencies and receive times are off by it."""

_PERIOD_SECONDS: Final = 3600.0


@dg.asset_check(
    asset="market_queue",
    description="The timestamps of no producer run ahead of the queue's clock: median of the last hour at most 5 s.",
)
def producer_clocks_are_right(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.producer_clocks import producer_clocks

    with platform.connect() as connection:
        found = producer_clocks(connection, seconds=_PERIOD_SECONDS)
    wrong = [one for one in found if one.median_ahead > AHEAD_SECONDS]
    named = "; ".join(f"{one.name} by {one.median_ahead:.1f} s ({queue_name(one.queue_url)})" for one in wrong)
    rows = [
        {"group": one.group_id, "sender": one.sender_id, "messages": one.messages,
         "median_ahead_s": round(one.median_ahead, 3), "most_ahead_s": round(one.most_ahead, 3)}
        for one in found
    ]  # fmt: skip
    return dg.AssetCheckResult(
        passed=not wrong,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"timestamps are ahead of the queue's clock: {named}; set the clock of the producer, because ticks of the "
            "same symbols with right timestamps end as late"
            if wrong
            else f"{len(found)} producers in the last hour, none ahead of the queue's clock by more than 5 s"
        ),
        metadata={"producers": counts_table(rows)} if rows else {},
    )


@dg.asset_check(
    asset="market_queue",
    description="The clock of the host that runs this check differs from the queue's clock by at most 5 s.",
)
def host_clock_is_right(platform: PlatformResource) -> dg.AssetCheckResult:
    if not platform.settings.use_sqs_data_source:
        return dg.AssetCheckResult(passed=True, description="the queue is not read: USE_SQS_DATA_SOURCE is false")
    host, wrong = socket.gethostname(), []
    for queue in input_queues(platform):
        bounds = queue.clock_difference()
        if bounds is None:
            continue
        low, high = (bound / MICROSECONDS for bound in bounds)
        if low > HOST_SECONDS:
            wrong.append(f"{host} is at least {low:.0f} s ahead of {queue_name(queue.queue_url)}")
        elif high < -HOST_SECONDS:
            wrong.append(f"{host} is at least {-high:.0f} s behind {queue_name(queue.queue_url)}")
    return dg.AssetCheckResult(
        passed=not wrong,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"{'; '.join(wrong)}: set the clock of {host} (NTP). Serving runs close bars by the queue's clock; "
            "receive times and latencies are off"
            if wrong
            else f"{host} agrees with the queue's clock"
        ),
        metadata={"host": host},
    )
