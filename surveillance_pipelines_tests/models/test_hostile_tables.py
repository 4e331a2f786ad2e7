"""Tables of numbers in bundles (tails, ordinary values) that are hostile: each is refused, within bounded memory."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from surveillance_pipelines.models.bundle import FEATURES_FILE, load_bundle
from surveillance_pipelines.models.declared_sizes import LARGEST_NUMBER, MAX_TABLE_BYTES
from surveillance_pipelines.models.ensemble import warmed_ensemble
from surveillance_pipelines.models.members import BundleError
from surveillance_pipelines.models.ordinary_values import ORDINARY
from surveillance_pipelines.models.session_phase import PHASE_COLUMNS, PHASES
from surveillance_pipelines.models.tail_detector import MAX_KNOTS, TAILS_FILE, parse_tails
from surveillance_pipelines_tests.models.edited_bundles import edit_json, replace_file
from surveillance_pipelines_tests.models.test_limits import HOSTILE, HOSTILE_SAFETENSORS, HOSTILE_UBJ
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle

Table = dict[str, Any]
MOST_MEMORY: Final = 32 * MAX_TABLE_BYTES
COLUMNS: Final = ("volume_z", "return_z", *PHASE_COLUMNS)


def tails(**changes: Any) -> Table:
    """Return a valid table of two features with three knots, with changes."""
    knots = [[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]] for _ in PHASES]
    return {
        "features": ["volume_z", "return_z"], "two_sided": [False, True], "shares": [0.5, 0.5],
        "phases": list(PHASES), "knots": knots, "surprise": knots, **changes,
    }  # fmt: skip


def encoded(**changes: Any) -> bytes:
    return json.dumps(tails(**changes)).encode()


def with_first(value: Any) -> list[Any]:
    """Return knots whose first number is another value."""
    knots = tails()["knots"]
    knots[0][0] = [value, *knots[0][0][1:]]
    return knots


def every(row: list[Any]) -> list[Any]:
    return [[row, row] for _ in PHASES]


_TEXT: Final = encoded().decode()
HOSTILE_TAILS: Final[dict[str, tuple[bytes, str]]] = {
    "more bytes than a table has": (encoded(features=["x" * MAX_TABLE_BYTES]), "at most 1,048,576 bytes"),
    "spaces up to the limit of a bundle": (b" " * (16 * MAX_TABLE_BYTES), "at most 1,048,576 bytes"),
    "a million empty lists": (b"[" + b"[]," * (MAX_TABLE_BYTES // 4) + b"[]]", "JSON object"),
    "a depth bomb": (b"[" * 500_000, "expected JSON"),
    "a depth bomb of objects": (b'{"knots":' * 100_000, "expected JSON"),
    "a depth bomb as knots": (encoded().replace(b"[[[0.0", b"[" * 2_000 + b"0.0", 1), "expected JSON"),
    "no JSON": (b"\x80\x04cos\nsystem\n(S'id'\ntR.", "expected JSON"),
    "another encoding": (b"\xff\xfe{\x00", "expected JSON"),
    "nothing": (b"", "expected JSON"),
    "cut off": (encoded()[:-40], "expected JSON"),
    "a list": (b"[]", "JSON object"),
    "a number": (b"1", "JSON object"),
    "a part missing": (b'{"features": ["volume_z"]}', "shares"),
    "NaN": (encoded(knots=with_first(float("nan"))), "finite numbers, got NaN"),
    "infinity": (encoded(surprise=with_first(float("inf"))), "finite numbers, got Infinity"),
    "a number that overflows": (_TEXT.replace("0.5", "1e999", 1).encode(), "finite numbers, got 1e999"),
    "a share of NaN": (encoded(shares=[float("nan"), 1.0]), "finite numbers, got NaN"),
    "a whole number of 400 digits": (encoded(knots=with_first(-(10**400))), "numbers of at most 1e"),
    "a whole number of 5,000 digits": (_TEXT.replace("0.5", "9" * 5_000, 1).encode(), "expected JSON"),
    "knots so far apart that their distance overflows": (
        encoded(knots=every([-1.7e308, 0.0, 1.7e308])), "numbers of at most 1e",
    ),
    "a key twice": (_TEXT.replace("{", '{"shares": [1.0, 0.0], ', 1).encode(), "each key once"),
    "texts that look like numbers": (encoded(shares=["0.5", "0.5"]), "expected numbers"),
    "booleans as numbers": (encoded(shares=[True, True]), "expected numbers"),
    "nulls as numbers": (encoded(knots=every([None, 1.0, 2.0])), "expected numbers"),
    "numbers as booleans": (encoded(two_sided=[0, 1]), "true or false per feature"),
    "texts as booleans": (encoded(two_sided=["", "no"]), "true or false per feature"),
    "too few booleans": (encoded(two_sided=[True]), "true or false per feature"),
    "features in one text": (encoded(features="ab"), "different features"),
    "features that are lists": (encoded(features=[[], []]), "different features"),
    "a feature twice": (encoded(features=["volume_z", "volume_z"]), "different features"),
    "a feature that the member does not read": (encoded(features=["volume_z", "price"]), "different features"),
    "no feature": (encoded(features=[]), "different features"),
    "other phases": (encoded(phases=list(PHASES)[::-1]), "to have the phases"),
    "an object of phases": (encoded(phases={}), "to have the phases"),
    "knots of another shape": (encoded(knots=[[[0.0, 1.0, 2.0]]]), "expected a list of 6"),
    "ragged knots": (encoded(knots=[*with_first(0.0)[:5], [[0.0, 1.0], [0.0, 1.0]]]), "expected a list of 3"),
    "deeper knots": (encoded(knots=every([[0.0], [1.0], [2.0]])), "expected numbers"),
    "knots that are an object": (encoded(knots={"0": 1}), "lists of knots"),
    "one knot": (encoded(knots=every([0.0]), surprise=every([0.0])), "2 to 256 knots"),
    "absurdly many knots": (encoded(knots=every(list(range(MAX_KNOTS + 1)))), "2 to 256 knots"),
    "descending knots": (encoded(knots=every([2.0, 1.0, 0.0])), "ascending"),
    "equal knots": (encoded(knots=every([1.0, 1.0, 1.0])), "ascending"),
    "descending surprise": (encoded(surprise=every([2.0, 1.0, 0.0])), "ascending"),
    "negative surprise": (encoded(surprise=every([-1.0, 0.0, 1.0])), "at least 0"),
    "shares that spend the budget twice": (encoded(shares=[1.0, 1.0]), "with the sum 1"),
    "a negative share": (encoded(shares=[1.5, -0.5]), "a positive share"),
    "a share of nothing": (encoded(shares=[1.0, 0.0]), "a positive share"),
}  # fmt: skip


def set_value(name: str, value: Any) -> Callable[[Table], object]:
    return lambda table: table.__setitem__(name, value)


def set_first(name: str, value: Any) -> Callable[[Table], object]:
    return lambda table: table[name][0].__setitem__(0, value)


HOSTILE_ORDINARY: Final[dict[str, Callable[[Table], object]]] = {
    "no columns": lambda table: table.pop("columns"),
    "columns in one text": set_value("columns", "volume_z"),
    "columns that are lists": set_value("columns", [[]]),
    "an unknown column": lambda table: table["columns"].__setitem__(0, "mood"),
    "a column twice": lambda table: table["columns"].__setitem__(0, table["columns"][1]),
    "more columns than values": lambda table: table["columns"].append("sma_20"),
    "other phases": set_value("phases", ["day"]),
    "fewer phases than the table": lambda table: table["median"].pop(),
    "rows that are texts": set_value("median", ["1" * 42] * len(PHASES)),
    "an object of rows": set_value("spread", {}),
    "a text that looks like a number": set_first("median", "0.5"),
    "a boolean": set_first("median", value=True),
    "a nested list": set_first("median", [0.0]),
    "NaN": set_first("median", float("nan")),
    "infinity": set_first("spread", float("inf")),
    "a gigantic number": set_first("median", 10.0 * LARGEST_NUMBER),
    "a whole number of 400 digits": set_first("median", 10**400),
    "a spread of 0": set_first("spread", 0.0),
    "a negative spread": set_first("spread", -1.0),
    "a median without its spread": set_first("spread", None),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "bundle"
    build_tiny_bundle(path)
    return path


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "bundle"
    copied.mkdir()
    for file in trained.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return copied


def test_valid_table_is_read():
    read = parse_tails(encoded(), COLUMNS)
    assert read.features == ("volume_z", "return_z")
    assert read.two_sided.tolist() == [False, True]
    assert read.knots.shape == read.surprise.shape == (len(PHASES), 2, 3)


@pytest.mark.parametrize("name", HOSTILE_TAILS)
def test_hostile_tails_are_refused_within_bounded_memory(name: str):
    content, reason = HOSTILE_TAILS[name]
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=reason):
            parse_tails(content, COLUMNS)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a depth bomb", "a key twice", "absurdly many knots", "no JSON"])
def test_bundle_with_hostile_tails_is_refused(path: Path, name: str):
    replace_file(path, TAILS_FILE, HOSTILE_TAILS[name][0])
    with pytest.raises(BundleError, match="member 'tail_detector'"):
        warmed_ensemble(load_bundle(path))


@pytest.mark.parametrize("name", HOSTILE_ORDINARY)
def test_bundle_with_hostile_ordinary_values_is_refused(path: Path, name: str):
    edit_json(path, FEATURES_FILE, lambda reference: HOSTILE_ORDINARY[name](reference[ORDINARY]))
    with pytest.raises(BundleError):
        warmed_ensemble(load_bundle(path))


@pytest.mark.parametrize("value", [[], 1, "median", True])
def test_bundle_with_ordinary_values_of_another_type_is_refused(path: Path, value: Any):
    edit_json(path, FEATURES_FILE, lambda reference: reference.__setitem__(ORDINARY, value))
    with pytest.raises(BundleError, match="expected columns, phases, median and spread"):
        warmed_ensemble(load_bundle(path))


def test_trained_bundle_serves_and_explains(path: Path):
    ensemble = warmed_ensemble(load_bundle(path))
    bar = np.zeros((1, len(load_bundle(path).view.columns)))
    assert ensemble.predict(bar).explainer is ensemble


def test_at_least_40_hostile_artefacts_are_refused():
    assert (
        len(HOSTILE) + len(HOSTILE_SAFETENSORS) + len(HOSTILE_UBJ) + len(HOSTILE_TAILS) + len(HOSTILE_ORDINARY) == 100
    )
