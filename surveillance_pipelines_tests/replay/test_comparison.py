"""Which field of two rows is said to differ, and when rows of another runtime still agree."""

from dataclasses import replace
from typing import Any

import pytest

from surveillance_pipelines.contracts.outputs import Score, to_record
from surveillance_pipelines.replay.comparison import (
    RECORDED,
    Difference,
    Replayed,
    StoredOutput,
    first_difference,
)
from surveillance_pipelines_tests.engine.market import stream
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine


@pytest.fixture(scope="module")
def row() -> Score:
    return feed(make_engine(), [stream(3)]).scores[-1]


def stored(row: Score, **changes: Any) -> StoredOutput:
    return StoredOutput("score", to_record(row) | changes)


def test_equal_rows_have_no_difference_whoever_made_them(row: Score) -> None:
    others = dict.fromkeys(RECORDED, "another")
    assert first_difference(stored(row, **others), row, same_runtime=True) is None


def test_first_field_of_the_contract_is_named_and_the_id_last(row: Score) -> None:
    wrong = stored(row, id="another", price=1.0, input_hash="another", kind="another")
    assert first_difference(wrong, row, same_runtime=True) == Difference("input_hash", "another", row.input_hash)
    assert first_difference(stored(row, id="another"), row, same_runtime=True) == Difference("id", "another", row.id)


def test_fields_that_a_record_lacks_are_not_compared(row: Score) -> None:
    some = {name: value for name, value in to_record(row).items() if name not in ("volume", "risk_score")}
    assert first_difference(StoredOutput("prediction", some), replace(row, volume=-1.0), same_runtime=True) is None


@pytest.mark.parametrize(("change", "same"), [(1e-9, True), (9e-7, True), (1e-5, False)])
def test_another_runtime_allows_a_millionth_and_ours_no_bit(row: Score, change: float, same: bool) -> None:
    nearly = stored(row, score=row.score + change, input_hash="another")
    assert (first_difference(nearly, row, same_runtime=False) is None) is same
    difference = first_difference(stored(row, score=row.score + change), row, same_runtime=True)
    assert difference is not None
    assert difference.field == "score"


def test_sign_of_zero_counts_in_a_column_and_not_inside_json(row: Score) -> None:
    zero = replace(row, volume=0.0, explanation={"share": 0.0, "parts": [1.0]})
    assert first_difference(stored(zero, volume=-0.0), zero, same_runtime=True) is not None
    assert first_difference(stored(zero, explanation={"share": -0.0, "parts": [1]}), zero, same_runtime=True) is None
    assert first_difference(stored(zero, explanation={"share": 0.0, "parts": []}), zero, same_runtime=True) is not None


def test_another_runtime_does_not_change_words(row: Score) -> None:
    said = replace(row, explanation={"summary": "0.12", "kinds": {"normal": 0.1}})
    other = stored(said, explanation={"summary": "0.13", "kinds": {"normal": 0.1 + 1e-8}})
    assert first_difference(other, said, same_runtime=False) is None
    assert first_difference(stored(row, kind="another"), row, same_runtime=False) is not None


def test_only_an_equal_runtime_is_called_equal() -> None:
    assert Replayed(id="a", outcome="equal").summary == "byte for byte"
    assert Replayed(id="a", outcome="equivalent").summary == "equivalent within 1e-06"
    assert not Replayed(id="a", outcome="impossible", reason="gone").passed
