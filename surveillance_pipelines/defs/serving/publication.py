"""Whether outputs reach the output queue: asked by a check, and by the drain run that materializes it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from surveillance_pipelines.runtime.meter import DrainReport

CHECK: Final = "alerts_are_published"

STUCK_SECONDS: Final = 60.0
"""A drain run publishes within milliseconds, and the next one publishes first what the one before left."""

EVALUATE_SECONDS: Final = 60.0
"""A query takes the serving loop a few milliseconds: so long between two of them in a run."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What waits in the outbox: how many messages, and since how many seconds the oldest."""

    waiting: int
    seconds: float

    @property
    def passed(self) -> bool:
        return self.seconds <= STUCK_SECONDS

    @property
    def said(self) -> str:
        if not self.waiting:
            return "nothing waits for its publication"
        advice = "" if self.passed else ": look into the log of the queue's drain run, or start drain_job for it"
        return f"{self.waiting:,} messages wait, the oldest for {self.seconds:.1f} s{advice}"

    @property
    def metadata(self) -> dict[str, Any]:
        return {"waiting": self.waiting, "oldest_seconds": round(self.seconds, 1)}


def publication(platform: PlatformResource) -> Publication:
    """Return how publication stands, of all queues."""
    from surveillance_pipelines.stores.quality import unpublished_since

    with platform.connect() as connection:
        return Publication(*unpublished_since(connection, platform.clock))


@dataclass
class PublicationCheck:
    """Evaluates the check from inside a drain run: Dagster forgets an evaluation that is older than a materialization.

    Within a run the evaluation counts for all its materializations, so once a minute and at the end is enough.
    """

    platform: PlatformResource
    _due_seconds: float = field(default=0.0, init=False)

    def evaluate(self, context: dg.OpExecutionContext, report: "DrainReport") -> None:
        """Log an evaluation if one is due and the run has published something."""
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
            description=found.said,
            metadata=found.metadata,
        )
        context.log_event(evaluation)  # pyright: ignore[reportArgumentType] (its body takes one, its annotation does not)
