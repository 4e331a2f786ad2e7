"""A model kind in one file: how large a bar's return is beside those of the 19 bars before it."""

import json
from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.predictions import AnomalyScores
from surveillance_pipelines.hashing import canonical_json, sha256_bytes
from surveillance_pipelines.models.contract import FeatureWindow, InputSpec, OutputSpec
from surveillance_pipelines.models.kinds import ModelKind
from surveillance_pipelines.models.members import Files, MemberSpec
from surveillance_pipelines.training.member import MemberContext, TrainedMember, TrainingCheck

LENGTH: Final = 20
FILE: Final = "toy.json"


class ToyModel:
    """The absolute return over the root mean square of the returns before it; 0 without any."""

    def __init__(self, spec: MemberSpec, floor: float) -> None:
        self.id: Final = spec.id
        self.input: Final = spec.input
        self.output: Final = spec.output
        self._floor: Final = floor

    @classmethod
    def load(cls, spec: MemberSpec, files: Files) -> "ToyModel":
        return cls(spec, float(json.loads(files[FILE])["floor"]))

    def predict(self, window: FeatureWindow) -> AnomalyScores:
        return AnomalyScores(statistic_of(window[:, :, 0], self._floor))


def statistic_of(returns: npt.NDArray[np.float64], floor: float) -> npt.NDArray[np.float64]:
    known = np.nan_to_num(returns)
    before = np.add.accumulate(known[:, :-1] ** 2, axis=1)[:, -1] / (returns.shape[1] - 1)
    return np.abs(known[:, -1]) / np.maximum(np.sqrt(before), floor)


def train(context: MemberContext) -> TrainedMember:
    rows = context.training_set.rows("train", labelled=True, original=True)
    returns = context.training_set.inputs(rows, ("log_return",), LENGTH)[:, :, 0]
    floor = float(np.nanmedian(np.abs(returns)))
    threshold = float(np.quantile(statistic_of(returns, floor), 0.8))
    content = canonical_json({"floor": floor}).encode()
    return TrainedMember(
        spec=MemberSpec(
            name="toy",
            kind="toy",
            version="0.1",
            files=(FILE,),
            file_hashes=(sha256_bytes(content),),
            input=InputSpec(context.training_set.view, ("log_return",), LENGTH),
            output=OutputSpec("anomaly_score", statistic="relative_return"),
            calibration={"rule": "knots", "statistic": [0.0, threshold, 4 * threshold], "score": [0.0, 0.5, 1.0]},
        ),
        files={FILE: content},
        native=None,
        facts={"floor": floor},
        checks=(TrainingCheck("is_finite", bool(np.isfinite(threshold)), {"threshold": threshold}),),
    )


TOY: Final = ModelKind(
    name="toy",
    output="anomaly_score",
    load=ToyModel.load,
    description="Compares a return with those before it.",
    libraries=frozenset({"numpy"}),
    checks=("is_finite",),
    window_length=LENGTH,
    training_module=__name__,
)
"""The row of the registry."""
