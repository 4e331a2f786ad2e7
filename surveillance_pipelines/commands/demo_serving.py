"""Live serving in the demo: wait for the drain runs and read the output queue."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.commands.children import Child
from surveillance_pipelines.commands.console import Bar, counted, progress
from surveillance_pipelines.contracts.errors import OperationFailedError
from surveillance_pipelines.services.demo_outputs import count_outcomes, receive_messages
from surveillance_pipelines.services.platform import Platform

if TYPE_CHECKING:
    import dagster as dg


STALL_TIMEOUT_SECONDS: Final = 180.0
"""Time without progress after which the demo fails; more than the start of a run on a busy machine."""


@dataclass
class Served:
    """Results of serving: alerts and signals read from the output queue, and inputs per outcome in the ledger."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    run_ids: list[str] = field(default_factory=list)

    @property
    def completed(self) -> int:
        """Number of inputs with an outcome."""
        return sum(self.outcomes.values())


def serve(platform: Platform, instance: "dg.DagsterInstance", daemon: Child, sent: int) -> Served:
    """Read the output queue until every input has an outcome, everything is published, and the drain run has ended.

    Raises:
        OperationFailedError: after ``STALL_TIMEOUT_SECONDS`` without progress, or if the daemon or all drain runs fail.
    """
    served = Served()
    queue = platform.queue(platform.endpoints.output_queue_url)
    moved_at, before = platform.clock.now_us(), (-1, -1, frozenset[str]())
    with progress("inputs with an outcome", total=sent) as bar:
        while True:
            received = receive_messages(queue)
            served.messages += received
            served.outcomes, unpublished = count_outcomes(platform)
            running = _drain_runs(instance, served)
            _show(bar, served, running=running)
            state = (served.completed, len(served.messages), running)
            if state != before:
                moved_at, before = platform.clock.now_us(), state
            if served.completed >= sent and not unpublished and not running and not received:
                return served
            daemon.check_alive()
            _check_progress(platform, served, sent, running=bool(running), since=moved_at)


def _show(bar: Bar, served: Served, *, running: frozenset[str]) -> None:
    summary = ", ".join(f"{count:,} {name}" for name, count in served.outcomes.items())
    incidents = len({message["incident_id"] for message in served.messages if message["type"] == "incident"})
    waiting = "a drain run is starting" if running else "waiting for the sensor"
    bar.set(served.completed, note=f"{summary}; {counted(incidents, 'incident')}" if summary else waiting)


def _drain_runs(instance: "dg.DagsterInstance", served: Served) -> frozenset[str]:
    """Record the ids of the drain runs, and return the unfinished ones with their status."""
    import dagster as dg

    runs = instance.get_runs(filters=dg.RunsFilter(job_name="drain_job"), limit=20)
    served.run_ids = [run.run_id for run in reversed(runs)]
    if runs and all(run.is_failure for run in runs):
        raise OperationFailedError(
            f"every drain run failed; the last one is {runs[0].run_id}",
            remedy=f"open it in the Dagster UI (`surveillance up`), under Runs, id {runs[0].run_id[:8]}",
        )
    return frozenset(f"{run.run_id} {run.status.value}" for run in runs if not run.is_finished)


def _check_progress(platform: Platform, served: Served, sent: int, *, running: bool, since: int) -> None:
    waited = (platform.clock.now_us() - since) / 1e6
    # A run without further messages ends after its idle time; this wait is not a stall.
    if waited < STALL_TIMEOUT_SECONDS + (platform.settings.drain_idle_seconds if running else 0):
        return
    state = "a drain run is in progress" if running else "no drain run is in progress"
    log = platform.home / "logs" / "dagster-daemon.log"
    raise OperationFailedError(
        f"expected an outcome for each of {sent:,} inputs; after {waited:.0f} s without progress {served.completed:,} "
        f"have one, and {state}",
        remedy=f"read {log}, or the ticks of market_queue_sensor in the Dagster UI (`surveillance up`)",
    )
