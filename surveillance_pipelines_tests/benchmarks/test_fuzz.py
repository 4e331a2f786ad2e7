"""The fuzzer of the decoder: that it reaches every end, finds a planted mistake, and what it has found on record."""

import json

import pytest

pytest.importorskip("atheris", reason="the fuzzer has wheels for Linux on x86-64 only")

from benchmarks.fuzz import RUNS, fuzzed, lines_reached, write_corpus
from benchmarks.fuzz_decoder import MISTAKES
from benchmarks.harness import COUNTS
from surveillance_pipelines_tests.market.decoder_oracle import ENDS
from surveillance_pipelines_tests.market.test_messages import GOOD, MALFORMED


def test_short_run_breaks_no_promise_and_reaches_every_refusal(tmp_path):
    write_corpus(
        tmp_path / "corpus",
        [json.dumps(GOOD), json.dumps(GOOD | {"symbol": "UNKNOWN"}), *(body for _, body, _ in MALFORMED)],
    )
    found = fuzzed(tmp_path, runs=8_000, seed=7)
    assert (found["crashes"], found["inputs"]) == (0, 8_000)
    assert set(ENDS) == set(found["ends"])
    assert found["edges"] > 50
    lines, unreached = lines_reached(tmp_path / "corpus")
    assert lines > 80
    assert unreached == []


def test_planted_mistake_is_found_and_its_body_kept(tmp_path):
    write_corpus(tmp_path / "corpus", [json.dumps(GOOD)])
    found = fuzzed(tmp_path, runs=100_000, seed=7, mistake="a number is converted before it is judged")
    assert found["crashes"] == 1
    assert "Uncaught Python exception" in found["first_crash"]
    assert "float(value)" in found["first_crash"]


def test_result_on_record_is_of_the_decoder_of_now_and_as_promised():
    result = json.loads((COUNTS / "r3_fuzz.json").read_text())
    figures = result["figures"]
    assert result["met"] is True
    assert (figures["inputs"], figures["crashes"], figures["ends_never_reached"]) == (RUNS, 0, [])
    assert set(figures["ends"]) == set(ENDS)
    assert set(figures["mistakes_caught_after_inputs"]) == set(MISTAKES)
