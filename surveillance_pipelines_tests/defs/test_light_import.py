"""What loading the definitions costs, and what it needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch", "mlflow", "pandas", "dbt", "dagster_dbt", "matplotlib", "exchange_calendars", "xgboost", "sklearn",
    "yfinance", "transformers", "numba", "onnxruntime", "deltalake", "boto3", "psycopg", "polars",
)  # fmt: skip
"""What no one needs to draw the graph. The bodies of assets import these when they run."""

PROBE = """
import json, sys, time
started = time.perf_counter()
import dagster
dagster_seconds = time.perf_counter() - started
from surveillance_pipelines.definitions import defs
keys = sorted(key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys())
seconds = time.perf_counter() - started
print(json.dumps({"keys": keys, "modules": sorted(sys.modules), "dagster": dagster_seconds, "all": seconds}))
"""


def bare_environment(home: Path) -> dict[str, str]:
    """An environment without a setting, a credential or a Dagster instance."""
    return {"PATH": os.environ["PATH"], "HOME": str(home)}


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("bare")
    outcome = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=folder,
        env=bare_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_definitions_load_with_no_environment(probe: dict):
    assert {"bars_1m", "champion", "anomalies"} <= set(probe["keys"])


@pytest.mark.parametrize("module", HEAVY)
def test_definitions_load_without_module(probe: dict, module: str):
    assert module not in probe["modules"]


def test_definitions_load_adds_little_to_dagster_itself(probe: dict):
    # Two cores shared by a whole test run make this noisy: it catches a heavy import, not a slow afternoon.
    assert probe["all"] < 3 * probe["dagster"] + 1.0, f"{probe['all']:.2f} s, dagster alone {probe['dagster']:.2f} s"


def test_dg_check_defs_passes_with_no_environment(repository: Path, tmp_path: Path):
    outcome = subprocess.run(
        [str(Path(sys.executable).parent / "dg"), "check", "defs"],
        cwd=repository, env=bare_environment(tmp_path) | {"SURVEILLANCE_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
