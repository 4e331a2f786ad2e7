"""The models of the benchmarks, trained once on a simulated market with the platform's training code.

They are cached in ``proof/models.tmp``, which git ignores, until the training code or the features change.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.harness import REPOSITORY, RESULTS
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.hashing import sha256_files
from surveillance_pipelines.models.arrays import as_float32
from surveillance_pipelines.models.autoencoder import SCALER_FILE, Scaling, parse_scaling, scale
from surveillance_pipelines.models.bundle import Bundle, load_bundle
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.calibration import Calibration, calibration_of
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.fusion import floor_scores
from surveillance_pipelines.models.tail_detector import TailDetector

Floats = npt.NDArray[np.float64]
Model = Callable[[Any], Any]

SYMBOLS: Final = tuple(f"SIM{i}" for i in range(10))
FIRST: Final = date(2024, 3, 4)
LAST: Final = date(2024, 3, 13)
SEED: Final = 5

_LAYERS: Final = "autoencoder.npz"
_NATIVE: Final = ("classifier.ubj", "direction.ubj")


@dataclass(frozen=True, slots=True)
class ProofModels:
    """The bundle and the same models in their native form.

    Attributes:
        bundle: whose direction model speaks: on a random market it never passes its gate, and all models should run.
        folder: of the native files.
    """

    bundle: Bundle
    folder: Path

    def layers(self) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """Return (weight, bias) of each layer of the autoencoder."""
        arrays = np.load(self.folder / _LAYERS, allow_pickle=False)
        return [(arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(len(arrays.files) // 2)]

    @property
    def classifier(self) -> Path:
        return self.folder / _NATIVE[0]

    @property
    def direction(self) -> Path:
        return self.folder / _NATIVE[1]


def proof_models() -> ProofModels:
    """Return the models; train them if the cache has none of this code."""
    folder = RESULTS / "models.tmp" / _code_hash()[:16]
    if not folder.exists():
        shutil.rmtree(folder.parent, ignore_errors=True)
        scratch = folder.with_name("unfinished")
        scratch.mkdir(parents=True)
        _train(scratch)
        scratch.rename(folder)
    return ProofModels(speaking(load_bundle(folder / "bundle")), folder)


def speaking(bundle: Bundle) -> Bundle:
    """Return a bundle whose direction model is used regardless of its gate."""
    return replace(bundle, members=tuple(replace(member, serves=True) for member in bundle.members))


def native_network(models: ProofModels) -> tuple[Any, Model]:
    """Return the autoencoder as a torch module, and the function f4[n, d] → f4[n, d] that calls it eagerly."""
    import torch

    from surveillance_pipelines.training.autoencoder import DEFAULT, build_network

    torch.set_num_threads(1)
    layers = models.layers()
    network = build_network(layers[0][0].shape[1], DEFAULT).eval()
    linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(linear, layers, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))

    def reconstructed(scaled: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(scaled)).numpy()

    return network, reconstructed


def model_indices(bundle: Bundle) -> list[int]:
    """Return the positions of the columns that models read in the columns of the view."""
    return [bundle.view.columns.index(name) for name in bundle.view.model_columns]


def anomaly_scores(bundle: Bundle, features: Floats, reconstructed: Model, classify: Model) -> Floats:
    """Return the anomaly scores, f8[n], of models in another form.

    What the platform does around its models is the same here, except that nothing is padded and nothing explained.

    Args:
        bundle: for scaling, calibration and threshold.
        features: f8[n, 48] of the view.
        reconstructed: the autoencoder, f4[n, d] → f4[n, d].
        classify: the classifier, f4[n, d + 1] → probabilities.
    """
    inputs = features[:, model_indices(bundle)]
    missing = np.isnan(inputs)
    scaled = scale(inputs, scaling_of(bundle))
    squares = np.where(missing, 0.0, (scaled.astype(np.float64) - reconstructed(scaled)) ** 2)
    error = squares.sum(axis=1) / np.maximum((~missing).sum(axis=1), 1)
    probabilities = classify(classifier_inputs(inputs, error))
    detector, calibrate = _tail_detector(bundle)
    places = [bundle.view.columns.index(name) for name in detector.input.columns]
    unusual = calibrate(detector.predict(features[:, np.newaxis, places]).statistic)
    known = calibration_of(bundle.member("classifier").calibration or {})(1.0 - probabilities[:, 0].astype(np.float64))
    return np.maximum(np.maximum(unusual, known), floor_scores(features, bundle.view.columns))


@cache
def _tail_detector(bundle: Bundle) -> tuple[TailDetector, Calibration]:
    """Return the tail detector, which has one form only, and its calibration."""
    spec = bundle.member("tail_detector")
    return TailDetector.load(spec, bundle.files), calibration_of(spec.calibration or {})


def scaling_of(bundle: Bundle) -> Scaling:
    """Return the scaling of the bundle's autoencoder."""
    return parse_scaling(bundle.files[SCALER_FILE], bundle.member("autoencoder").input.columns)


def classifier_inputs(inputs: Floats, error: Floats) -> npt.NDArray[np.float32]:
    """Return the classifier's inputs, f4[n, d + 1]: raw features, then the autoencoder's error."""
    return as_float32(np.column_stack([inputs, error]))


def market_features(rows: int = 2_000) -> Floats:
    """Return features f8[n, 48] of the simulated market for all symbols and hours, with full windows."""
    from surveillance_pipelines.features.batch import features_of_days

    bars, sessions = _market()
    features = features_of_days(bars, [LAST], sessions)
    every = max(1, len(features) // rows)
    return np.ascontiguousarray(features.select(CORE_V1.columns).to_numpy()[::every])


class RecordingPredictor:
    """A predictor that records its last input."""

    warmup: bool = False

    def __init__(self, predictor: Ensemble) -> None:
        self._predictor = predictor
        self.bundle_hash, self.feature_view = predictor.bundle_hash, predictor.feature_view
        self.window_length, self.model_ids = predictor.window_length, predictor.model_ids
        self.horizon_minutes, self.training_domain = predictor.horizon_minutes, predictor.training_domain
        self.features: Floats = np.empty((0, 0))

    def warm_up(self) -> None:
        self._predictor.warm_up()

    def predict(self, window: Floats) -> BundlePredictions:
        self.features = window
        return self._predictor.predict(window)


def _train(folder: Path) -> None:
    from surveillance_pipelines.training.bundle_training import save_bundle, train_bundle
    from surveillance_pipelines.training.deadline import Deadline
    from surveillance_pipelines.training.training_set import build_training_set

    bars, sessions = _market()
    rows = build_training_set(bars, sessions, first=FIRST, last=LAST, seed=SEED)
    trained = train_bundle(rows, seed=SEED, deadline=Deadline.after(900.0))
    save_bundle(trained, folder / "bundle")
    native = {name: member.native for name, member in trained.members.items()}
    arrays = {f"weight_{i}": weight for i, (weight, _) in enumerate(native["autoencoder"].layers)}
    arrays |= {f"bias_{i}": bias for i, (_, bias) in enumerate(native["autoencoder"].layers)}
    np.savez(folder / _LAYERS, **arrays)  # pyright: ignore[reportArgumentType] (arrays by name)
    for name, booster in zip(_NATIVE, (native["classifier"].model.booster, native["direction"].booster), strict=True):
        booster.save_model(folder / name)


def _market() -> tuple[Any, SessionTable]:
    from surveillance_pipelines.market.calendars import build_sessions
    from surveillance_pipelines.market.simulator import default_market, simulate

    sessions = build_sessions("XNYS", FIRST, LAST)
    return simulate(default_market(SYMBOLS, SEED), sessions), SessionTable.from_frame(sessions)


def _code_hash() -> str:
    package = REPOSITORY / "surveillance_pipelines"
    folders = ("features", "models", "evaluation", "training")
    files = [path for folder in folders for path in sorted((package / folder).glob("*.py"))]
    return sha256_files([Path(__file__), package / "market" / "simulator.py", *files])
