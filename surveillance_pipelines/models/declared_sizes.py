"""Limits on the files of a bundle: sizes that a file declares must be there, so that no reader allocates more.

Nothing in this package reads safetensors and UBJ; a reader of a later version, or of the user, trusts their sizes.
"""

import json
import math
import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.members import BundleError
from surveillance_pipelines.models.onnx_limits import check_model

LARGEST_NUMBER: Final = 1e100
"""Bound of the numbers in tables, so that differences between them are finite."""
MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
_ITEM_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_UBJ_NUMBERS: Final = {"i": ">b", "U": ">B", "I": ">h", "u": ">H", "l": ">i", "m": ">I", "L": ">q", "M": ">Q"}
_UBJ_SIZES: Final = {"Z": 0, "N": 0, "T": 0, "F": 0, "i": 1, "U": 1, "C": 1, "I": 2, "l": 4, "d": 4, "L": 8, "D": 8}
_MAX_DEPTH: Final = 64
MAX_TABLE_BYTES: Final = 1024 * 1024
"""Bound of the JSON of numbers that a model reads; 40 KB today. In memory, JSON takes about 20 times its size."""


def check_file(name: str, content: bytes) -> None:
    """Check the sizes that a file of a bundle declares.

    Raises:
        BundleError: if the file asks for more memory than its content accounts for, or cannot be read.
    """
    suffix = name.rpartition(".")[2]
    if suffix == "onnx":
        check_model(name, content)
    elif suffix == "safetensors":
        _check_safetensors(name, content)
    elif suffix == "ubj":
        _check_ubj(name, content)


def read_table(name: str, content: bytes) -> dict[str, Any]:
    """Return a JSON object of at most ``MAX_TABLE_BYTES``, with different keys and finite numbers.

    Raises:
        BundleError: if the file is anything else.
    """
    if len(content) > MAX_TABLE_BYTES:
        raise BundleError(f"expected at most {MAX_TABLE_BYTES:,} bytes in {name}, got {len(content):,}")
    try:
        value = json.loads(content, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"expected JSON in {name}: {error!s:.200}") from error
    if not isinstance(value, dict):
        raise BundleError(f"expected a JSON object in {name}, got {type(value).__name__}")
    return value


def number_array(value: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return nested lists of numbers as float64[shape]; they must have exactly this shape.

    Raises:
        ValueError: if they have another shape, or anything else than numbers, booleans included, or too large ones.
    """
    if not isinstance(value, list) or len(value) != shape[0]:
        found = f"{len(value)}" if isinstance(value, list) else f"{value!r:.40}"
        raise ValueError(f"expected a list of {shape[0]}, got {found}")
    if len(shape) > 1:
        return np.stack([number_array(each, shape[1:]) for each in value])
    if odd := [each for each in value if type(each) not in (int, float) or not abs(each) <= LARGEST_NUMBER]:
        raise ValueError(f"expected numbers of at most {LARGEST_NUMBER:g}, got {odd[0]!r:.40}")
    return np.array(value, dtype=np.float64)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("expected each key once in an object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, got {text:.40}")
    return value


def _check_safetensors(name: str, content: bytes) -> None:
    length = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if not 2 <= length <= min(len(content) - 8, MAX_HEADER_BYTES):
        raise BundleError(f"expected the header of {name} in the file, got a header of {length:,} bytes")
    try:
        tensors: dict[str, Any] = json.loads(content[8 : 8 + length])
        for tensor, facts in tensors.items():
            if tensor != "__metadata__":
                _check_tensor(name, tensor, facts, len(content) - 8 - length)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"expected tensors with type, shape and offsets in {name}, got others") from error


def _check_tensor(name: str, tensor: str, facts: dict[str, Any], size: int) -> None:
    begin, end = facts["data_offsets"]
    shape = facts["shape"]
    counted = all(isinstance(number, int) and number >= 0 for number in (begin, end, *shape))
    if not counted or not begin <= end <= size or math.prod(shape) * _ITEM_BITS[facts["dtype"]] != 8 * (end - begin):
        raise BundleError(f"expected the values of {tensor[:60]!r} in {name}, got only their shape {shape[:8]}")


def _check_ubj(name: str, content: bytes) -> None:
    try:
        _Ubj(content).check()
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise BundleError(f"expected UBJ with as many values as it declares in {name}, got fewer: {error}") from error


class _Ubj:
    """Walks through a file in the format Universal Binary JSON as XGBoost writes it."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def check(self) -> None:
        self._value(self._marker(), 0)
        if self._at != len(self._content):
            raise ValueError("bytes after the end")

    def _marker(self) -> str:
        self._at += 1
        return chr(self._content[self._at - 1])

    def _skip(self, size: int) -> None:
        if not 0 <= size <= len(self._content) - self._at:
            raise ValueError(f"{size:,} bytes at {self._at}")
        self._at += size

    def _length(self) -> int:
        form = _UBJ_NUMBERS[self._marker()]
        at = self._at
        self._skip(struct.calcsize(form))
        return struct.unpack_from(form, self._content, at)[0]

    def _value(self, marker: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} levels")
        if marker in ("S", "H"):
            self._skip(self._length())
        elif marker in ("[", "{"):
            self._container(depth, keyed=marker == "{")
        else:
            self._skip(_UBJ_SIZES[marker])

    def _container(self, depth: int, *, keyed: bool) -> None:
        end = "}" if keyed else "]"
        kind = self._after("$", self._marker)
        count = self._after("#", self._length)
        if kind is not None and count is None:
            raise ValueError("a type without a count")
        if count is not None and kind is not None and not keyed and _UBJ_SIZES.get(kind):
            self._skip(count * _UBJ_SIZES[kind])
            return
        if count is not None and not 0 <= count <= len(self._content) - self._at:
            raise ValueError(f"{count:,} values at {self._at}")
        done = 0
        while count is None or done < count:
            if count is None and chr(self._content[self._at]) == end:
                self._at += 1
                return
            if keyed:
                self._skip(self._length())
            self._value(kind or self._marker(), depth + 1)
            done += 1

    def _after(self, marker: str, read: Any) -> Any:
        if self._at < len(self._content) and chr(self._content[self._at]) == marker:
            self._at += 1
            return read()
        return None
