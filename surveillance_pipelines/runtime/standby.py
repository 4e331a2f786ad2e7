"""Contention for a lease: take it, or stand by, warm, until it is free."""

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import psycopg

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.stores import lease as leases
from surveillance_pipelines.stores.lease import Lease, LeaseLostError
from surveillance_pipelines.telemetry import get_logger

LOOK_SECONDS: Final = 0.05
"""Interval between checks of the lease. A handover takes half of it on average; the query costs next to nothing."""

PATIENCE: Final = 1.5
"""How long a run without a standby's place waits, in lease durations: a dead run's place is free after one."""

NotServed = Literal["idle", "lease_held", "signal"]

_LOG = get_logger("standby")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A run that wants a lease.

    Attributes:
        lease_name: an input queue's URL or ``delivery:<channel>``.
        stands_by: whether to wait for as long as another run serves; if not, only while a dead run's lease may last.
        clock: source of time.
        stop: set when the run must end.
        on_status: called with a sentence when the run begins to wait.
        check: called repeatedly while the run waits; raises if the run could no longer serve.
    """

    lease_name: str
    run_id: str | None
    lease_seconds: float
    stands_by: bool
    clock: Clock
    stop: threading.Event
    on_status: Callable[[str], None] = lambda _: None
    check: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """Host and process, for people."""
        return f"{socket.gethostname()}:{os.getpid()}"


def contend(connection: psycopg.Connection, contender: Contender) -> Lease | NotServed:
    """Return the lease once this run may serve, or why it never will.

    ``idle``: the holder stopped because there is no work. ``lease_held``: another run serves and a second one stands
    by already.

    Args:
        connection: in autocommit mode.
        contender: the run that wants the lease.
    """
    lease = _acquire(connection, contender, "holder")
    if lease is not None:
        return lease
    place = _Place(connection, contender)
    try:
        return place.wait()
    finally:
        place.leave()


class _Place:
    """The standby's place beside a lease: at most one run has it."""

    def __init__(self, connection: psycopg.Connection, contender: Contender) -> None:
        self._connection: Final = connection
        self._contender: Final = contender
        self._place: Lease | None = None
        self._renewed = 0

    def wait(self) -> Lease | NotServed:
        contender, clock = self._contender, self._contender.clock
        until = clock.now_us() + round(PATIENCE * contender.lease_seconds * MICROSECONDS)
        while not contender.stop.is_set():
            contender.check()
            if self._keep(clock.now_us()) and leases.last_ended(self._connection, contender.lease_name) == "idle":
                return "idle"
            if leases.is_free(self._connection, contender.lease_name):
                lease = _acquire(self._connection, contender, "holder")
                if lease is not None:
                    return lease
            if self._place is None and clock.now_us() >= until:
                return "lease_held"
            clock.sleep(LOOK_SECONDS)
        return "signal"

    def leave(self) -> None:
        if self._place is not None:
            leases.release(self._connection, self._place)

    def _keep(self, now_us: int) -> bool:
        """Take or renew the place; return whether this run has it."""
        contender = self._contender
        if not contender.stands_by:
            return False
        if self._place is None:
            self._place = _acquire(self._connection, contender, "standby")
            if self._place is not None:
                _LOG.info("standing by", lease=contender.lease_name)
                contender.on_status("stands by, warm: another run serves; this one takes over when it ends or dies")
                self._renewed = now_us
        elif now_us - self._renewed >= contender.lease_seconds / leases.HEARTBEATS_PER_LEASE * MICROSECONDS:
            try:
                leases.renew(self._connection, self._place)
            except LeaseLostError:  # this run was suspended for longer than a lease, and another took its place
                self._place = None
            self._renewed = now_us
        return self._place is not None


def _acquire(connection: psycopg.Connection, contender: Contender, role: leases.Role) -> Lease | None:
    return leases.acquire(
        connection,
        contender.lease_name,
        holder=contender.name,
        seconds=contender.lease_seconds,
        run_id=contender.run_id,
        role=role,
    )
