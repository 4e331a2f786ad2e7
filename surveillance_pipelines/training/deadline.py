"""The time budget of a training, checked between epochs and boosting rounds."""

from collections.abc import Callable
from dataclasses import dataclass

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError

Progress = Callable[[str, float], None]
"""Called with a stage's name and the completed fraction, 0..1."""


class TrainingTimeout(SurveillanceError, code=ErrorCode.TIMEOUT):  # noqa: N818
    """The training took longer than ``MODEL_TRAINING_MAX_DURATION_SECONDS``; no result is kept."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The instant by which a training has to end.

    Attributes:
        ends_at: microseconds since the epoch, UTC.
        clock: clock that the instant is compared with.
    """

    ends_at: int
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> "Deadline":
        """Return a deadline ``seconds`` from now."""
        return cls(clock.now_us() + round(seconds * MICROSECONDS), clock)

    def check(self, done: str) -> None:
        """Raise if the deadline has passed.

        Args:
            done: the completed work, for the error message.

        Raises:
            TrainingTimeout: if the clock is past ``ends_at``.
        """
        late = self.clock.now_us() - self.ends_at
        if late > 0:
            raise TrainingTimeout(
                f"training stopped {late / MICROSECONDS:.1f} s past its limit after {done}; no model was kept: "
                "raise MODEL_TRAINING_MAX_DURATION_SECONDS or train on fewer days"
            )


def no_progress(stage: str, fraction: float) -> None:
    """Ignore progress."""
