"""Inference of the anomaly classifier: probabilities of the anomaly kinds, from boosted trees."""

from typing import Any, Final

from surveillance_pipelines.contracts.predictions import AnomalyKinds
from surveillance_pipelines.models.arrays import as_float32, run_model
from surveillance_pipelines.models.contract import FeatureWindow, InputSpec, OutputSpec
from surveillance_pipelines.models.members import Files, MemberSpec
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
        return cls(spec, inference_session(files[MODEL_FILE]))

    def predict(self, window: FeatureWindow) -> AnomalyKinds:
        return AnomalyKinds(self.output.labels, run_model(self.session, as_float32(window[:, -1, :])))
