"""The registry of model kinds. A new kind needs one file here, one file in ``training/`` and one entry in ``KINDS``.

The training module is referenced by name: this package must import without the training libraries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from surveillance_pipelines.contracts.predictions import PredictionKind
from surveillance_pipelines.models.autoencoder import Autoencoder
from surveillance_pipelines.models.classifier import Classifier
from surveillance_pipelines.models.contract import Model
from surveillance_pipelines.models.direction import DirectionModel
from surveillance_pipelines.models.members import BundleError, Files, MemberSpec
from surveillance_pipelines.models.tail_detector import TailDetector

_OTHER_BUNDLE: Final = "use another bundle, or train a new one"


@dataclass(frozen=True, slots=True)
class ModelKind:
    """One kind of model.

    Attributes:
        name: name of the kind, of its file in ``training/``, and of the member in a bundle.
        output: kind of its predictions; a member that declares another one is refused.
        load: creates the model from a member's verified files.
        description: one sentence for the catalogue.
        libraries: libraries that train and run it, by Dagster's names for kinds.
        reads: kinds of which it reads the statistics; they are trained first.
        checks: names of the checks that its training reports.
        window_length: bars per window; a member with longer windows is refused.
        training_module: dotted name of the module that defines ``train``; ``training/<name>.py`` if empty.
    """

    name: str
    output: PredictionKind
    load: Callable[[MemberSpec, Files], Model]
    description: str
    libraries: frozenset[str]
    reads: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    window_length: int = 1
    training_module: str = ""

    @property
    def trainer(self) -> str:
        """Dotted name of the module that trains the kind."""
        return self.training_module or f"surveillance_pipelines.training.{self.name}"


KINDS: Final[dict[str, ModelKind]] = {
    kind.name: kind
    for kind in (
        ModelKind(
            name="tail_detector",
            output="anomaly_score",
            load=TailDetector.load,
            description="Compares each of a few features with its own tail on ordinary bars of the same session phase.",
            libraries=frozenset({"scipy"}),
            checks=("tails_are_finite",),
        ),
        ModelKind(
            name="autoencoder",
            output="anomaly_score",
            load=Autoencoder.load,
            description="Learns ordinary bars; the classifier reads its error, which is high for a bar unlike them.",
            libraries=frozenset({"pytorch", "onnx"}),
            checks=("has_learned",),
        ),
        ModelKind(
            name="classifier",
            output="anomaly_kind",
            load=Classifier.load,
            description="Names the kind of an anomaly from the features and the autoencoder's error.",
            libraries=frozenset({"xgboost", "onnx"}),
            reads=("autoencoder",),
            checks=("export_is_exact",),
        ),
        ModelKind(
            name="direction",
            output="direction",
            load=DirectionModel.load,
            description="Predicts SELL, HOLD or BUY for the next minutes; serves once it beats a constant prediction.",
            libraries=frozenset({"xgboost", "onnx"}),
            checks=("export_is_exact",),
        ),
    )
}
"""Name → kind, in the order in which a bundle is trained."""


def longest_window() -> int:
    """Return the largest ``window_length`` of all kinds."""
    return max(kind.window_length for kind in KINDS.values())


def load_model(spec: MemberSpec, files: Files) -> Model:
    """Return the model of a member.

    Raises:
        BundleError: if the kind is unknown to this release, or has another output or shorter windows than the member,
            or a file or an entry that the kind needs is missing or cannot be loaded.
    """
    kind = KINDS.get(spec.kind)
    if kind is None:
        raise BundleError(
            f"expected a model kind among {sorted(KINDS)}, got {spec.kind!r}", remedy="use the release that has it"
        )
    if spec.output.kind != kind.output:
        raise BundleError(
            f"expected the output {kind.output!r} of member {spec.name!r} of kind {kind.name!r}, "
            f"got {spec.output.kind!r}",
            remedy=_OTHER_BUNDLE,
        )
    missing = sorted(set(spec.files) - files.keys())
    if missing:
        raise BundleError(f"expected the files {list(spec.files)} of member {spec.name!r}, missing {missing}")
    if spec.input.length > kind.window_length:
        raise BundleError(
            f"expected windows of at most {kind.window_length} bars of member {spec.name!r} of kind {kind.name!r}, "
            f"got {spec.input.length}",
            remedy=_OTHER_BUNDLE,
        )
    try:
        return kind.load(spec, files)
    except BundleError as error:
        message = f"member {spec.name!r} of kind {kind.name!r} is refused: {error.message}"
        raise BundleError(message, remedy=error.remedy or _OTHER_BUNDLE) from error
    except KeyError as error:
        raise BundleError(
            f"expected {error.args[0]!r} in member {spec.name!r} of kind {kind.name!r}, missing", remedy=_OTHER_BUNDLE
        ) from error
    except Exception as error:  # a file may hold anything, and every library raises its own types
        raise BundleError(
            f"expected files that member {spec.name!r} of kind {kind.name!r} can load, got {error!r:.300}",
            remedy=_OTHER_BUNDLE,
        ) from error
