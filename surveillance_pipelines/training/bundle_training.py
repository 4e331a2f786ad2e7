"""Training of a bundle: trains a member of each kind on one training set and writes the bundle."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from surveillance_pipelines.evaluation.drift import reference_histograms
from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.models.bundle import write_bundle
from surveillance_pipelines.models.kinds import KINDS
from surveillance_pipelines.models.ordinary_values import ORDINARY, ordinary_to_json, ordinary_values
from surveillance_pipelines.models.session_phase import PHASE_COLUMNS, session_phases
from surveillance_pipelines.training.deadline import Deadline, Progress, no_progress
from surveillance_pipelines.training.member import MemberContext, TrainedMember, trainer_of
from surveillance_pipelines.training.training_data import TrainingSet

LIBRARIES: Final = (
    "numpy",
    "onnx",
    "onnxmltools",
    "onnxruntime",
    "polars",
    "scikit-learn",
    "scipy",
    "torch",
    "xgboost",
)

Configs = Mapping[str, Any]
"""Kind → configuration, a dataclass such as ``AutoencoderConfig``; other kinds use their defaults."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainedBundle:
    """The trained members of a bundle, before it is written.

    Attributes:
        training_set: the training set.
        configs: configurations by kind, as given.
        seed: seed of all random choices.
        members: members by name, each after the members that it depends on.
    """

    training_set: TrainingSet
    configs: Configs
    seed: int
    members: Mapping[str, TrainedMember]


def train_bundle(
    training_set: TrainingSet,
    *,
    seed: int,
    deadline: Deadline,
    configs: Configs | None = None,
    progress: Progress = no_progress,
) -> TrainedBundle:
    """Train a member of every kind in the registry, export each, and check the exports.

    Equal training sets, seeds and library versions give equal bundles, byte for byte, on one runtime.

    Args:
        training_set: rows with labels and splits.
        seed: seed of all random choices.
        deadline: checked between epochs and boosting rounds.
        configs: configurations that differ from the kinds' defaults.
        progress: called with the member's name and its completed fraction.

    Raises:
        TrainingTimeout: if the deadline passes; nothing is written.
        ParityError: if the outputs of an exported model differ from those of the trained model.
        ValueError: if a split is empty or a class has no rows.
    """
    configs, members = configs or {}, dict[str, TrainedMember]()
    for kind in KINDS.values():
        context = MemberContext(
            training_set=training_set,
            seed=seed,
            deadline=deadline,
            progress=progress,
            config=configs.get(kind.name),
            earlier=members,
        )
        member = trainer_of(kind)(context)
        members[member.spec.name] = member
        deadline.check(f"the {kind.name}")
    progress("export", 1.0)
    return TrainedBundle(training_set=training_set, configs=configs, seed=seed, members=members)


def save_bundle(trained: TrainedBundle, path: Path) -> str:
    """Write the bundle of trained members to a new folder and return its ``bundle_hash``."""
    members = list(trained.members.values())
    return write_bundle(
        path,
        {name: content for member in members for name, content in member.files.items()},
        [member.spec for member in members],
        view=trained.training_set.feature_view,
        reference=_reference(trained.training_set),
        settings={"labels": list(trained.training_set.labels), "alerts_per_symbol_day": ALERTS_PER_SYMBOL_DAY},
        training=training_parameters(trained),
    )


def training_parameters(trained: TrainedBundle) -> dict[str, Any]:
    """Return the parameters needed to repeat the training, JSON-safe: seeds, sizes, data, library versions."""
    configs = {name: asdict(config) for name, config in trained.configs.items()}
    return {
        "seed": trained.seed,
        "config": configs,
        "data": trained.training_set.params | {"fingerprint": trained.training_set.fingerprint},
        "rows": dict(trained.training_set.frame.group_by("split").len().sort("split").iter_rows()),
        "members": {name: dict(member.facts) for name, member in trained.members.items()},
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _reference(training_set: TrainingSet) -> dict[str, Any]:
    rows = training_set.rows("train", labelled=True, original=True)
    columns = training_set.feature_view.model_columns
    values = feature_matrix(rows, columns)
    phases = session_phases(*feature_matrix(rows, PHASE_COLUMNS).T)
    return {
        "view": training_set.view,
        "columns": reference_histograms(values, columns),
        ORDINARY: ordinary_to_json(ordinary_values(values, phases, columns)),
    }
