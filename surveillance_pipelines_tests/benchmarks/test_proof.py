"""The harness and the report themselves: what they refuse, how they count, and that the page is the files'."""

import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks import harness
from benchmarks.__main__ import benches, main
from benchmarks.harness import REPOSITORY, Comparison, Goal, Parity, interleaved, prove, summary
from benchmarks.report import PAGE, PICTURE, load_results, render, write_report


def comparison(ratio: float = 2.0, **limits: float) -> Comparison:
    return Comparison(
        name="p5_example", work="Count", ours="one", anchor="two", distributions=("numpy",), unit="s",
        goal=Goal(ratio=ratio, limits=limits),
    )  # fmt: skip


EQUAL = Parity(passed=True, statement="equal")


@pytest.fixture
def pinned(monkeypatch, tmp_path):
    for name, value in harness.PINNED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    return tmp_path


def test_rounds_take_turns_and_the_first_is_dropped():
    order = []

    def arm(name: str, costs: list[float]):
        return lambda: (order.append(name), costs.pop(0))[1]

    rounds = interleaved(arm("ours", [9.0, *range(1, 8)]), arm("anchor", [9.0, *range(2, 9)]), rounds=7)
    assert order == ["ours", "anchor"] * 8
    assert rounds == [(i, i + 1) for i in range(1, 8)]


def test_fewer_than_seven_rounds_are_refused():
    with pytest.raises(ValueError, match="at least 7 rounds, was 6"):
        interleaved(lambda: 1.0, lambda: 1.0, rounds=6)


def test_goal_is_met_by_the_smallest_ratio_only():
    steady, once_slow = [(1.0, 2.0)] * 7, [(1.0, 3.0)] * 6 + [(1.0, 1.9)]
    assert summary(comparison(), EQUAL, steady, {})["met"] is True
    result = summary(comparison(), EQUAL, once_slow, {})
    assert (result["ratio_median"], result["ratio_min"], result["ratio_max"]) == (3.0, 1.9, 3.0)
    assert result["met"] is False


def test_figure_over_its_limit_misses_the_goal():
    rounds = [(1.0, 9.0)] * 7
    assert summary(comparison(p99_ms=5.0), EQUAL, rounds, {"p99_ms": 5.0})["met"] is True
    assert summary(comparison(p99_ms=5.0), EQUAL, rounds, {"p99_ms": 5.1})["met"] is False


def test_result_names_no_path_of_the_machine():
    text = json.dumps(summary(comparison(), EQUAL, [(1.0, 2.0)] * 7, {}))
    assert str(harness.REPOSITORY) not in text
    assert sys.prefix not in text


def test_arms_that_differ_are_not_timed(pinned):
    def never() -> float:
        raise AssertionError("timed")

    with pytest.raises(harness.ParityError, match="p5_example: 3 of 4 differ"):
        prove(comparison(), parity=lambda: Parity(passed=False, statement="3 of 4 differ"), ours=never, anchor=never)
    assert list(pinned.iterdir()) == []


def test_result_is_written_and_shown(pinned, tmp_path, capsys):
    costs = iter([2.0, 6.0] * 8)
    prove(comparison(), parity=lambda: EQUAL, ours=lambda: next(costs), anchor=lambda: next(costs))
    assert "p5_example: 3.00× (min 3.00, max 3.00, n 7), goal ≥ 2×: met" in capsys.readouterr().out
    page = write_report(pinned, tmp_path / "out" / "proof.md", tmp_path / "out" / "ratios.svg").read_text()
    assert "| P5 | two (numpy " in page
    assert "**3×** (3 to 3) | 7 | ≥ 2× | yes |" in page
    assert (tmp_path / "out" / "ratios.svg").read_text().startswith("<?xml")


def test_curves_are_kept_and_drawn(pinned, tmp_path):
    curve, folder = harness.Curve("Peak memory", "days", "MB", [1, 252], [450.0, 500.0]), tmp_path / "kept"
    prove(
        comparison(), parity=lambda: EQUAL, ours=lambda: 1.0, anchor=lambda: 2.0, curves=lambda: [curve], results=folder
    )
    assert list(pinned.glob("*.json")) == []
    page = write_report(folder, tmp_path / "proof.md", tmp_path / "ratios.svg").read_text()
    assert "![How it grows](images/proof-p5_example.svg)" in page
    assert "Peak memory" in (tmp_path / "proof-p5_example.svg").read_text()


def test_threads_that_are_not_pinned_are_refused(pinned, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(RuntimeError, match="OMP_NUM_THREADS"):
        prove(comparison(), parity=lambda: EQUAL, ours=lambda: 1.0, anchor=lambda: 1.0)


def test_page_says_when_we_are_not_ahead():
    behind = summary(comparison(), EQUAL, [(2.0, 1.0)] * 7, {})
    assert "no, not ahead" in render({"p5_example": behind})


def test_committed_page_is_what_the_committed_files_give(tmp_path):
    made = write_report(harness.REPOSITORY / "proof", tmp_path / "proof.md", tmp_path / "ratios.svg")
    assert made.read_text() == PAGE.read_text(), "run: python -m benchmarks.report"
    assert PICTURE.exists()


def test_committed_results_have_a_bench():
    assert {result["target"].lower() for result in load_results(harness.RESULTS).values()} <= set(benches())


def test_unknown_bench_is_refused(capsys):
    assert main(["p999"]) == 2
    assert "p999" in capsys.readouterr().out


def test_bench_started_without_pinned_threads_stops_at_once():
    loose = {name: value for name, value in os.environ.items() if name not in harness.PINNED}
    code = "from benchmarks.harness import require_pinned; require_pinned()"
    ended = subprocess.run([sys.executable, "-c", code], env=loose, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "run python -m benchmarks" in ended.stderr


def commands_of_make() -> list[str]:
    recipe = (REPOSITORY / "Makefile").read_text()
    return re.findall(r"-m ((?:benchmarks|surveillance_pipelines_tests)[.a-z_0-9]*)", recipe)


@pytest.mark.parametrize(
    "module", sorted({*commands_of_make(), *(f"benchmarks.{stem}" for stem in benches().values())})
)
def test_every_command_of_make_runs_something(module):
    """A module without an entry point ends with status 0 at once, as if its proof had been kept."""
    path = REPOSITORY / module.replace(".", "/")
    source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    assert 'if __name__ == "__main__":' in source
