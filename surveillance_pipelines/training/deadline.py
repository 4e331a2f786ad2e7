"""The time budget of a training, checked between epochs and boosting rounds."""

from collections.abc import Callable
from dataclasses import dataclass

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError

Progress = Callable[[str, float], None]
"""Called with the stage's name and the fraction of the whole training that is done, 0..1."""


class TrainingTimeout(SurveillanceError, code=ErrorCode.TIMEOUT):  # noqa: N818
    """The training took longer than ``MODEL_TRAINING_MAX_DURATION_SECONDS``; nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The instant by which a training has to end.

    Attributes:
        ends_at: microseconds since the epoch, UTC.
        clock: what the instant is compared with.
    """

    ends_at: int
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> "Deadline":
        """Return the deadline that lies ``seconds`` ahead."""
        return cls(clock.now_us() + round(seconds * MICROSECONDS), clock)

    def check(self, done: str) -> None:
        """Raise when the deadline has passed.

        Args:
            done: what had been finished, for the error's words.

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
    """Report nothing."""
