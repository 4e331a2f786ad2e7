"""Leases: at most one holder and one standby per lease.

The name of a lease is the URL of an input queue (its holder commits for the queue) or ``delivery:<channel>`` (its
holder delivers to the channel); it is stored in the column ``queue_url``. Every new holder increments the fencing
number.

Expiry uses the clock of the database, which all contenders share. An expired lease remains valid until another run
acquires it: a takeover changes the fencing number under a row lock, so a transaction that has checked the number
commits before the takeover or not at all.
"""

from dataclasses import dataclass
from typing import Final, Literal

import psycopg

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError

Role = Literal["holder", "standby"]

HEARTBEATS_PER_LEASE: Final = 4
"""Renewals per lease duration; three of them may fail."""


class LeaseLostError(SurveillanceError, code=ErrorCode.CONFLICT):
    """Another run has acquired the lease; the transaction wrote nothing."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A held lease; ``name`` is the URL of an input queue or ``delivery:<channel>``."""

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
        expires_at = EXCLUDED.expires_at, run_id = EXCLUDED.run_id, ended = NULL, commits = 0
    WHERE held.expires_at <= clock_timestamp()
    RETURNING fencing
"""

RENEW = """
    UPDATE ops.leases
    SET heartbeat_at = clock_timestamp(), expires_at = clock_timestamp() + %s * interval '1 second'
    WHERE queue_url = %s AND role = %s AND holder = %s AND fencing = %s
"""

RENEW_BY_COMMIT = """
    UPDATE ops.leases
    SET commits = %s, heartbeat_at = clock_timestamp(), expires_at = clock_timestamp() + %s * interval '1 second'
    WHERE queue_url = %s AND role = %s AND holder = %s AND fencing = %s
"""
"""First statement of a transaction with effects: it also stores the number of the commit."""

COMMITS = "SELECT commits FROM ops.leases WHERE queue_url = %s AND role = %s AND holder = %s AND fencing = %s"

_RELEASE = """
    UPDATE ops.leases SET expires_at = clock_timestamp(), ended = %s
    WHERE queue_url = %s AND role = %s AND holder = %s AND fencing = %s
"""

_RECORD_HIDDEN = """
    UPDATE ops.leases SET hidden_seconds = %s WHERE queue_url = %s AND role = %s AND holder = %s AND fencing = %s
"""

_HIDDEN = "SELECT hidden_seconds FROM ops.leases WHERE queue_url = %s AND role = 'holder'"

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
    """Acquire a lease in a role; return None if another process holds it in this role.

    Args:
        connection: connection in autocommit mode.
        name: URL of an input queue or ``delivery:<channel>``.
        holder: display name of the process.
        seconds: duration of the lease without a renewal.
        run_id: id of the Dagster run.
        role: ``holder`` to serve, ``standby`` to wait for the end of the holder.
    """
    values = {"queue_url": name, "role": role, "holder": holder, "seconds": seconds, "run_id": run_id}
    row = connection.execute(_ACQUIRE, values).fetchone()
    return None if row is None else Lease(name, holder, row[0], seconds, role)


def renew(connection: psycopg.Connection, lease: Lease) -> None:
    """Extend the lease by its full duration from now.

    Raises:
        LeaseLostError: if another run has acquired it.
    """
    require_held(connection.execute(RENEW, renewal(lease)), lease)


def renewal(lease: Lease) -> tuple[float, str, str, str, int]:
    """Return the parameters of ``RENEW``."""
    return lease.seconds, lease.name, lease.role, lease.holder, lease.fencing


def require_held(renewed: psycopg.Cursor, lease: Lease) -> None:
    """Check that ``RENEW`` updated its row.

    Raises:
        LeaseLostError: if it did not.
    """
    if renewed.rowcount != 1:
        raise LeaseLostError(
            f"expected to hold {lease.name} with fencing number {lease.fencing}, but another run has taken over: "
            "this run stops, and the new holder completes its work"
        )


def release(connection: psycopg.Connection, lease: Lease, *, ended: str | None = None) -> None:
    """Release a lease, so that another run can acquire it immediately; a lost lease is not changed.

    Args:
        connection: connection in autocommit mode.
        lease: the lease to release.
        ended: reason for the standby; None if the run failed.
    """
    connection.execute(_RELEASE, (ended, lease.name, lease.role, lease.holder, lease.fencing))


def record_hidden(connection: psycopg.Connection, lease: Lease, seconds: int) -> None:
    """Record the initial visibility timeout of the messages that the holder receives.

    Raises:
        LeaseLostError: if another run has acquired the lease.
    """
    values = (seconds, lease.name, lease.role, lease.holder, lease.fencing)
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit TO on")
        require_held(connection.execute(_RECORD_HIDDEN, values), lease)


def hidden_seconds(connection: psycopg.Connection, lease: Lease) -> int:
    """Return the initial visibility timeout recorded last, by this holder or an earlier one; 0 if there is none."""
    row = connection.execute(_HIDDEN, (lease.name,)).fetchone()
    return 0 if row is None else row[0]


def is_free(connection: psycopg.Connection, name: str) -> bool:
    """Return whether a lease has no holder; unlike ``acquire``, this writes nothing."""
    row = connection.execute(_IS_FREE, (name,)).fetchone()
    return row is not None and row[0]


def last_ended(connection: psycopg.Connection, name: str) -> str | None:
    """Return the reason why the last holder released the lease; None if it did not, or the lease is held."""
    row = connection.execute(_ENDED, (name,)).fetchone()
    return None if row is None else row[0]
