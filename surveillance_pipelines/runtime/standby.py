"""Contention for a lease: acquire it, or stand by until it is free."""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import psycopg

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.stores import lease as leases
from surveillance_pipelines.stores.database import OUTAGE_ERRORS, Reconnector, is_outage
from surveillance_pipelines.stores.lease import Lease, LeaseLostError
from surveillance_pipelines.telemetry import get_logger

CHECK_SECONDS: Final = 0.05
"""Interval between checks of the lease, which delay a handover by half of it on average; the query is cheap."""

OUTAGE_SECONDS: Final = 0.25
"""Interval between attempts to reach the database."""

WAIT_LEASES: Final = 1.5
"""Time that a run without the standby lease waits, in lease durations: a dead run's lease is free after one."""

NotServed = Literal["idle", "lease_held", "signal"]

_LOG = get_logger("standby")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A run that wants a lease.

    Attributes:
        lease_name: an input queue's URL or ``delivery:<channel>``.
        stands_by: whether to wait while another run serves; if not, wait only until a dead run's lease has expired.
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
        """Host and process id, shown to users."""
        return f"{socket.gethostname()}:{os.getpid()}"


def contend(link: Reconnector, contender: Contender) -> Lease | NotServed:
    """Return the lease once this run may serve, or the reason why it must end. Waits during outages of the database.

    ``idle``: the holder stopped because there is no work. ``lease_held``: another run serves, and this one must not
    stand by or another one already does. ``signal``: the run was asked to stop.

    Args:
        link: connection in autocommit mode.
        contender: the run that wants the lease.
    """
    slot = _StandbySlot(link, contender)
    try:
        return slot.wait()
    finally:
        slot.release()


class _StandbySlot:
    """Waits for a lease, holding its standby lease if possible; at most one run holds that."""

    def __init__(self, link: Reconnector, contender: Contender) -> None:
        self._link: Final = link
        self._contender: Final = contender
        self._lease: Lease | None = None
        self._renewed = 0
        self._is_outage = False

    def wait(self) -> Lease | NotServed:
        contender, clock = self._contender, self._contender.clock
        until = clock.now_us() + round(WAIT_LEASES * contender.lease_seconds * MICROSECONDS)
        while not contender.stop.is_set():
            contender.check()
            try:
                found = self._check()
            except OUTAGE_ERRORS as error:
                if not is_outage(error):
                    raise
                self._report_outage(error)
                until = clock.now_us() + round(WAIT_LEASES * contender.lease_seconds * MICROSECONDS)
                clock.sleep(OUTAGE_SECONDS)
                continue
            self._is_outage = False
            if found is not None:
                return found
            if self._lease is None and clock.now_us() >= until:
                return "lease_held"
            clock.sleep(CHECK_SECONDS)
        return "signal"

    def release(self) -> None:
        if self._lease is not None:
            with suppress(*OUTAGE_ERRORS):  # the lease expires
                leases.release(self._link.get(), self._lease)

    def _check(self) -> Lease | NotServed | None:
        """Return the lease or the reason to end; None to wait."""
        contender, connection = self._contender, self._link.get()
        if leases.is_free(connection, contender.lease_name):
            if self._lease is not None and leases.last_ended(connection, contender.lease_name) == "idle":
                return "idle"
            lease = _acquire(connection, contender, "holder")
            if lease is not None:
                return lease
        self._hold(connection, contender.clock.now_us())
        return None

    def _report_outage(self, error: Exception) -> None:
        if not self._is_outage:
            self._is_outage = True
            _LOG.warning("outage began", service="database", error=str(error))
            self._contender.on_status(f"the database is unavailable ({error}); waits until it answers again")

    def _hold(self, connection: psycopg.Connection, now_us: int) -> None:
        """Acquire or renew the standby lease."""
        contender = self._contender
        if not contender.stands_by:
            return
        if self._lease is None:
            self._lease = _acquire(connection, contender, "standby")
            if self._lease is not None:
                _LOG.info("standing by", lease=contender.lease_name)
                contender.on_status("stands by: another run serves; this one takes over when that run ends or dies")
                self._renewed = now_us
        elif now_us - self._renewed >= contender.lease_seconds / leases.HEARTBEATS_PER_LEASE * MICROSECONDS:
            try:
                leases.renew(connection, self._lease)
            except LeaseLostError:  # this run was suspended for longer than a lease, and another run acquired it
                self._lease = None
            self._renewed = now_us


def _acquire(connection: psycopg.Connection, contender: Contender, role: leases.Role) -> Lease | None:
    return leases.acquire(
        connection,
        contender.lease_name,
        holder=contender.name,
        seconds=contender.lease_seconds,
        run_id=contender.run_id,
        role=role,
    )
