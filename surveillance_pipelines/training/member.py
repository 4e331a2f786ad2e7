"""The types of ``train`` in each ``training/<kind>.py``: input and result of training one member of a bundle."""

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
    """The input of a member's training.

    Attributes:
        training_set: rows with labels and splits.
        seed: seed of all random choices.
        deadline: checked between epochs and boosting rounds.
        progress: called with the member's name and its completed fraction.
        config: configuration of the kind, such as ``AutoencoderConfig``; None for its defaults.
        earlier: members already trained, by name.
    """

    training_set: TrainingSet
    seed: int
    deadline: Deadline
    progress: Progress
    config: Any
    earlier: Mapping[str, "TrainedMember"]


@dataclass(frozen=True, slots=True)
class TrainingCheck:
    """The outcome of one check in ``ModelKind.checks``."""

    name: str
    passed: bool
    facts: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainedMember:
    """A trained member: its part of the bundle, and data for reports.

    Attributes:
        spec: its specification in the bundle.
        files: content of its files, by name.
        native: the trained model before its export.
        facts: entries for the manifest, JSON-safe: epochs, rounds, parity.
        checks: outcomes of the kind's checks.
        loss_unit: unit of the x axis of the curves, ``epoch`` or ``round``; empty without curves.
        curves: name → loss per epoch or round.
        importance: share of each input column in the model's gain, float64[d]; None if not available.
        gate: the gate's decision on the test days; None if the kind has no gate.
        figures: name → plot of the model itself, PNG bytes.
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
    figures: Mapping[str, bytes] = field(default_factory=dict)

    def statistic(self, values: Floats) -> Floats:
        """Return the exported model's statistic, float64[n], for inputs float64[n, d]."""
        prediction: Any = load_model(self.spec, self.files).predict(values[:, np.newaxis, :])
        return prediction.statistic


def trainer_of(kind: ModelKind) -> Callable[[MemberContext], TrainedMember]:
    """Return the function ``train`` of a kind's training module."""
    return cast("Callable[[MemberContext], TrainedMember]", import_module(kind.trainer).train)
