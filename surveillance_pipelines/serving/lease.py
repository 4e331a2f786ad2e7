"""One lease per input queue: who may commit for it. The number that fences grows with every new holder.

Whether a lease has run out is read from the database's clock, the one clock that all contenders share. A holder whose
lease ran out while nobody took it still holds it: taking over changes the fencing number under a row lock, so a
transaction that has checked the number commits before the takeover or not at all.
"""

from dataclasses import dataclass

import psycopg


class LeaseLostError(RuntimeError):
    """Another run holds the queue now; nothing of this transaction was written."""


@dataclass(frozen=True, slots=True)
class Lease:
    queue_url: str
    holder: str
    fencing: int
    seconds: float


_ACQUIRE = """
    INSERT INTO ops.leases AS held (queue_url, holder, fencing, heartbeat_at, expires_at, run_id)
    VALUES (%(queue_url)s, %(holder)s, 1, clock_timestamp(), clock_timestamp() + %(seconds)s * interval '1 second',
            %(run_id)s)
    ON CONFLICT (queue_url) DO UPDATE
    SET holder = EXCLUDED.holder, fencing = held.fencing + 1, heartbeat_at = EXCLUDED.heartbeat_at,
        expires_at = EXCLUDED.expires_at, run_id = EXCLUDED.run_id
    WHERE held.expires_at <= clock_timestamp()
    RETURNING fencing
"""

RENEW = """
    UPDATE ops.leases
    SET heartbeat_at = clock_timestamp(), expires_at = clock_timestamp() + %s * interval '1 second'
    WHERE queue_url = %s AND holder = %s AND fencing = %s
"""

_RELEASE = """
    UPDATE ops.leases SET expires_at = clock_timestamp()
    WHERE queue_url = %s AND holder = %s AND fencing = %s
"""


def acquire(
    connection: psycopg.Connection, queue_url: str, *, holder: str, seconds: float, run_id: str | None = None
) -> Lease | None:
    """Take the lease of a queue if nobody holds it, and return it; None while somebody does.

    Args:
        connection: in autocommit mode.
        queue_url: the input queue.
        holder: names the process, for people.
        seconds: how long it lasts without a renewal.
        run_id: of the Dagster run.
    """
    values = {"queue_url": queue_url, "holder": holder, "seconds": seconds, "run_id": run_id}
    row = connection.execute(_ACQUIRE, values).fetchone()
    return None if row is None else Lease(queue_url, holder, row[0], seconds)


def renew(connection: psycopg.Connection, lease: Lease) -> None:
    """Make the lease last again from now on.

    Raises:
        LeaseLostError: if another holder has taken it.
    """
    require_held(connection.execute(RENEW, renewal(lease)), lease)


def renewal(lease: Lease) -> tuple[float, str, str, int]:
    """Return the parameters of ``RENEW``, the statement that opens every transaction of the live lane."""
    return lease.seconds, lease.queue_url, lease.holder, lease.fencing


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


def release(connection: psycopg.Connection, lease: Lease) -> None:
    """Let the next run take the queue at once; a lease that is already lost stays as it is."""
    connection.execute(_RELEASE, (lease.queue_url, lease.holder, lease.fencing))
