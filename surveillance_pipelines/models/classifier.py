"""Inference of the anomaly classifier: probabilities of the anomaly kinds, from boosted trees."""

from typing import Any, Final

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.contracts.predictions import AnomalyKinds
from surveillance_pipelines.models.arrays import as_float32, require_shape, run_model
from surveillance_pipelines.models.contract import FeatureWindow, InputSpec, OutputSpec
from surveillance_pipelines.models.members import BundleError, Files, MemberSpec
from surveillance_pipelines.models.runtime import inference_session

MODEL_FILE: Final = "market_classifier.onnx"


class Classifier:
    """A softmax ensemble over raw features (NaN is missing) and the autoencoder's error."""

    def __init__(self, spec: MemberSpec, session: Any) -> None:
        self.id: Final = spec.id
        self.input: Final[InputSpec] = spec.input
        self.output: Final[OutputSpec] = spec.output
        self.session = session

    @classmethod
    def load(cls, spec: MemberSpec, files: Files) -> "Classifier":
        """Return the model loaded from its files.

        Raises:
            BundleError: if the labels are no anomaly kinds, or in another order.
            ValueError: if the model has another number of inputs or labels.
        """
        kinds = [kind for kind in ANOMALY_KINDS if kind in spec.output.labels]
        if list(spec.output.labels[1:]) != kinds:
            raise BundleError(
                f"expected labels in the order of {list(ANOMALY_KINDS)}, got {list(spec.output.labels[1:])}",
                remedy="use another bundle, or train a new one",
            )
        session = inference_session(files[MODEL_FILE])
        require_shape(session, inputs=len(spec.input.columns), outputs=len(spec.output.labels))
        return cls(spec, session)

    def predict(self, window: FeatureWindow) -> AnomalyKinds:
        return AnomalyKinds(self.output.labels, run_model(self.session, as_float32(window[:, -1, :])))
