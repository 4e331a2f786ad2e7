"""Files that expand to more than is read: each is refused before it is read, with the reason."""

import gzip
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from surveillance_pipelines.market.files import limits
from surveillance_pipelines.market.files.options import FileError, FileOptions
from surveillance_pipelines.market.files.table import load_table

_HEADER = b"symbol,bar_start,open,high,low,close,volume\n"
_ROW = b"AAPL,2024-01-15T14:30:00Z,1,1,1,1,1\n"
_TEXT = _HEADER + _ROW * 200_000
"""7 MB; with the limits of the tests, that is far too much for its compressed size."""


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 2_000_000)
    monkeypatch.setattr(limits, "MAX_ROWS", 1_000_000)


def _gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(_TEXT))


def _gzip_in_parts(path: Path) -> None:
    path.write_bytes(gzip.compress(_HEADER) + gzip.compress(_ROW * 200_000))


def _zlib(path: Path) -> None:
    path.write_bytes(zlib.compress(_TEXT))


def _zstd(path: Path) -> None:
    path.write_bytes(pa.Codec("zstd").compress(_TEXT, asbytes=True))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bars.csv", _TEXT)


def _parquet(path: Path) -> None:
    pl.DataFrame({"symbol": ["A"] * 900_000, "open": [1.0] * 900_000}).write_parquet(path)


def _many_rows(path: Path) -> None:
    pl.DataFrame({"open": [1.0] * 1_000_001}).write_parquet(path)


def _many_columns(path: Path) -> None:
    path.write_bytes(b"a," * 5_000 + b"b\n" + b"1," * 5_000 + b"1\n")


def _endless_line(path: Path) -> None:
    path.write_bytes(b"a" * 2_000_000)


@pytest.mark.parametrize(
    ("write", "name", "reason"),
    [
        (_gzip, "bars.csv.gz", "expand at most 100 times"),
        (_gzip, "bars.csv", "expand at most 100 times"),
        (_gzip_in_parts, "bars.csv.gz", "expand at most 100 times"),
        (_zlib, "bars.csv", "expand at most 100 times"),
        (_zstd, "bars.csv", "expand at most 100 times"),
        (_zip, "bars.csv", "ZIP archive"),
        (_parquet, "bars.parquet", "expand at most 100 times"),
        (_many_rows, "bars.parquet", "1,000,000 rows"),
        (_many_columns, "bars.csv", "4,096 columns"),
        (_endless_line, "bars.csv", "first line"),
    ],
)
def test_file_that_expands_too_much_is_refused(
    tmp_path: Path, write: Callable[[Path], None], name: str, reason: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(FileError, match=reason):
        load_table(tmp_path / name, FileOptions())


@pytest.mark.parametrize(("write", "name"), [(_gzip, "bars.csv.gz"), (_parquet, "bars.parquet")])
def test_file_larger_than_the_available_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], name: str
) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 1 << 40)
    monkeypatch.setattr(limits, "_most_bytes", lambda: 5_000_000)
    write(tmp_path / name)
    with pytest.raises(FileError, match="memory that is available"):
        load_table(tmp_path / name, FileOptions())


@pytest.mark.parametrize("write", [_gzip, _zlib, _zstd])
def test_compressed_file_within_the_limits_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 1 << 30)
    write(tmp_path / "bars.csv")
    assert load_table(tmp_path / "bars.csv", FileOptions()).rows == 200_000


@pytest.mark.parametrize("name", ["bars.csv.gz", "bars.parquet"])
def test_damaged_file_is_refused_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 1 << 30)
    (tmp_path / name).write_bytes(gzip.compress(_TEXT)[:-200])
    with pytest.raises(FileError, match="could not be read"):
        load_table(tmp_path / name, FileOptions())


def test_bomb_of_the_default_limits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with gzip.open(tmp_path / "bomb.csv.gz", "wb", compresslevel=1) as file:
        file.write(_HEADER)
        for _ in range(600):
            file.write(_ROW * 29_000)  # 1 MB
    assert (tmp_path / "bomb.csv.gz").stat().st_size < 6_000_000
    with pytest.raises(FileError, match="expand at most 100 times"):
        load_table(tmp_path / "bomb.csv.gz", FileOptions())
