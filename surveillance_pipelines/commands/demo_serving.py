"""The demo's live part: a real daemon with its sensor, ticks through the input queue, alerts from the output queue."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.commands.children import Child
from surveillance_pipelines.commands.console import Bar, progress
from surveillance_pipelines.contracts.errors import OperationFailedError
from surveillance_pipelines.services.demo_outputs import count_outcomes, take_messages
from surveillance_pipelines.services.platform import Platform

if TYPE_CHECKING:
    import dagster as dg


PATIENCE_SECONDS: Final = 90.0
"""Without any progress for this long, something is broken: a sensor tick and a run's start take a tenth of it."""


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
        OperationFailedError: if nothing moves for ``PATIENCE_SECONDS``, or the daemon or every drain run fails.
    """
    served = Served()
    queue = platform.queue(platform.endpoints.output_queue_url)
    moved_at, before = platform.clock.now_us(), (-1, -1)
    with progress("inputs with an outcome", total=sent) as bar:
        while True:
            read = take_messages(queue)
            served.messages += read
            served.outcomes, unpublished = count_outcomes(platform)
            _show(bar, served)
            state = (served.answered, len(served.messages))
            if state != before:
                moved_at, before = platform.clock.now_us(), state
            running = _drain_runs(instance, served)
            if served.answered >= sent and not unpublished and not running and not read:
                return served
            daemon.check_alive()
            _check_patience(platform, served, sent, running=running, since=moved_at)


def _show(bar: Bar, served: Served) -> None:
    summary = ", ".join(f"{count:,} {name}" for name, count in served.outcomes.items())
    alerts = sum(message["type"] == "anomaly" for message in served.messages)
    bar.set(served.answered, note=f"{summary or 'waiting for the sensor'}; {alerts} alert messages read back")


def _drain_runs(instance: "dg.DagsterInstance", served: Served) -> bool:
    """Note the drain runs so far and return whether one is still at work."""
    import dagster as dg

    runs = instance.get_runs(filters=dg.RunsFilter(job_name="drain_job"), limit=20)
    served.run_ids = [run.run_id for run in reversed(runs)]
    if runs and all(run.is_failure for run in runs):
        raise OperationFailedError(
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
    raise OperationFailedError(
        f"expected an outcome for each of {sent:,} inputs; after {waited:.0f} s without progress {served.answered:,} "
        f"have one, and {state}",
        remedy=f"read {platform.home / 'logs' / 'dagster-daemon.log'}, or see the sensor's ticks in `surveillance up`",
    )
