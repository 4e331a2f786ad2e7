"""Lines of a text file, split into fields. Line numbers count blank lines; no field of a row is dropped silently."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from surveillance_pipelines.market.files.limits import read_text
from surveillance_pipelines.market.files.options import FileError

SEPARATORS: Final = (",", ";", "\t", "|")
FIRST_LINES: Final = 20
"""Number of lines in which the header or the first row is looked for; vendors write titles and notes above it."""

_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(frozen=True, slots=True)
class TextRows:
    """The lines of a text file that are not blank.

    Attributes:
        frame: ``line`` (number from 1) and ``fields`` (list of text, without surrounding spaces).
        separator: character between fields.
    """

    frame: pl.DataFrame
    separator: str

    def head(self) -> list[list[str]]:
        """Return the fields of the first lines."""
        return self.frame["fields"].head(FIRST_LINES).to_list()


def read_rows(path: Path) -> TextRows:
    """Return the fields of each line of a text file that is not blank, compressed or not.

    Fields may be in double quotes. A quoted field ends on its line; no vendor's file has a line break in a field.

    Raises:
        FileError: if the file is empty or is not text.
    """
    content = _utf8(read_text(path), path)
    lines = pl.read_lines(content, name="text", row_index_name="line", row_index_offset=1)
    lines = lines.with_columns(pl.col("line").cast(pl.Int64)).filter(pl.col("text").str.strip_chars() != "")
    if lines.is_empty():
        raise FileError(f"expected rows in {path.name}, the file is empty")
    separator = _separator(lines["text"].head(FIRST_LINES).to_list())
    return TextRows(lines.select("line", fields=_split(lines["text"], separator)), separator)


def _utf8(content: bytes, path: Path) -> bytes:
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            content = content[len(mark) :].decode(encoding, errors="replace").encode()
    if b"\x00" in content[:4096]:
        raise FileError(f"expected text in {path.name}, got binary data")
    # Old Mac and mixed line ends; a byte that is no UTF-8 shows in the reason of its row.
    text = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text if text.isascii() else text.decode("utf-8", errors="replace").encode()


def _separator(lines: Sequence[str]) -> str:
    """Return the separator that splits the most lines into the same number of fields, at least two."""

    def agreement(separator: str) -> tuple[int, int]:
        counts = [len(next(csv.reader([line], delimiter=separator))) for line in lines]
        several = [count for count in counts if count > 1]
        common = max(several, key=several.count, default=0)
        return counts.count(common) if common else 0, common

    return max(SEPARATORS, key=agreement)


def _split(texts: pl.Series, separator: str) -> pl.Series:
    """Return the fields of each line without surrounding spaces."""
    lines = pl.DataFrame({"text": texts}).with_row_index("row")
    quoted = lines.filter(pl.col("text").str.contains('"', literal=True))
    fields = lines.select("row", fields=pl.col("text").str.split(separator))
    if not quoted.is_empty():
        # One reader per line: an unclosed quote must not swallow the lines below it.
        parsed = [next(csv.reader([text], delimiter=separator, skipinitialspace=True)) for text in quoted["text"]]
        whole = pl.DataFrame({"row": quoted["row"], "whole": pl.Series(parsed, dtype=pl.List(pl.String))})
        fields = fields.join(whole, on="row", how="left", maintain_order="left").with_columns(
            fields=pl.coalesce("whole", "fields")
        )
    return fields["fields"].list.eval(pl.element().str.strip_chars())
