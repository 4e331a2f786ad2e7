"""One lease per input queue: who may commit for it; and one place beside it for the run that stands by.

The number that fences grows with every new holder.

Whether a lease has run out is read from the database's clock, the one clock that all contenders share. A holder whose
lease ran out while nobody took it still holds it: taking over changes the fencing number under a row lock, so a
transaction that has checked the number commits before the takeover or not at all.
"""

from dataclasses import dataclass
from typing import Final, Literal

import psycopg

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError

Role = Literal["holder", "standby"]

HEARTBEATS_PER_LEASE: Final = 4
"""Renewals in the time that a lease lasts: three may be lost."""


class LeaseLostError(SurveillanceError, code=ErrorCode.CONFLICT):
    """Another run holds the queue now; nothing of this transaction was written."""


@dataclass(frozen=True, slots=True)
class Lease:
    queue_url: str
    holder: str
    fencing: int
    seconds: float
    role: Role = "holder"


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
    queue_url: str,
    *,
    holder: str,
    seconds: float,
    run_id: str | None = None,
    role: Role = "holder",
) -> Lease | None:
    """Take the lease of a queue, or the standby's place, if nobody holds it, and return it; None while somebody does.

    Args:
        connection: in autocommit mode.
        queue_url: the input queue.
        holder: names the process, for people.
        seconds: how long it lasts without a renewal.
        run_id: of the Dagster run.
        role: the one that serves, or the one that is ready to.
    """
    values = {"queue_url": queue_url, "role": role, "holder": holder, "seconds": seconds, "run_id": run_id}
    row = connection.execute(_ACQUIRE, values).fetchone()
    return None if row is None else Lease(queue_url, holder, row[0], seconds, role)


def renew(connection: psycopg.Connection, lease: Lease) -> None:
    """Make the lease last again from now on.

    Raises:
        LeaseLostError: if another holder has taken it.
    """
    require_held(connection.execute(RENEW, renewal(lease)), lease)


def renewal(lease: Lease) -> tuple[float, str, str, str, int]:
    """Return the parameters of ``RENEW``, the statement that opens every transaction with effects."""
    return lease.seconds, lease.queue_url, lease.role, lease.holder, lease.fencing


def require_held(renewed: psycopg.Cursor, lease: Lease) -> None:
    """Check that ``RENEW`` met its row.

    Raises:
        LeaseLostError: if it did not.
    """
    if renewed.rowcount != 1:
        raise LeaseLostError(
            f"expected to hold {lease.queue_url} with fencing number {lease.fencing}, another run has taken over: "
            "this one stops, and its messages go to the new holder"
        )


def release(connection: psycopg.Connection, lease: Lease, *, ended: str | None = None) -> None:
    """Let the next run take the queue at once; a lease that is already lost stays as it is.

    Args:
        connection: in autocommit mode.
        lease: what is given back.
        ended: why, for whoever stands by; None if the run failed.
    """
    connection.execute(_RELEASE, (ended, lease.queue_url, lease.role, lease.holder, lease.fencing))


def is_free(connection: psycopg.Connection, queue_url: str) -> bool:
    """Say whether nobody holds a queue; unlike an attempt to take it, this writes nothing."""
    row = connection.execute(_IS_FREE, (queue_url,)).fetchone()
    return row is not None and row[0]


def last_ended(connection: psycopg.Connection, queue_url: str) -> str | None:
    """Return why the last holder of a queue gave it back; None if it did not, or somebody holds it."""
    row = connection.execute(_ENDED, (queue_url,)).fetchone()
    return None if row is None else row[0]
