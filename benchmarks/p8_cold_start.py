"""P8: time of a new process until its first score, compared with loading the models with MLflow's pyfunc."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.drain_starts import started_drains
from benchmarks.harness import REPOSITORY, Comparison, Goal, Parity, prove
from benchmarks.indicators import market
from benchmarks.models import (
    ProofModels,
    anomaly_scores,
    classifier_inputs,
    model_indices,
    native_network,
    proof_models,
    scaling_of,
)
from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.models.arrays import as_float32
from surveillance_pipelines.models.autoencoder import scale
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, received, sessions

HISTORY: Final = 600
TOLERANCE: Final = 1e-5
STARTS: Final = 5
"""Starts of ours per round: together they take about as long as one start of the anchor, under the same load."""

_WORK: Final = "Start of a Python process to its first score, files in the page cache"
_OURS: Final = (
    "bundle with every hash checked, models, compiled kernel from numba's cache, warm-up of both, one symbol's "
    "snapshot, one queue message decoded and scored by the engine; no database, queue or lake, as the anchor has none"
)
_NOTES: Final = (
    f"a round is the mean of {STARTS} starts of ours, then one of the anchor's, which lasts about as long",
    "the anchor gets ready inputs: it computes no features, no score and no explanation",
    (
        "profile of ours before attempt 3, one run of 0.70 s: numpy 0.06, numba's import 0.15, polars 0.09, settings "
        "0.09, our modules 0.07, ONNX Runtime's import and sessions 0.05, numba's first call 0.15, everything else 0.03"
    ),
    (
        "attempt 1, kept in part: numba skips its check for SciPy's linear algebra, which the kernel does not call; "
        "with that and cffi hidden from every import of the process, numba's first call took 0.15 s instead of 0.29 s"
    ),
    ("attempt 2, dropped: the kernel in a thread beside the imports: 0.79 to 0.80 s, since both hold Python's lock"),
    "attempt 3, kept: the engine does without polars: 0.75 to 0.63 s, medians of this bench before and after",
    (
        "beside it, with PostgreSQL, both queues, the lake's library and the lease: a drain process (drain_process_s, "
        "from its start to its first commit, median of 3) and a run of the platform's Dagster (dagster_launch_s, from "
        "the run's launch to its first commit, once)"
    ),
    "imports, profiled after attempt 3: numba takes about half of the time",
    "not tried: the kernel's machine code without numba's front end, through llvmlite, which is half of what is left",
)


def main() -> None:
    models = proof_models()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_inputs(models, folder)
        first = _run("engine", folder)[1]
        _write_models(models, folder, np.array([first["features"]]))
        flavours = {
            "native": (
                "mlflow.pyfunc.load_model of a torch and two XGBoost models, one row each",
                ("torch", "xgboost"),
                5.0,
            ),
            "onnx": (
                "mlflow.pyfunc.load_model of the bundle's three ONNX models, one row each",
                ("onnxruntime",),
                3.0,
            ),
        }
        for flavour, (anchor, libraries, ratio) in flavours.items():
            _against(models, folder, flavour, Comparison(
                name=f"p8_mlflow_{flavour}",
                work=_WORK,
                ours=_OURS,
                anchor=anchor,
                distributions=("mlflow", *libraries),
                unit="s",
                goal=Goal(ratio=ratio, limits={"longest_start_s": 1.0}),
                notes=_NOTES,
            ))  # fmt: skip


def _against(models: ProofModels, folder: Path, flavour: str, comparison: Comparison) -> None:
    starts: list[float] = []

    def ours() -> float:
        starts.extend(_run("engine", folder)[0] for _ in range(STARTS))
        return statistics.fmean(starts[-STARTS:])

    prove(
        comparison,
        parity=lambda: _parity(models, folder, flavour),
        ours=ours,
        anchor=lambda: _run(flavour, folder)[0],
        figures=lambda: {
            "longest_start_s": max(starts[STARTS:]),  # without the first round
            **(started_drains(models) if flavour == "native" else {}),
        },
    )


def _parity(models: ProofModels, folder: Path, flavour: str) -> Parity:
    ours, theirs = _run("engine", folder)[1], _run(flavour, folder)[1]
    outputs = {name: np.array(value) for name, value in theirs.items()}
    features = np.array([ours["features"]])
    score = anomaly_scores(models.bundle, features, lambda _: outputs["autoencoder"], lambda _: outputs["classifier"])
    difference = abs(float(score[0]) - ours["score"])
    return Parity(
        passed=difference <= TOLERANCE,
        statement=f"the message's score {ours['score']:.6f} from the anchor's outputs within {difference:.1e}",
    )


def _run(kind: str, folder: Path) -> tuple[float, dict[str, Any]]:
    """Start a process, wait for its first line, and return the seconds until then and the line."""
    command = [sys.executable, "-m", "benchmarks.cold_start", kind, str(folder)]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"}
    begin = time.perf_counter()
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - begin
    if process.returncode != 0:
        raise RuntimeError(f"expected {kind} to score, it ended with {process.returncode}: run {command[1:4]} by hand")
    return seconds, json.loads(line)


def _write_inputs(models: ProofModels, folder: Path) -> None:
    """Write the inputs of the engine: bundle, sessions, snapshot of one symbol, message."""
    shutil.copytree(models.bundle.path, folder / "bundle")
    table = sessions()
    np.save(folder / "sessions.npy", np.stack([table.session_ids, table.opens_at, table.closes_at]))
    (rows,) = market(1, HISTORY)
    state = FeatureState()
    for i in range(HISTORY):
        state.advance(OPEN - (HISTORY - i) * MINUTE, rows[i])
    (folder / "state.bin").write_bytes(state.snapshot())
    tick = Tick("SPY", round(float(rows[-1, 3]), 2), 300.0, OPEN + 5 * MICROSECONDS)
    (folder / "message.json").write_text(json.dumps(asdict(received(tick, 0))))


def _write_models(models: ProofModels, folder: Path, features: Any) -> None:
    """Write each model in both flavours of MLflow, and a row of inputs for each."""
    import onnx
    import xgboost
    from mlflow.onnx import save_model as save_onnx
    from mlflow.pytorch import save_model as save_torch
    from mlflow.xgboost import save_model as save_xgboost

    network, reconstructed = native_network(models)
    save_torch(network, str(folder / "native" / "autoencoder"), pip_requirements=[], serialization_format="pickle")
    for name, path in (("classifier", models.classifier), ("direction", models.direction)):
        booster = xgboost.Booster({"nthread": 1}, model_file=path)
        save_xgboost(booster, str(folder / "native" / name), pip_requirements=[])
    onnx_files = {name: content for name, content in models.bundle.files.items() if name.endswith(".onnx")}
    for name, content in onnx_files.items():
        place = folder / "onnx" / name.removeprefix("market_").removesuffix(".onnx")
        save_onnx(onnx.load_from_string(content), str(place), pip_requirements=[])
    inputs = features[:, model_indices(models.bundle)]
    scaled = scale(inputs, scaling_of(models.bundle))
    squares = (scaled.astype(np.float64) - reconstructed(scaled)) ** 2
    missing = np.isnan(inputs)
    error = np.where(missing, 0.0, squares).sum(axis=1) / (~missing).sum(axis=1)
    np.save(folder / "autoencoder.npy", scaled)
    np.save(folder / "classifier.npy", classifier_inputs(inputs, error))
    np.save(folder / "direction.npy", as_float32(inputs))


if __name__ == "__main__":
    main()
