"""What the numbers of a score depend on besides its inputs: the inference settings and the machine they run on."""

import os
import platform
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import numpy as np

from surveillance_pipelines.hashing import sha256_json

if TYPE_CHECKING:
    import onnxruntime

INFERENCE_THREADS: Final = 1
"""Per ONNX session: one and two threads sum the trees of an ensemble in different orders."""

MIN_BATCH_ROWS: Final = 2
"""Smaller batches are padded to this many rows: a single row takes matrix-vector kernels, which may round otherwise."""

MAX_BATCH_ROWS: Final = 8192
"""Larger inputs are cut into pieces of this many rows, which bounds memory."""

OPTIMISATION_LEVEL: Final = "ORT_ENABLE_BASIC"
"""Rewrites that keep the arithmetic; higher levels choose kernels by the machine."""


def runtime_description() -> dict[str, str | int | list[str]]:
    """Return what ``runtime_hash`` covers, JSON-safe: libraries, processor features, thread count, padding."""
    return {
        "machine": platform.machine(),
        "processor_features": _processor_features(),
        "libc": " ".join(platform.libc_ver()),
        **{name: version(name) for name in ("numba", "numpy", "onnxruntime")},
        "inference_threads": INFERENCE_THREADS,
        "min_batch_rows": MIN_BATCH_ROWS,
        "optimisation_level": OPTIMISATION_LEVEL,
    }


@cache
def runtime_hash() -> str:
    """Return the hash of the runtime: scores of one bundle and input are equal bit for bit where it is equal."""
    return sha256_json(runtime_description())


def inference_session(model: bytes) -> "onnxruntime.InferenceSession":
    """Return a CPU session over a serialised ONNX model, with the settings that ``runtime_hash`` names.

    Args:
        model: the file's bytes; a model that keeps weights in other files does not load this way.
    """
    # The library reads this when it is loaded; without it, it queues usage events for its vendor in the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = INFERENCE_THREADS
    options.inter_op_num_threads = INFERENCE_THREADS
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, OPTIMISATION_LEVEL)
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors only: a warning about an unknown processor is not the user's business
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _processor_features() -> list[str]:
    # numpy and ONNX Runtime pick kernels by these, and fused multiply-add rounds once where two steps round twice.
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]  # noqa: SLF001
    return sorted(name for name, present in features.items() if present)
