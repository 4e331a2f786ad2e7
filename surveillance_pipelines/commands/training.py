"""One training run as a command sees it: what the evaluation measured and what the gate said."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from surveillance_pipelines.commands.context import Platform


@dataclass(frozen=True, slots=True)
class Training:
    """How a training ended; ``version`` is None when no bundle was registered."""

    run_id: str
    promoted: bool
    reasons: list[str]
    version: int | None
    metrics: dict[str, Any]
    seconds: float


def train_range(platform: Platform, first: date, last: date, *, seed: int) -> Training:
    """Train, evaluate and, if the gate agrees, promote, in one run over the days between two dates."""
    raise NotImplementedError
