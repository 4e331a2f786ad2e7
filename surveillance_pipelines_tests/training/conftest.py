"""One evaluation of the tiny bundle, shared by all tests of a worker."""

import pytest

from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.training.report import Evaluation, evaluate
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle, tiny_training_set


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    path = tmp_path_factory.mktemp("bundles") / "v1"
    build_tiny_bundle(path)
    scorer = Ensemble(load_bundle(path))
    return evaluate(tiny_training_set(), scorer, min_rows=1_000, min_accuracy=0.75, seed=1)
