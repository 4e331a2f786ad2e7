"""The inference runtime: settings and machine properties on which scores depend besides their inputs."""

import os
import platform
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import numpy as np

from surveillance_pipelines.hashing import sha256_json
from surveillance_pipelines.models.onnx_limits import check_model

if TYPE_CHECKING:
    import onnxruntime

INFERENCE_THREADS: Final = 1
"""Threads per ONNX session; the number of threads changes the order in which the trees are summed."""

MIN_BATCH_ROWS: Final = 2
"""Smaller batches are padded to this many rows: matrix-vector kernels for a single row may round differently."""

MAX_BATCH_ROWS: Final = 8192
"""Larger inputs are split into batches of this many rows, which bounds memory."""

OPTIMISATION_LEVEL: Final = "ORT_ENABLE_BASIC"
"""This level keeps the arithmetic; higher levels choose kernels depending on the machine."""


def runtime_description() -> dict[str, str | int | list[str]]:
    """Return the values covered by ``runtime_hash``, JSON-safe: libraries, processor features, threads, padding."""
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
    """Return the hash of the runtime: runtimes with equal hashes compute bit-identical scores."""
    return sha256_json(runtime_description())


def inference_session(model: bytes) -> "onnxruntime.InferenceSession":
    """Return a CPU session for a serialised ONNX model, with the settings covered by ``runtime_hash``.

    Args:
        model: the file's bytes; models with weights in external files are not supported.

    Raises:
        BundleError: if there is no bound for the memory that the model takes (``onnx_limits.py``).
    """
    check_model("the model", model)
    # The library reads this when it is imported; otherwise it stores telemetry events in the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = INFERENCE_THREADS
    options.inter_op_num_threads = INFERENCE_THREADS
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, OPTIMISATION_LEVEL)
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors only; warnings about unknown processors do not concern the user
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _processor_features() -> list[str]:
    # numpy and ONNX Runtime choose kernels by these features, and fused multiply-add rounds once instead of twice.
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]  # noqa: SLF001
    return sorted(name for name, present in features.items() if present)
