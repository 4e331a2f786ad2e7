"""State of an output channel: waiting messages, the delivery runs that hold its leases, and the last error."""

from dataclasses import dataclass
from typing import Final

import psycopg

from surveillance_pipelines.stores.lease import delivery_lease
from surveillance_pipelines.stores.outbox import Waiting, waiting

MAX_COUNTED: Final = 1000
"""Maximum number of rows counted per queue; a sensor does not need the exact number above it."""

_LEASES: Final = """
    SELECT role, holder, run_id FROM ops.leases WHERE queue_url = %s AND expires_at > clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class ChannelView:
    """The state of one channel.

    Attributes:
        channel: name of the channel.
        waiting: undelivered messages and the last error.
        holder: holder of the delivery lease; None if there is none.
        standby: standby run; None if there is none.
        run_ids: Dagster run ids of holder and standby.
    """

    channel: str
    waiting: Waiting
    holder: str | None
    standby: str | None
    run_ids: frozenset[str]


def channel_state(connection: psycopg.Connection, channel: str) -> ChannelView:
    """Read the state of a channel from the outbox and the leases."""
    rows = connection.execute(_LEASES, (delivery_lease(channel),)).fetchall()
    holders = {role: holder for role, holder, _ in rows}
    return ChannelView(
        channel=channel,
        waiting=waiting(connection, channel, limit=MAX_COUNTED),
        holder=holders.get("holder"),
        standby=holders.get("standby"),
        run_ids=frozenset(run_id for _, _, run_id in rows if run_id is not None),
    )
