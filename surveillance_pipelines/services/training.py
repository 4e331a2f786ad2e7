"""Trains the models of a bundle on the training set of a run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.services.build_folder import BuildFolder
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.training.bundle_training import TrainedBundle
    from surveillance_pipelines.training.deadline import Progress


@dataclass(frozen=True, slots=True)
class TrainedModels:
    """The trained members of a bundle.

    Attributes:
        bundle: the members with their checks.
        bundle_hash: hash of the saved bundle.
        seconds: duration of the training of all members.
        figures: plots of the training, PNG bytes by name.
    """

    bundle: "TrainedBundle"
    bundle_hash: str
    seconds: float
    figures: dict[str, bytes]


def train_members(stores: Stores, folder: BuildFolder, *, progress: "Progress") -> TrainedModels:
    """Train one model of every kind on the run's training set, and save bundle, parameters and plots in its folder.

    Args:
        stores: settings and clock.
        folder: folder of the run, with its training set.
        progress: called with the member's name and its completed fraction.

    Raises:
        FileNotFoundError: if the folder has no training set.
        TrainingTimeout: if ``MODEL_TRAINING_MAX_DURATION_SECONDS`` pass; nothing is saved.
        ParityError: if the outputs of an exported model differ from those of the trained model.
        ValueError: if a split is empty or a class has no rows.
    """
    from surveillance_pipelines.training.bundle_training import save_bundle, train_bundle, training_parameters
    from surveillance_pipelines.training.deadline import Deadline
    from surveillance_pipelines.training.plots import training_figures
    from surveillance_pipelines.training.training_data import TrainingSet

    clock = stores.clock
    rows = TrainingSet.load(folder.require(folder.training_set))
    began = clock.now_us()
    trained = train_bundle(
        rows,
        seed=int(rows.params["seed"]),
        deadline=Deadline.after(stores.settings.model_training_max_duration_seconds, clock),
        progress=progress,
    )
    bundle_hash = save_bundle(trained, folder.bundle)
    seconds = (clock.now_us() - began) / MICROSECONDS
    folder.save_facts("training", {"seconds": seconds, "parameters": training_parameters(trained)})
    figures = training_figures(trained)
    folder.save_figures(figures)
    return TrainedModels(trained, bundle_hash, seconds, figures)
