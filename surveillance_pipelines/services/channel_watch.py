"""The state of an output channel: what waits for it, since when, who delivers to it, and why it last failed."""

from dataclasses import dataclass
from typing import Final

import psycopg

from surveillance_pipelines.stores.lease import delivery_lease
from surveillance_pipelines.stores.outbox import Waiting, waiting

MOST_COUNTED: Final = 1000
"""Rows counted for each queue; a sensor needs no more."""

_LEASES: Final = """
    SELECT role, holder, run_id FROM ops.leases WHERE queue_url = %s AND expires_at > clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class ChannelView:
    """The state of one channel.

    Attributes:
        channel: which channel.
        waiting: messages that it has not got, and its last error.
        holder: who delivers to it; None if nobody does.
        standby: who stands by; None if nobody does.
        run_ids: of these two, where they are Dagster runs.
    """

    channel: str
    waiting: Waiting
    holder: str | None
    standby: str | None
    run_ids: frozenset[str]


def look_at_channel(connection: psycopg.Connection, channel: str) -> ChannelView:
    """Return the state of a channel, from the outbox and the leases."""
    rows = connection.execute(_LEASES, (delivery_lease(channel),)).fetchall()
    holders = {role: holder for role, holder, _ in rows}
    return ChannelView(
        channel=channel,
        waiting=waiting(connection, channel, limit=MOST_COUNTED),
        holder=holders.get("holder"),
        standby=holders.get("standby"),
        run_ids=frozenset(run_id for _, _, run_id in rows if run_id is not None),
    )
