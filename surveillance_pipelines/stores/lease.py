"""Leases: one holder at a time for each piece of continuous work, and at most one run that stands by.

The name of a lease is the URL of an input queue (its holder commits for the queue) or ``delivery:<channel>`` (its
holder delivers to the channel); it is stored in the column ``queue_url``. The fencing number grows with every new
holder.

Expiry is read from the database's clock, the one clock that all contenders share. A holder whose lease has expired
while nobody took it still holds it: a takeover changes the fencing number under a row lock, so a transaction that has
checked the number commits before the takeover or not at all.
"""

from dataclasses import dataclass
from typing import Final, Literal

import psycopg

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError

Role = Literal["holder", "standby"]

HEARTBEATS_PER_LEASE: Final = 4
"""Renewals per lease duration; three of them may fail."""


class LeaseLostError(SurveillanceError, code=ErrorCode.CONFLICT):
    """Another run holds the lease now; nothing of this transaction was written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its holder sees it; ``name`` is an input queue's URL or ``delivery:<channel>``."""

    name: str
    holder: str
    fencing: int
    seconds: float
    role: Role = "holder"


def delivery_lease(channel: str) -> str:
    """Return the name of the lease for deliveries to a channel."""
    return f"delivery:{channel}"


_ACQUIRE = """
    INSERT INTO ops.leases AS held (queue_url, role, holder, fencing, heartbeat_at, expires_at, run_id)
    VALUES (%(queue_url)s, %(role)s, %(holder)s, 1, clock_timestamp(),
            clock_timestamp() + %(seconds)s * interval '1 second', %(run_id)s)
    ON CONFLICT (queue_url, role) DO UPDATE
    SET holder = EXCLUDED.holder, fencing = held.fencing + 1, heartbeat_at = EXCLUDED.heartbeat_at,
        expires_at = EXCLUDED.expires_at, run_id = EXCLUDED.run_id, ended = NULL
    WHERE held.expires_at <= clock_timestamp()
    RETURNING fencing
"""

RENEW = """
    UPDATE ops.leases
    SET heartbeat_at = clock_timestamp(), expires_at = clock_timestamp() + %s * interval '1 second'
    WHERE queue_url = %s AND role = %s AND holder = %s AND fencing = %s
"""

_RELEASE = """
    UPDATE ops.leases SET expires_at = clock_timestamp(), ended = %s
    WHERE queue_url = %s AND role = %s AND holder = %s AND fencing = %s
"""

_IS_FREE = """
    SELECT NOT EXISTS (SELECT 1 FROM ops.leases
                       WHERE queue_url = %s AND role = 'holder' AND expires_at > clock_timestamp())
"""

_ENDED = "SELECT ended FROM ops.leases WHERE queue_url = %s AND role = 'holder' AND expires_at <= clock_timestamp()"


def acquire(
    connection: psycopg.Connection,
    name: str,
    *,
    holder: str,
    seconds: float,
    run_id: str | None = None,
    role: Role = "holder",
) -> Lease | None:
    """Take a lease, or the standby's place beside it, if nobody holds it; return None while somebody does.

    Args:
        connection: in autocommit mode.
        name: an input queue's URL or ``delivery:<channel>``.
        holder: names the process, for people.
        seconds: how long the lease lasts without a renewal.
        run_id: of the Dagster run.
        role: ``holder`` to serve, ``standby`` to wait beside the holder.
    """
    values = {"queue_url": name, "role": role, "holder": holder, "seconds": seconds, "run_id": run_id}
    row = connection.execute(_ACQUIRE, values).fetchone()
    return None if row is None else Lease(name, holder, row[0], seconds, role)


def renew(connection: psycopg.Connection, lease: Lease) -> None:
    """Extend the lease by its full duration from now.

    Raises:
        LeaseLostError: if another holder has taken it.
    """
    require_held(connection.execute(RENEW, renewal(lease)), lease)


def renewal(lease: Lease) -> tuple[float, str, str, str, int]:
    """Return the parameters of ``RENEW``, the first statement of every transaction with effects."""
    return lease.seconds, lease.name, lease.role, lease.holder, lease.fencing


def require_held(renewed: psycopg.Cursor, lease: Lease) -> None:
    """Check that ``RENEW`` updated its row.

    Raises:
        LeaseLostError: if it did not.
    """
    if renewed.rowcount != 1:
        raise LeaseLostError(
            f"expected to hold {lease.name} with fencing number {lease.fencing}, another run has taken over: "
            "this one stops, and the new holder does what it has left"
        )


def release(connection: psycopg.Connection, lease: Lease, *, ended: str | None = None) -> None:
    """Let the next run take the lease at once; a lease that is already lost stays as it is.

    Args:
        connection: in autocommit mode.
        lease: the lease to give back.
        ended: why, for the standby; None if the run failed.
    """
    connection.execute(_RELEASE, (ended, lease.name, lease.role, lease.holder, lease.fencing))


def is_free(connection: psycopg.Connection, name: str) -> bool:
    """Say whether nobody holds a lease; unlike an attempt to take it, this writes nothing."""
    row = connection.execute(_IS_FREE, (name,)).fetchone()
    return row is not None and row[0]


def last_ended(connection: psycopg.Connection, name: str) -> str | None:
    """Return why the last holder gave its lease back; None if it did not, or somebody holds it."""
    row = connection.execute(_ENDED, (name,)).fetchone()
    return None if row is None else row[0]
