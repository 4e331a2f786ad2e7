import hashlib

import numpy as np
import pytest

from surveillance_pipelines.hashing import (
    canonical_json,
    sha256_bytes,
    sha256_file,
    sha256_files,
    sha256_json,
    sha256_rows,
    sha256_text,
)


def test_canonical_json_key_order_does_not_matter():
    assert canonical_json({"b": [1, 2.5], "a": None}) == canonical_json({"a": None, "b": [1, 2.5]})
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_canonical_json_non_finite_number_is_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"price": value})


def test_sha256_text_is_the_digest_of_its_utf8_bytes():
    assert sha256_text("é") == hashlib.sha256("é".encode()).hexdigest()


def test_sha256_json_one_changed_value_changes_the_hash():
    assert sha256_json(["a", 1]) == sha256_json(["a", 1])
    assert sha256_json(["a", 1]) != sha256_json(["a", 2])


def test_sha256_bytes_chunks_hash_like_their_join():
    assert sha256_bytes(b"ab", memoryview(b"cd")) == hashlib.sha256(b"abcd").hexdigest()


def test_sha256_file_is_the_digest_of_its_bytes(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x00weights\xff")
    assert sha256_file(path) == hashlib.sha256(b"\x00weights\xff").hexdigest()


def test_sha256_files_order_and_content_decide(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    both = sha256_files([first, second])
    assert both != sha256_files([second, first])
    second.write_text("3")
    assert both != sha256_files([first, second])


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (4, 3)])
def test_sha256_rows_hashes_the_bytes_of_each_row(shape):
    rows = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    assert sha256_rows(rows) == [sha256_bytes(row.tobytes()) for row in rows]
