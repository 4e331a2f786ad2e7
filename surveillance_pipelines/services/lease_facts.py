"""Who serves each queue and channel, and whether somebody has to: the lines *lease* of ``surveillance status``."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from surveillance_pipelines.services.facts import Fact, instant
from surveillance_pipelines.services.platform import Stores

_LEASES: Final = """
    SELECT queue_url, role, holder, heartbeat_at, expires_at <= clock_timestamp(), ended,
           (SELECT bundle_hash FROM ops.served_bundles AS served WHERE served.queue_url = leases.queue_url
            ORDER BY id DESC LIMIT 1)
    FROM ops.leases ORDER BY queue_url, role
"""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A row of ``ops.leases``.

    Attributes:
        name: URL of a queue, or ``delivery:<channel>``.
        role: ``holder`` or ``standby``.
        holder: host and process id of the run.
        heartbeat_at: time of the last renewal.
        is_expired: whether it is no longer held.
        ended: reason for which the run released it; None if it holds it, failed or was killed.
        bundle: bundle that served the queue last.
    """

    name: str
    role: str
    holder: str
    heartbeat_at: datetime
    is_expired: bool
    ended: str | None
    bundle: str | None


def lease_facts(stores: Stores, connection: Any) -> list[Fact]:
    """Return a line for each lease, and for each queue and channel with work that nobody has served yet."""
    rows = [LeaseRow(*row) for row in connection.execute(_LEASES)]
    work = _work(stores, connection)
    living = {row.name for row in rows if not row.is_expired}
    facts = [judge_lease(row, work.get(row.name, ""), is_served=row.name in living) for row in rows if _matters(row)]
    unserved = set(work) - {row.name for row in rows if row.role == "holder"}
    facts += [Fact(f"lease {_short(name)}", "warn", f"never held: {work[name]}") for name in sorted(unserved)]
    return facts or [Fact("leases", "ok", "none: no drain run has started yet")]


def judge_lease(row: LeaseRow, work: str, *, is_served: bool) -> Fact:
    """Return the line of a lease.

    Args:
        row: the lease.
        work: what waits to be served, and who serves it; empty if nothing waits.
        is_served: whether a run holds or awaits the lease now.
    """
    name, heartbeat = f"lease {_short(row.name)}", f"heartbeat {instant(row.heartbeat_at)}"
    if not row.is_expired:
        held = "standby" if row.role == "standby" else "held by"
        serving = "" if row.role == "standby" or row.bundle is None else f", bundle {row.bundle[:12]}"
        return Fact(name, "ok", f"{held} {row.holder}{serving}, {heartbeat}")
    if row.ended is None:
        found = f"expired: {row.holder} failed or was killed, last {heartbeat}"
    else:
        found = f"released by {row.holder} ({row.ended}), last {heartbeat}"
    consequence = "the standby takes over" if is_served else work or "nothing waits, and the next message starts a run"
    is_idle = row.ended is not None and (is_served or not work)
    return Fact(name, "ok" if is_idle else "warn", f"{found}; {consequence}")


def _matters(row: LeaseRow) -> bool:
    return row.role == "holder" or not row.is_expired


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _work(stores: Stores, connection: Any) -> dict[str, str]:
    """Return what waits at each queue and channel, by the name of its lease; only those where something waits."""
    from surveillance_pipelines.services.queue_watch import queue_state
    from surveillance_pipelines.stores.lease import delivery_lease
    from surveillance_pipelines.stores.outbox import waiting

    found: dict[str, str] = {}
    if stores.settings.use_sqs_data_source:
        for url in stores.endpoints.queue_urls:
            view = queue_state(stores.queue(url), connection, stores.clock)
            if view.has_work:
                found[url] = f"{view.work} wait and no run serves the queue: {_starts('market_queue_sensor')}"
    for channel in stores.settings.side_channels:
        if count := waiting(connection, channel).count:
            text = f"{count:,} messages wait and no run delivers them: {_starts('output_channel_sensor')}"
            found[delivery_lease(channel)] = text
    return found


def _starts(sensor: str) -> str:
    return f"{sensor} starts a run within seconds if the daemon runs (`surveillance up`)"
