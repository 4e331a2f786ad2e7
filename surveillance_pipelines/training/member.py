"""Input and result of training one member of a bundle: the types of ``train`` in each ``training/<kind>.py``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.evaluation.gate import GateDecision
from surveillance_pipelines.models.kinds import ModelKind, load_model
from surveillance_pipelines.models.members import MemberSpec
from surveillance_pipelines.training.deadline import Deadline, Progress
from surveillance_pipelines.training.training_data import TrainingSet

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MemberContext:
    """What a member is trained with.

    Attributes:
        training_set: rows with labels and splits.
        seed: of every random choice.
        deadline: checked between epochs and boosting rounds.
        progress: told the member's name and the fraction that is done.
        config: of the kind, such as ``AutoencoderConfig``; None for its defaults.
        earlier: the members trained before, by name.
    """

    training_set: TrainingSet
    seed: int
    deadline: Deadline
    progress: Progress
    config: Any
    earlier: Mapping[str, "TrainedMember"]


@dataclass(frozen=True, slots=True)
class TrainingCheck:
    """The outcome of one of the checks that ``ModelKind.checks`` names."""

    name: str
    passed: bool
    facts: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainedMember:
    """A trained member: what the bundle holds of it, and what reports show.

    Attributes:
        spec: as the bundle lists it.
        files: content of its files, by name.
        native: the trained model before its export.
        facts: what the manifest records, JSON-safe: epochs, rounds, parity.
        checks: outcomes of the kind's checks.
        loss_unit: the x axis of the curves, ``epoch`` or ``round``; empty without curves.
        curves: name → loss per epoch or round.
        importance: share of each input column in the model's gain, float64[d]; None where the kind has none.
        gate: the verdict on the test days, where the kind has a gate of its own.
    """

    spec: MemberSpec
    files: Mapping[str, bytes]
    native: Any
    facts: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[TrainingCheck, ...] = ()
    loss_unit: str = ""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    importance: Floats | None = None
    gate: GateDecision | None = None

    def statistic(self, values: Floats) -> Floats:
        """Return the exported model's statistic, float64[n], for inputs float64[n, d]."""
        prediction: Any = load_model(self.spec, self.files).predict(values[:, np.newaxis, :])
        return prediction.statistic


def trainer_of(kind: ModelKind) -> Callable[[MemberContext], TrainedMember]:
    """Return the function ``train`` of a kind's training module."""
    return cast("Callable[[MemberContext], TrainedMember]", import_module(kind.trainer).train)
