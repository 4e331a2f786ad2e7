"""Limits on a user's file, checked before it is read: bytes, expansion, rows and columns.

A compressed file of a few megabytes can expand to any size and end the process for lack of memory.
"""

import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psutil

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError

MAX_EXPANSION: Final = 100
"""Expanded bytes per byte of the file; prices compress about 5 to 30 times."""
FREE_BYTES: Final = 512 * 1024 * 1024
"""Expanded size up to which the expansion does not matter."""
MAX_ROWS: Final = 500_000_000
MAX_COLUMNS: Final = 4_096
MEMORY_SHARE: Final = 0.25
"""Part of the available memory that the expanded file may take; checks and conversions need the rest."""

_CHUNK: Final = 1 << 20
_VALUE_BYTES: Final = 8


class FileLimitError(SurveillanceError, code=ErrorCode.INVALID_INPUT):
    """The file is larger than what is read, before or after its expansion."""


def read_text(path: Path) -> bytes:
    """Return the content of a text file, expanded if it is compressed.

    Raises:
        FileLimitError: if the file is too large, expands too much, or has too many columns.
        OSError: if the file cannot be expanded.
    """
    size, most = path.stat().st_size, _most_bytes()
    form = _compression(path)
    if form == "zip":
        raise FileLimitError(
            f"expected text, gzip or zstd in {path.name}, got a ZIP archive: name it .zip or, if it is a workbook of "
            "Excel, save it as CSV"
        )
    if form == "":
        _require_bytes(path, size, most)
    pieces: list[bytes] = []
    expanded = 0
    with closing(_chunks(path, form)) as chunks:
        for chunk in chunks:
            if not pieces:
                _require_columns(path, chunk)
            expanded += len(chunk)
            if form:
                _require_bytes(path, expanded, most)
                _require_expansion(path, expanded, size)
            pieces.append(chunk)
    return b"".join(pieces)


def check_parquet(path: Path) -> None:
    """Check rows, columns and expanded size that a Parquet file declares.

    Raises:
        FileLimitError: if the file is too large.
        OSError: if it has no readable footer.
    """
    from pyarrow import ArrowException
    from pyarrow import parquet as pq

    most = _most_bytes()
    _require_bytes(path, path.stat().st_size, most)
    try:
        with path.open("rb") as file:
            facts: Any = pq.ParquetFile(file).metadata
    except ArrowException as error:
        raise OSError(f"no readable Parquet: {error}") from error
    if facts.num_rows > MAX_ROWS or facts.num_columns > MAX_COLUMNS:
        raise FileLimitError(
            f"expected at most {MAX_ROWS:,} rows and {MAX_COLUMNS:,} columns in {path.name}, got {facts.num_rows:,} "
            f"and {facts.num_columns:,}: split the file"
        )
    declared = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
    expanded = max(declared, facts.num_rows * facts.num_columns * _VALUE_BYTES)
    _require_bytes(path, expanded, most)
    _require_expansion(path, expanded, path.stat().st_size)


def require_expansion(path: Path, expanded: int) -> None:
    """Check the declared size of an archive's members; reading stops at the declared size.

    Raises:
        FileLimitError: if they are too large.
    """
    _require_bytes(path, expanded, _most_bytes())
    _require_expansion(path, expanded, path.stat().st_size)


def _most_bytes() -> int:
    return int(psutil.virtual_memory().available * MEMORY_SHARE)


def _require_bytes(path: Path, size: int, most: int) -> None:
    if size > most:
        raise FileLimitError(
            f"expected {path.name} to take at most {most // 1_000_000:,} MB, a quarter of the memory that is "
            f"available, got at least {size // 1_000_000:,} MB: split the file"
        )


def _require_expansion(path: Path, expanded: int, size: int) -> None:
    if expanded > max(FREE_BYTES, MAX_EXPANSION * size):
        raise FileLimitError(
            f"expected {path.name} to expand at most {MAX_EXPANSION} times, or to {FREE_BYTES // 1_000_000:,} MB, got "
            f"at least {expanded // 1_000_000:,} MB from {size / 1e6:,.1f} MB: check what the file is, or unpack and "
            "split it"
        )


def _require_columns(path: Path, first: bytes) -> None:
    header, newline, _ = first.partition(b"\n")
    columns = header.count(b",") + 1
    if columns > MAX_COLUMNS or (not newline and len(first) >= _CHUNK):
        raise FileLimitError(
            f"expected a first line of at most {MAX_COLUMNS:,} columns in {path.name}, got {columns:,} in "
            f"{len(header):,} bytes"
        )


def _compression(path: Path) -> str:
    """Return the compression that the content shows, as polars finds it: whatever the name says."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b":
        return "gzip"
    if start == b"\x28\xb5\x2f\xfd":
        return "zstd"
    if start == b"PK\x03\x04":
        return "zip"
    return "zlib" if start[:2] in (b"\x78\x01", b"\x78\x9c", b"\x78\xda") else ""


def _chunks(path: Path, form: str) -> Generator[bytes]:
    if form == "zlib":
        yield from _inflated(path)
        return
    with path.open("rb") as file:
        stream: Any = file
        if form == "gzip":
            stream = gzip.GzipFile(fileobj=file)
        elif form == "zstd":
            import pyarrow as pa

            stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
        try:
            while chunk := stream.read(_CHUNK):
                yield chunk
        except (EOFError, zlib.error) as error:
            raise OSError(f"damaged {form} data: {error}") from error


def _inflated(path: Path) -> Iterator[bytes]:
    decompressor = zlib.decompressobj()
    try:
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                while piece:
                    yield decompressor.decompress(piece, _CHUNK)
                    piece = decompressor.unconsumed_tail
    except zlib.error as error:
        raise OSError(f"damaged zlib data: {error}") from error
