"""Outages of the services that a drain run needs, the database and the queues: what counts as one, and its start."""

from collections.abc import Callable
from typing import Final, TypeVar

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.stores.database import is_outage as is_database_outage
from surveillance_pipelines.transports.sqs import is_outage as is_queue_outage

START_OUTAGE_SECONDS: Final = 90.0
"""Time for which a run that starts waits for the services: longer than a restart or a minute's freeze of the host."""

_Result = TypeVar("_Result")


def is_outage(error: Exception) -> bool:
    """Return whether an exception means that the database or a queue is unavailable."""
    return is_database_outage(error) or is_queue_outage(error)


def start_deadline(clock: Clock) -> int:
    """Return until when a run that starts now waits for the services, microseconds since the epoch."""
    return clock.now_us() + round(START_OUTAGE_SECONDS * MICROSECONDS)


def await_services(call: Callable[[], _Result], clock: Clock) -> _Result:
    """Return the result of a call before a run starts, repeated while the database or a queue is unavailable.

    Raises:
        Exception: of the call, after ``START_OUTAGE_SECONDS`` or if it is no outage.
    """
    until = start_deadline(clock)
    outages = Outages(clock, is_outage=is_outage, gives_up=lambda: clock.now_us() >= until)
    return outages.repeat("database or queue", call)
