"""Files of bundles that ask for more memory than they account for: each is refused, with the reason."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from surveillance_pipelines.models.bundle import MAX_JSON_BYTES, load_bundle
from surveillance_pipelines.models.declared_sizes import check_file
from surveillance_pipelines.models.members import BundleError
from surveillance_pipelines.models.runtime import inference_session

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
_V1: Final = Path(__file__).parent / "v1" / "bundle"
_INPUT: Final = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])
_OUTPUT: Final = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)


def _weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def _shape_only(name: str, *shape: int) -> Any:
    return onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=shape)


def _model(*nodes: Any, weights: tuple[Any, ...] = (), inputs: tuple[Any, ...] = (_INPUT,)) -> bytes:
    graph = helper.make_graph(list(nodes), "g", list(inputs), [_OUTPUT], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def _node(operator: str, inputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(operator, inputs, ["y"], **attributes)


def _subgraph() -> Any:
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "b", [], [_OUTPUT])
    return helper.make_node("Relu", ["x"], ["y"], then_branch=branch)


def _external() -> Any:
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4, 4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/dev/zero")
    return tensor


def _with_function() -> bytes:
    model = onnx.load_from_string(_model(_node("Relu", ["x"])))
    model.functions.add(name="f", domain="d")
    return model.SerializeToString()


_HUGE: Final = numpy_helper.from_array(np.array([1 << 40], np.int64), "s")
HOSTILE: Final[dict[str, tuple[bytes, str]]] = {
    "ConstantOfShape": (_model(_node("ConstantOfShape", ["s"]), weights=(_HUGE,)), "expected the operators"),
    "Expand": (_model(_node("Expand", ["x", "s"]), weights=(_HUGE,)), "expected the operators"),
    "Tile": (_model(_node("Tile", ["x", "s"]), weights=(_HUGE,)), "expected the operators"),
    "Loop, If or another subgraph": (_model(_subgraph()), "a subgraph"),
    "an operator of another domain": (_model(_node("Relu", ["x"], domain="com.microsoft")), "expected the operators"),
    "a function": (_with_function(), "functions"),
    "weights in another file": (_model(_node("MatMul", ["x", "w"]), weights=(_external(),)), "in another one"),
    "a weight that is only a shape": (
        _model(_node("MatMul", ["x", "w"]), weights=(_shape_only("w", 4, 1 << 40),)),
        "only its shape",
    ),
    "a product of two weights": (
        _model(_node("MatMul", ["a", "b"]), weights=(_weight("a", 4_096, 1), _weight("b", 1, 4_096))),
        "the model's input",
    ),
    "a wide layer": (_model(_node("MatMul", ["x", "w"]), weights=(_weight("w", 4, 20_000),)), "values per row"),
    "a wide layer, transposed": (
        _model(_node("Gemm", ["x", "w"], transB=1), weights=(_weight("w", 20_000, 4),)),
        "values per row",
    ),
    "an addition that repeats rows": (
        _model(_node("Add", ["x", "w"]), weights=(_weight("w", 5_000, 1, 4),)),
        "of at most 1 dimensions",
    ),
    "an addition that repeats columns": (
        _model(
            helper.make_node("MatMul", ["x", "a"], ["c"]), _node("Add", ["c", "w"]),
            weights=(_weight("a", 4, 1), _weight("w", 20_000)),
        ),
        "values per row",
    ),
    "trees with absurdly many targets": (
        _model(helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1 << 40)),
        "values per row",
    ),
    "a product of activations": (_model(_node("MatMul", ["x", "x"])), "another product"),
    "an input of unknown width": (
        _model(_node("Relu", ["x"]), inputs=(helper.make_tensor_value_info("x", 1, ["n", "c"]),)),
        "known number of columns",
    ),
    "no ONNX": (b"\x80\x04cos\nsystem\n", "cannot be read"),
    "nothing": (b"", "one graph"),
    "cut off": (_model(_node("Relu", ["x"]))[:-3], "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_onnx_model_without_a_bound_of_its_memory_is_refused(name: str) -> None:
    model, reason = HOSTILE[name]
    with pytest.raises(BundleError, match=reason):
        inference_session(model)


@pytest.mark.parametrize("operator", ["Relu", "Tanh", "Softmax"])
def test_onnx_network_of_usual_layers_is_loaded(operator: str) -> None:
    hidden = helper.make_node("MatMul", ["x", "w"], ["h"])
    biased = helper.make_node("Add", ["h", "b"], ["s"])
    model = _model(hidden, biased, _node(operator, ["s"]), weights=(_weight("w", 4, 512), _weight("b", 1, 512)))
    (found,) = inference_session(model).run(None, {"x": np.zeros((2, 4), np.float32)})
    assert np.asarray(found).shape == (2, 512)


def test_models_of_released_bundles_pass() -> None:
    for path in _V1.glob("*.onnx"):
        check_file(path.name, path.read_bytes())


def _safetensors(header: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


HOSTILE_SAFETENSORS: Final = (
    ("header beyond the file", _safetensors({}, length=1 << 60)),
    ("no header", b"\0\0"),
    ("shape beyond the file", _safetensors(_tensor([1 << 40], [0, 1 << 42]))),
    ("shape without its values", _safetensors(_tensor([1 << 40], [0, 4]), b"1234")),
    ("negative shape", _safetensors(_tensor([-1, -1], [0, 4]), b"1234")),
    ("unknown type", _safetensors(_tensor([1], [0, 4], "X"), b"1234")),
)


@pytest.mark.parametrize(("name", "content"), HOSTILE_SAFETENSORS)
def test_safetensors_with_an_absurd_size_is_refused(name: str, content: bytes) -> None:
    with pytest.raises(BundleError):
        check_file(f"{name}.safetensors", content)


def test_safetensors_with_its_values_is_accepted() -> None:
    check_file("w.safetensors", _safetensors({**_tensor([2], [0, 8]), "__metadata__": {}}, b"12345678"))


HOSTILE_UBJ: Final = (
    ("array beyond the file", b"[$d#L" + struct.pack(">q", 1 << 40)),
    ("array of nulls", b"[$Z#L" + struct.pack(">q", 1 << 40)),
    ("text beyond the file", b"SL" + struct.pack(">q", 1 << 40)),
    ("negative size", b"[$d#L" + struct.pack(">q", -1)),
    ("depth bomb", b"[" * 100_000),
    ("cut off", b"{"),
    ("more after the end", b"Zi"),
    ("empty", b""),
)


@pytest.mark.parametrize(("name", "content"), HOSTILE_UBJ)
def test_ubj_with_an_absurd_size_is_refused(name: str, content: bytes) -> None:
    with pytest.raises(BundleError):
        check_file(f"{name}.ubj", content)


def test_ubj_that_xgboost_writes_is_accepted(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    rows = np.random.default_rng(1).normal(size=(200, 4))
    booster = xgboost.train({"max_depth": 3}, xgboost.DMatrix(rows, label=rows[:, 0]), num_boost_round=5)
    booster.save_model(tmp_path / "model.ubj")
    check_file("model.ubj", (tmp_path / "model.ubj").read_bytes())


def _nested(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


def _large(folder: Path) -> None:
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)


@pytest.mark.parametrize("damage", [_nested, _large])
def test_load_bundle_with_a_manifest_that_is_a_bomb_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    for path in _V1.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    with pytest.raises(BundleError):
        load_bundle(tmp_path)
