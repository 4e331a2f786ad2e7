"""Inference of the direction model: probabilities of SELL, HOLD and BUY, from boosted trees."""

from typing import Any, Final

from surveillance_pipelines.contracts.predictions import DIRECTIONS, Directions
from surveillance_pipelines.models.arrays import as_float32, require_shape, run_model
from surveillance_pipelines.models.contract import FeatureWindow, InputSpec, OutputSpec
from surveillance_pipelines.models.members import Files, MemberSpec
from surveillance_pipelines.models.runtime import inference_session

MODEL_FILE: Final = "market_direction.onnx"


class DirectionModel:
    """A softmax ensemble over raw features (NaN is missing)."""

    def __init__(self, spec: MemberSpec, session: Any) -> None:
        self.id: Final = spec.id
        self.input: Final[InputSpec] = spec.input
        self.output: Final[OutputSpec] = spec.output
        self.session = session

    @classmethod
    def load(cls, spec: MemberSpec, files: Files) -> "DirectionModel":
        session = inference_session(files[MODEL_FILE])
        require_shape(session, inputs=len(spec.input.columns), outputs=len(DIRECTIONS))
        return cls(spec, session)

    def predict(self, window: FeatureWindow) -> Directions:
        return Directions(run_model(self.session, as_float32(window[:, -1, :])), self.output.horizons_minutes[0])
