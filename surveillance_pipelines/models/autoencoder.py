"""Inference of the autoencoder: the mean squared error with which it reconstructs a bar."""

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.predictions import AnomalyScores
from surveillance_pipelines.models.arrays import require_shape, run_model
from surveillance_pipelines.models.contract import FeatureWindow, InputSpec, OutputSpec
from surveillance_pipelines.models.kernel_calls import call
from surveillance_pipelines.models.members import BundleError, Files, MemberSpec
from surveillance_pipelines.models.runtime import inference_session

Floats = npt.NDArray[np.float64]

MODEL_FILE: Final = "market_autoencoder.onnx"
SCALER_FILE: Final = "market_scaler.json"
STATISTIC: Final = "reconstruction_error"


@dataclass(frozen=True, slots=True)
class Scaling:
    """Robust scaling of the input columns: ``clip((x − center) / scale, −clip, clip)``.

    Attributes:
        center: float64[d], medians of the training normals.
        scale: float64[d], interquartile ranges, all positive.
        clip: bound of a scaled value.
    """

    center: Floats
    scale: Floats
    clip: float


class Autoencoder:
    """Reconstructs bars from a low-dimensional code; ordinary bars have a small reconstruction error."""

    def __init__(self, spec: MemberSpec, session: Any, scaling: Scaling) -> None:
        self.id: Final = spec.id
        self.input: Final[InputSpec] = spec.input
        self.output: Final[OutputSpec] = spec.output
        self.scaling: Final = scaling
        self.session = session

    @classmethod
    def load(cls, spec: MemberSpec, files: Files) -> "Autoencoder":
        """Return the model loaded from its files.

        Raises:
            BundleError: if the scaling does not fit the input columns.
        """
        scaling = parse_scaling(files[SCALER_FILE], spec.input.columns)
        session = inference_session(files[MODEL_FILE])
        require_shape(session, inputs=len(scaling.center), outputs=len(scaling.center))
        return cls(spec, session, scaling)

    def predict(self, window: FeatureWindow) -> AnomalyScores:
        return AnomalyScores(*reconstruct(self.session, *scaled_inputs(window[:, -1, :], self.scaling)))


def scale(inputs: Floats, scaling: Scaling) -> npt.NDArray[np.float32]:
    """Return the network's inputs, float32[n, d]: scaled and clipped; missing values are set to the median."""
    return scaled_inputs(inputs, scaling)[0]


def scaled_inputs(inputs: Floats, scaling: Scaling) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the network's inputs, float32[n, d], and where the inputs are missing, bool[n, d]."""
    scaled, missing = np.empty(inputs.shape, dtype=np.float32), np.empty(inputs.shape, dtype=np.bool_)
    call("scale", np.ascontiguousarray(inputs), scaling.center, scaling.scale, scaling.clip, scaled, missing)
    return scaled, missing


def reconstruct(session: Any, scaled: npt.NDArray[np.float32], missing: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the mean squared error of the present values, float64[n], and the squared errors, float64[n, d]."""
    error, squares = np.empty(len(scaled)), np.empty(scaled.shape)
    call("squared_errors", scaled, np.ascontiguousarray(run_model(session, scaled)), missing, error, squares)
    return error, squares


def parse_scaling(content: bytes, columns: tuple[str, ...]) -> Scaling:
    """Return the scaling stored in ``market_scaler.json``.

    Raises:
        BundleError: if it does not scale exactly ``columns``.
    """
    try:
        value: dict[str, Any] = json.loads(content)
        named, clip = list(value["columns"]), float(value["clip"])
        center, spread = (np.asarray(value[name], dtype=np.float64) for name in ("center", "scale"))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(f"expected columns, center, scale and clip in {SCALER_FILE}: {error!r}") from error
    if named != list(columns):
        raise BundleError(f"expected {SCALER_FILE} to scale the input columns in order, got {named!r:.300}")
    sized = center.shape == spread.shape == (len(columns),)
    if not sized or not np.isfinite([*center, *spread, clip]).all() or not (spread > 0).all() or clip <= 0:
        raise BundleError(f"expected a finite center, a positive scale per input column and a clip in {SCALER_FILE}")
    return Scaling(center=center, scale=spread, clip=clip)
