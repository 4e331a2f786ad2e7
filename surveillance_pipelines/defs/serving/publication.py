"""Check of the publication to the SQS output queue, evaluated by a job and within drain runs."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from surveillance_pipelines.runtime.meter import DrainReport

CHECK: Final = "alerts_are_published"

STUCK_SECONDS: Final = 60.0
"""Maximum wait. A drain run publishes within milliseconds, beginning with messages that an earlier run left."""

EVALUATE_SECONDS: Final = 60.0
"""Interval between evaluations within a run; each query takes a few milliseconds of the serving loop."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Unpublished messages of the outbox: their number, and the age of the oldest in seconds."""

    waiting: int
    seconds: float

    @property
    def passed(self) -> bool:
        return self.seconds <= STUCK_SECONDS

    @property
    def summary(self) -> str:
        if not self.waiting:
            return "no message waits for publication"
        advice = "" if self.passed else ": read the log of the queue's drain run, or start drain_job for it"
        return f"{self.waiting:,} messages wait for publication, the oldest for {self.seconds:.1f} s{advice}"

    @property
    def metadata(self) -> dict[str, Any]:
        return {"waiting": self.waiting, "oldest_seconds": round(self.seconds, 1)}


def publication(platform: PlatformResource) -> Publication:
    """Return the messages that wait for the SQS output queue, over all input queues."""
    from surveillance_pipelines.stores.outbox import SQS, waiting

    with platform.connect() as connection:
        found = waiting(connection, SQS)
    return Publication(found.count, seconds_since(found.oldest_at, platform.clock))


def seconds_since(instant: int | None, clock: Clock) -> float:
    """Return the seconds since an instant; 0 for None."""
    return 0.0 if instant is None else (clock.now_us() - instant) / MICROSECONDS


@dataclass
class PublicationCheck:
    """Evaluates the check within a drain run.

    Dagster ignores evaluations older than the latest materialization. An evaluation covers all materializations of its
    run, so one per minute and one at the end are enough.
    """

    platform: PlatformResource
    _due_seconds: float = field(default=0.0, init=False)

    def evaluate(self, context: dg.OpExecutionContext, report: "DrainReport") -> None:
        """Log an evaluation if one is due and the run has published a message."""
        due = report.stopped_by is not None or report.seconds >= self._due_seconds
        if not due or not report.totals.get("published", 0):
            return
        self._due_seconds = report.seconds + EVALUATE_SECONDS
        found = publication(self.platform)
        evaluation = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("output_queue"),
            check_name=CHECK,
            passed=found.passed,
            severity=dg.AssetCheckSeverity.ERROR,
            description=found.summary,
            metadata=found.metadata,
        )
        context.log_event(evaluation)  # pyright: ignore[reportArgumentType] (its body takes one, its annotation does not)
