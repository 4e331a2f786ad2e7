"""The hash of the scoring code covers everything between a message and its output rows."""

from surveillance_pipelines.code_versions import PACKAGE, source_files
from surveillance_pipelines.engine.code_version import SCORING, scoring_code_version


def scoring_files() -> set[str]:
    return {str(path.relative_to(PACKAGE)) for path in source_files(*SCORING)}


def test_scoring_code_version_covers_both_lanes_and_what_they_import():
    assert {
        "batch/scoring.py", "contracts/outputs.py", "engine/engine.py", "engine/model_guard.py", "features/kernel.py",
        "market/messages.py", "models/ensemble.py", "models/explanations.py", "models/warmup.py",
        "strategies/pacing.py",
    } <= scoring_files()  # fmt: skip


def test_scoring_code_version_leaves_out_storage_and_training():
    rooms = {path.split("/")[0] for path in scoring_files()}
    assert rooms <= {"batch", "contracts", "engine", "features", "lifecycle", "market", "models", "strategies"}


def test_scoring_code_version_names_the_release():
    assert scoring_code_version().startswith("0.1.0+")
