"""Array functions shared by several models. Results are bit-identical for any number of rows."""

from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.kernel_calls import call

Floats = npt.NDArray[np.float64]

FLOAT32_MAX: Final = float(np.finfo(np.float32).max)

_NAMES: Final[WeakKeyDictionary[Any, tuple[str, list[str]]]] = WeakKeyDictionary()
"""Cached names of a session's input and last output; querying them takes as long as running a small model."""


def as_window(window: Floats, columns: int, length: int) -> Floats:
    """Return float64[n, length or more, columns] after checking the shape.

    Raises:
        ValueError: if the number of columns differs, or the windows are too short.
    """
    if window.ndim == 2:
        window = window[:, np.newaxis, :]
    if window.ndim != 3 or window.shape[2] != columns or window.shape[1] < length:
        raise ValueError(f"expected features of shape [n, {length}, {columns}], got {list(window.shape)}")
    return np.asarray(window, dtype=np.float64)


def pad_rows(values: Floats, rows: int) -> Floats:
    """Return ``values`` with zero rows appended up to ``rows``; longer input is returned unchanged."""
    missing = rows - len(values)
    return values if missing <= 0 else np.concatenate([values, np.zeros((missing, *values.shape[1:]))])


def as_float32(values: Floats) -> npt.NDArray[np.float32]:
    """Return ``values`` as float32, clipped to the range of float32; NaN is kept."""
    found = np.empty(values.shape, dtype=np.float32)
    call("to_float32", np.ascontiguousarray(values, dtype=np.float64).reshape(-1), FLOAT32_MAX, found.reshape(-1))
    return found


def require_shape(session: Any, *, inputs: int, outputs: int) -> None:
    """Check the number of columns that an ONNX model reads and returns, as far as it declares them.

    Raises:
        ValueError: if they differ.
    """
    for name, wanted, shape in (
        ("inputs", inputs, session.get_inputs()[0].shape),
        ("outputs", outputs, session.get_outputs()[-1].shape),
    ):
        if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != wanted):
            raise ValueError(f"expected a model with {name} of shape [n, {wanted}], got {list(shape)}")


def run_model(session: Any, inputs: npt.NDArray[np.float32]) -> Floats:
    """Return the last output of an ONNX model (its values, or a classifier's probabilities) as float64."""
    names = _NAMES.get(session)
    if names is None:
        names = _NAMES[session] = session.get_inputs()[0].name, [session.get_outputs()[-1].name]
    return session.run(names[1], {names[0]: inputs})[0].astype(np.float64)
