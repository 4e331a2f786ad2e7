"""The work of a new process until its first score: the engine (``engine``) or MLflow's pyfunc (``native``, ``onnx``).

``python -m benchmarks.cold_start KIND FOLDER`` prints one JSON line. Each branch imports only
what it needs.
"""

import json
import sys
from pathlib import Path
from typing import Any


def engine(folder: Path) -> dict[str, Any]:
    """Load the bundle, warm up, restore a symbol from its snapshot, score one message; return score and features."""
    import numpy as np

    from benchmarks.models import RecordingPredictor, speaking
    from surveillance_pipelines.contracts.queue import Received
    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.engine.effects import Known
    from surveillance_pipelines.engine.engine import Engine, engine_config
    from surveillance_pipelines.engine.seed import Seed
    from surveillance_pipelines.features.state import warm_up
    from surveillance_pipelines.features.views import VIEWS
    from surveillance_pipelines.models.bundle import load_bundle
    from surveillance_pipelines.models.ensemble import Ensemble
    from surveillance_pipelines.settings import Settings

    # Not the tests' own helpers: those import polars.
    settings = Settings(_env_file=None, publish_scores="all")  # pyright: ignore[reportCallIssue]
    sessions = SessionTable("XNYS", *np.load(folder / "sessions.npy", allow_pickle=False))
    scorer = RecordingPredictor(Ensemble(speaking(load_bundle(folder / "bundle"))))
    live = Engine(engine_config(settings, scorer), scorer, sessions, ["SPY"])
    warm_up(VIEWS[scorer.feature_view])
    scorer.warm_up()
    live.seed("SPY", Seed(features=(folder / "state.bin").read_bytes()))
    message = Received(**json.loads((folder / "message.json").read_text()))
    (row,) = live.process(live.read([message]), Known()).scores
    return {"score": row.score, "features": scorer.features[0].tolist()}


def pyfunc(folder: Path, flavour: str) -> dict[str, Any]:
    """Load the three models and call each on one row of its inputs; return their outputs."""
    import mlflow.pyfunc
    import numpy as np

    outputs = {}
    for name in ("autoencoder", "classifier", "direction"):
        model = mlflow.pyfunc.load_model(str(folder / flavour / name))
        output = model.predict(np.load(folder / f"{name}.npy", allow_pickle=False))
        outputs[name] = np.asarray(list(output.values())[-1] if isinstance(output, dict) else output).tolist()
    return outputs


if __name__ == "__main__":
    kind, place = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(engine(place) if kind == "engine" else pyfunc(place, kind)), flush=True)
