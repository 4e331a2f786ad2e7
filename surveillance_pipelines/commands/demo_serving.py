"""The demo's live part: a real daemon with its sensor, ticks through the input queue, alerts from the output queue."""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from surveillance_pipelines.commands.children import Child
from surveillance_pipelines.commands.console import Bar, progress
from surveillance_pipelines.commands.context import Platform
from surveillance_pipelines.commands.failures import CommandError

if TYPE_CHECKING:
    import dagster as dg

    from surveillance_pipelines.transports.sqs import QueueClient

PATIENCE_SECONDS: Final = 90.0
"""Without any progress for this long, something is broken: a sensor tick and a run's start take a tenth of it."""

_HOLD_SECONDS: Final = 60
_MOST_PER_LOOK: Final = 200

_LATENCIES: Final = """
WITH spoken AS (
    SELECT body::jsonb ->> 'correlation_id' AS message_id, (body::jsonb ->> 't_computed')::timestamptz AS computed_at,
           delivered_at AS published_at
    FROM ops.outbox JOIN ops.outbox_deliveries USING (position) WHERE channel = 'sqs'
), spans AS (
    SELECT received_at - sent_at AS waiting, computed_at - received_at AS compute, published_at - sent_at AS whole
    FROM spoken JOIN ops.inbox USING (message_id)
)
SELECT percentile_cont(%(at)s::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM waiting) * 1000),
       percentile_cont(%(at)s::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM compute) * 1000),
       percentile_cont(%(at)s::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM whole) * 1000)
FROM spans
"""
"""Of messages that made the platform say something; what the clock caused has no input to count from."""

_SPANS: Final = (
    "waiting in the input queue", "compute: received to scored, a micro-batch", "queue to queue: sent to published",
)  # fmt: skip

Latencies: TypeAlias = dict[str, dict[str, float]]
"""Span → percentile name → milliseconds."""


@dataclass
class Served:
    """What came of the ticks: alerts and signals read from the output queue, and the ledger's counts."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    run_ids: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return sum(self.outcomes.values())


def serve(platform: Platform, instance: "dg.DagsterInstance", daemon: Child, sent: int) -> Served:
    """Read the output queue until every input has an outcome, everything is published, and the drain run has ended.

    Raises:
        CommandError: if nothing moves for ``PATIENCE_SECONDS``, or the daemon or every drain run fails.
    """
    served = Served()
    queue = platform.queue(platform.endpoints.output_queue_url)
    moved_at, before = platform.clock.now_us(), (-1, -1)
    with progress("inputs with an outcome", total=sent) as bar:
        while True:
            read = _read(queue, served)
            served.outcomes, unpublished = _counts(platform)
            _show(bar, served)
            state = (served.answered, len(served.messages))
            if state != before:
                moved_at, before = platform.clock.now_us(), state
            running = _drain_runs(instance, served)
            if served.answered >= sent and not unpublished and not running and not read:
                return served
            daemon.check_alive()
            _check_patience(platform, served, sent, running=running, since=moved_at)


def latencies(platform: Platform) -> Latencies:
    """Return how long inputs took that caused an output, in milliseconds at p50, p95 and p99."""
    with platform.connect() as connection:
        row = connection.execute(_LATENCIES, {"at": [0.5, 0.95, 0.99]}).fetchone()
    if row is None or row[0] is None:
        return {}
    return {
        name: dict(zip(("p50", "p95", "p99"), values, strict=True)) for name, values in zip(_SPANS, row, strict=True)
    }


def _read(queue: "QueueClient", served: Served) -> int:
    """Take what the output queue holds now, for about a second, and return how many messages that was."""
    taken = 0
    while taken < _MOST_PER_LOOK:
        batch = queue.receive(10, wait_seconds=0 if taken else 1, visibility_seconds=_HOLD_SECONDS)
        if not batch:
            break
        served.messages += [json.loads(received.body) for received in batch]
        queue.delete([received.receipt_handle for received in batch])
        taken += len(batch)
    return taken


def _counts(platform: Platform) -> tuple[dict[str, int], int]:
    from surveillance_pipelines.stores.outbox import SQS, waiting

    with platform.connect() as connection:
        outcomes = connection.execute("SELECT outcome, count(*) FROM ops.ledger GROUP BY 1 ORDER BY 1").fetchall()
        return dict(outcomes), waiting(connection, SQS).count


def _show(bar: Bar, served: Served) -> None:
    said = ", ".join(f"{count:,} {name}" for name, count in served.outcomes.items())
    alerts = sum(message["type"] == "anomaly" for message in served.messages)
    bar.set(served.answered, note=f"{said or 'waiting for the sensor'}; {alerts} alert messages read back")


def _drain_runs(instance: "dg.DagsterInstance", served: Served) -> bool:
    """Note the drain runs so far and return whether one is still at work."""
    import dagster as dg

    runs = instance.get_runs(filters=dg.RunsFilter(job_name="drain_job"), limit=20)
    served.run_ids = [run.run_id for run in reversed(runs)]
    if runs and all(run.is_failure for run in runs):
        raise CommandError(
            f"every drain run failed, the last one is {runs[0].run_id}",
            remedy=f"open it in the Dagster UI (`surveillance up`), under Runs, id {runs[0].run_id[:8]}",
        )
    return any(not run.is_finished for run in runs)


def _check_patience(platform: Platform, served: Served, sent: int, *, running: bool, since: int) -> None:
    waited = (platform.clock.now_us() - since) / 1e6
    # A run that has answered everything waits for its idle time to pass: that is no standstill.
    if waited < PATIENCE_SECONDS + (platform.settings.drain_idle_seconds if running else 0):
        return
    state = "a drain run is at work" if running else "no drain run is at work"
    raise CommandError(
        f"expected an outcome for each of {sent:,} inputs; after {waited:.0f} s without progress {served.answered:,} "
        f"have one, and {state}",
        remedy=f"read {platform.home / 'logs' / 'dagster-daemon.log'}, or see the sensor's ticks in `surveillance up`",
    )
