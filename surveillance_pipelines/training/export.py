"""Export of trained models to ONNX, and the check that ONNX Runtime reproduces the native model's outputs."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxmltools.convert import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from xgboost import Booster

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.models.arrays import run_model
from surveillance_pipelines.models.runtime import inference_session

OPSET: Final = 17
IR_VERSION: Final = 10

PARITY_ROWS: Final = 2_000
"""Rows on which an exported model is compared with the trained one."""

MAX_DIFFERENCE: Final = 1e-5
"""Largest accepted difference between ONNX Runtime and the native model, due to the order of float32 sums."""


class ParityError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """The outputs of the exported model differ from those of the trained model."""


def autoencoder_to_onnx(layers: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> bytes:
    """Return a stack of linear layers with ReLU between as an ONNX model, float32[n, d] → float32[n, d]."""
    nodes, weights, last = [], [], "scaled"
    for i, (weight, bias) in enumerate(layers):
        weights += [numpy_helper.from_array(weight, f"weight_{i}"), numpy_helper.from_array(bias, f"bias_{i}")]
        output = "reconstructed" if i == len(layers) - 1 else f"linear_{i}"
        nodes.append(helper.make_node("Gemm", [last, f"weight_{i}", f"bias_{i}"], [output], transB=1))
        last = output
        if i < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [output], [f"relu_{i}"]))
            last = f"relu_{i}"
    columns = layers[0][0].shape[1]
    graph = helper.make_graph(
        nodes,
        "market_autoencoder",
        [helper.make_tensor_value_info("scaled", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("reconstructed", TensorProto.FLOAT, [None, columns])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def booster_to_onnx(booster: Booster, columns: int, name: str) -> bytes:
    """Return a softmax ensemble as an ONNX model, float32[n, columns] → (labels, probabilities float32[n, classes]).

    NaN follows the branch that XGBoost learned for missing values.
    """
    model = convert_xgboost(booster, name=name, initial_types=[("features", FloatTensorType([None, columns]))])
    return model.SerializeToString(deterministic=True)


def require_parity(model: bytes, inputs: npt.NDArray[np.float32], native: npt.NDArray[np.floating], name: str) -> float:
    """Return the largest absolute difference between an ONNX model and the native model's outputs.

    Args:
        model: the exported model.
        inputs: float32[n, d].
        native: outputs of the native model.
        name: name of the model, for the error.

    Raises:
        ParityError: if a value differs by more than ``MAX_DIFFERENCE``.
    """
    difference = float(np.abs(run_model(inference_session(model), inputs) - native).max(initial=0.0))
    if not difference <= MAX_DIFFERENCE:
        raise ParityError(f"expected the exported {name} within {MAX_DIFFERENCE} of the trained one, got {difference}")
    return difference
