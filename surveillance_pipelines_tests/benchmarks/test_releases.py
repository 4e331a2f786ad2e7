"""Comparison of an older commit with this checkout."""

import json
from pathlib import Path

import pytest

from benchmarks import releases
from benchmarks.harness import REPOSITORY
from benchmarks.releases import ENTRIES, Entry, Ratios, measure, worker, write

COMMITS = ("old", "new")
EQUAL = Ratios([0.99, 1.0, 1.01], [0.97, 1.0, 1.03], COMMITS)
SLOWER = Ratios([1.04, 1.05, 1.06], [0.97, 1.0, 1.03], COMMITS)
COUNTING = """
print("ready", flush=True)
import sys
for number, line in enumerate(sys.stdin):
    print(number + 1.0, flush=True)
"""


def test_median_beyond_the_noise_and_the_limit_is_slower():
    assert not EQUAL.is_slower(1.0)
    assert SLOWER.is_slower(1.0)
    assert not SLOWER.is_slower(1.1)
    assert SLOWER.sentence("p3") == "P3 at new: 1.050 (1.040 to 1.060), old against old 1.000 (0.970 to 1.030): slower"


def test_results_of_other_targets_stay_in_the_file(tmp_path: Path):
    path = tmp_path / "releases.json"
    assert not write({"p4": SLOWER, "r1": EQUAL}, path)
    assert not write({"p3": EQUAL}, path)
    assert write({"p4": EQUAL}, path)
    kept = json.loads(path.read_text())
    assert list(kept["figures"]) == ["p3", "p4", "r1"]
    assert kept["met"]


def test_each_round_runs_every_arm_and_the_first_is_dropped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ENTRIES, "p4", Entry(COUNTING))
    assert measure(REPOSITORY, "p4", 3, COMMITS) == Ratios((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), COMMITS)


def test_process_that_ends_early_is_reported_with_its_last_messages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ENTRIES, "p4", Entry("raise SystemExit('no models')"))
    with pytest.raises(RuntimeError, match="p4 ended with: no models"), worker(REPOSITORY, "p4"):
        pass


def test_every_benchmark_that_is_compared_exists():
    for entry in ENTRIES.values():
        if entry.arguments:
            module, function, *_ = entry.arguments
            assert f"def {function}(" in (Path(releases.__file__).parent / f"{module}.py").read_text()
