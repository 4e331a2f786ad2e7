"""Limits on the ONNX models of a bundle: a model whose memory cannot be bounded before it is loaded is refused.

A file of 100 bytes can ask for any amount of memory, when it is loaded (the runtime computes the constant parts of a
graph) or when it runs. The operators of the bundled models allow an exact bound: each tensor has the rows of the batch,
and the columns follow from the weights, which are in the file. Everything else is refused: other operators, subgraphs,
functions, weights in other files, and nodes without the model's input.

The serving process has no ``onnx`` package; this module reads the few fields of the file that it needs.
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from surveillance_pipelines.models.members import BundleError

MAX_MODEL_BYTES: Final = 64 * 1024 * 1024
MAX_NODES: Final = 4_096
MAX_COLUMNS: Final = 16_384
"""Values per row and tensor: with the largest batch of ``models/runtime.py``, a tensor takes at most 512 MiB."""

_SAME_SHAPE: Final = frozenset(
    {
        "Abs", "Cast", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity",
        "LayerNormalization", "LeakyRelu", "Log", "Neg", "PRelu", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus",
        "Softsign", "Sqrt", "Tanh",
    }
)  # fmt: skip
_BROADCAST: Final = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"})
_TREES: Final = frozenset({"TreeEnsembleClassifier", "TreeEnsembleRegressor"})
OPERATORS: Final = tuple(sorted({*_SAME_SHAPE, *_BROADCAST, *_TREES, "Gemm", "MatMul"}))
"""Operators of the bundled models and of similar networks; a new kind of model adds the ones that it needs."""
_FIXED_SIZES: Final = {1: 8, 5: 4}
"""Wire type of protobuf → bytes."""
_NUMBERS: Final = re.compile(rb"(?:\x3d.{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f])+", re.DOTALL)
"""A run of numbers in an attribute: floats (field 7) and integers (field 8), unpacked."""
_DOMAINS: Final = (b"", b"ai.onnx", b"ai.onnx.ml")
_OUTPUT_LISTS: Final = ("classlabels_int64s", "classlabels_strings")

Shape = tuple[int, ...]
"""Dimensions of a tensor without the rows of the batch."""


@dataclass(slots=True)
class _Node:
    operator: str = ""
    domain: bytes = b""
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Graph:
    nodes: list[_Node] = field(default_factory=list)
    weights: dict[bytes, Shape] = field(default_factory=dict)
    inputs: dict[bytes, Shape] = field(default_factory=dict)


def check_model(name: str, model: bytes) -> None:
    """Check that the memory of a model is bounded.

    Args:
        name: name of the file, for messages.
        model: content of the file.

    Raises:
        BundleError: if the model is too large, is no ONNX model, or uses anything for which there is no bound.
    """
    if len(model) > MAX_MODEL_BYTES:
        raise BundleError(f"expected at most {MAX_MODEL_BYTES:,} bytes in {name}, got {len(model):,}")
    try:
        _check_shapes(_read_model(memoryview(model)))
    except BundleError as error:
        raise BundleError(f"{name} is refused: {error.message}") from error
    except (IndexError, ValueError, UnicodeDecodeError, struct.error, OverflowError) as error:
        raise BundleError(f"{name} is refused: expected an ONNX model, got a file that cannot be read") from error


def _check_shapes(graph: _Graph) -> None:
    if len(graph.nodes) > MAX_NODES:
        raise BundleError(f"expected at most {MAX_NODES:,} nodes, got {len(graph.nodes):,}")
    shapes = {name: shape for name, shape in graph.inputs.items() if name not in graph.weights}
    for name, shape in shapes.items():
        _require_columns(name, shape)
    for node in graph.nodes:
        if node.operator not in OPERATORS or node.domain not in _DOMAINS:
            kind = f"{node.domain.decode(errors='replace')} {node.operator}".strip()
            raise BundleError(f"expected the operators {', '.join(OPERATORS)}, got {kind[:80]!r}")
        shape = _output(node, shapes, graph.weights)
        for output in node.outputs:
            _require_columns(output, shape)
            shapes[output] = shape


def _output(node: _Node, shapes: Mapping[bytes, Shape], weights: Mapping[bytes, Shape]) -> Shape:
    """Return the shape of a node's largest output."""
    computed = [shapes[name] for name in node.inputs if name in shapes]
    if not computed:
        raise BundleError(f"expected the model's input in each node, got {node.operator} without it")
    if missing := [name for name in node.inputs if name and name not in shapes and name not in weights]:
        raise BundleError(f"expected inputs that an earlier node computes, got {missing[0][:60]!r}")
    if node.operator in ("Gemm", "MatMul"):
        return _product(node, computed, weights)
    if node.operator in _TREES:
        classes = max(node.lengths.get(name, 0) for name in _OUTPUT_LISTS)
        return (max(classes, node.numbers.get("n_targets", 1), 1),)
    fixed = [weights[name] for name in node.inputs if name in weights]
    shape = computed[0]
    for other in computed[1:]:
        shape = _broadcast(shape, other)
    for weight in fixed:
        if len(weight) > len(shape) + 1 or (len(weight) == len(shape) + 1 and weight[0] != 1):
            raise BundleError(f"expected a weight of at most {len(shape)} dimensions, got {list(weight)}")
        shape = _broadcast(shape, weight[-len(shape) :] if shape else ())
    return shape


def _product(node: _Node, computed: Sequence[Shape], weights: Mapping[bytes, Shape]) -> Shape:
    weight = weights.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if len(computed) != 1 or weight is None or len(weight) != 2 or node.numbers.get("transA", 0):
        raise BundleError(f"expected in {node.operator} rows times a weight of two dimensions, got another product")
    width = weight[0] if node.numbers.get("transB", 0) else weight[1]
    if any(len(weights[name]) > 2 for name in node.inputs[2:] if name in weights):
        raise BundleError("expected a bias of at most two dimensions, got more")
    return (*computed[0][:-1], width)


def _broadcast(one: Shape, other: Shape) -> Shape:
    length = max(len(one), len(other))
    padded = [(1,) * (length - len(shape)) + shape for shape in (one, other)]
    return tuple(max(pair) for pair in zip(*padded, strict=True))


def _require_columns(name: bytes, shape: Shape) -> None:
    if math.prod(shape) > MAX_COLUMNS:
        shown = name.decode(errors="replace")[:60]
        raise BundleError(f"expected at most {MAX_COLUMNS:,} values per row, got {math.prod(shape):,} in {shown!r}")


def _read_model(model: memoryview) -> _Graph:
    graphs = []
    for number, value in _fields(model):
        if number == 7:
            graphs.append(_read_graph(_bytes(value)))
        elif number in (20, 25):
            raise BundleError("expected a plain graph, got functions or a training graph")
    if len(graphs) != 1:
        raise BundleError(f"expected one graph, got {len(graphs)}")
    return graphs[0]


def _read_graph(data: memoryview) -> _Graph:
    graph = _Graph()
    for number, value in _fields(data):
        if number == 1:
            graph.nodes.append(_read_node(_bytes(value)))
        elif number == 5:
            name, shape = _read_tensor(_bytes(value))
            graph.weights[name] = shape
        elif number == 11:
            name, shape = _read_input(_bytes(value))
            graph.inputs[name] = shape
        elif number == 15:
            raise BundleError("expected dense weights, got sparse ones")
    return graph


def _read_node(data: memoryview) -> _Node:
    node = _Node()
    for number, value in _fields(data):
        if number == 1:
            node.inputs.append(bytes(_bytes(value)))
        elif number == 2:
            node.outputs.append(bytes(_bytes(value)))
        elif number == 4:
            node.operator = bytes(_bytes(value)).decode()
        elif number == 5:
            _read_attribute(_bytes(value), node)
        elif number == 7:
            node.domain = bytes(_bytes(value))
    return node


def _read_attribute(data: memoryview, node: _Node) -> None:
    name, integer, length, at = "", 0, 0, 0
    while at < len(data):
        if name and name not in _OUTPUT_LISTS and (run := _NUMBERS.match(data, at)):
            at = run.end()  # the trees of a large model are millions of numbers
            continue
        number, value, at = _field(data, at)
        if number == 1:
            name = bytes(_bytes(value)).decode()
        elif number == 3 and isinstance(value, int):
            integer = value
        elif number in (5, 6, 10, 11, 22, 23):
            raise BundleError("expected attributes that are numbers and texts, got a tensor or a subgraph")
        elif number in (8, 9):
            length += 1 if isinstance(value, int) or number == 9 else sum(1 for _ in _varints(value))
    node.numbers[name], node.lengths[name] = integer, length


def _read_tensor(data: memoryview) -> tuple[bytes, Shape]:
    """Return name and dimensions of a weight whose values are in the file."""
    name, dimensions = b"", []
    for number, value in _fields(data):
        if number == 1:
            dimensions += [value] if isinstance(value, int) else list(_varints(value))
        elif number == 8:
            name = bytes(_bytes(value))
        elif number == 13 or (number == 14 and value):
            raise BundleError("expected weights in the file, got weights in another one")
    if any(size < 0 or size >= 1 << 62 for size in dimensions) or math.prod(dimensions) > len(data):
        raise BundleError(f"expected the values of a weight in the file, got only its shape {dimensions[:8]}")
    return name, tuple(dimensions)


def _read_input(data: memoryview) -> tuple[bytes, Shape]:
    """Return name and columns of an input: a tensor whose first dimension is the batch."""
    name, shape = b"", None
    for number, value in _fields(data):
        if number == 1:
            name = bytes(_bytes(value))
        elif number == 2:
            shape = _inner(_inner(_bytes(value), 1), 2)
    sizes = [] if shape is None else [_dimension(_bytes(value)) for number, value in _fields(shape) if number == 1]
    if len(sizes) < 2 or any(size < 1 for size in sizes[1:]):
        raise BundleError(f"expected an input of rows and a known number of columns, got {sizes[:8]}")
    return name, tuple(sizes[1:])


def _dimension(data: memoryview) -> int:
    return next((value for number, value in _fields(data) if number == 1 and isinstance(value, int)), 0)


def _inner(data: memoryview, wanted: int) -> memoryview:
    return next((_bytes(value) for number, value in _fields(data) if number == wanted), memoryview(b""))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a protobuf message."""
    at = 0
    while at < len(data):
        number, value, at = _field(data, at)
        yield number, value


def _field(data: memoryview, at: int) -> tuple[int, int | memoryview, int]:
    """Return number and value of the field at a position, and the position after it."""
    key, at = _varint(data, at)
    number, kind = key >> 3, key & 7
    if kind == 0:
        value, at = _varint(data, at)
        return number, value, at
    if kind == 2:
        size, at = _varint(data, at)
    elif kind in _FIXED_SIZES:
        size = _FIXED_SIZES[kind]
    else:
        raise ValueError(f"expected a known wire type, got {kind}")
    if size > len(data) - at:
        raise ValueError("expected the whole field, got the end of the file")
    return number, data[at : at + size], at + size


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("expected an integer of at most ten bytes, got more")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("expected bytes, got an integer")  # noqa: TRY004 - one error for every unreadable file
    return value
