"""A user's file as a table: the cells of each row under the names of their columns, and the layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from surveillance_pipelines.contracts.text import listed
from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.market.files import layouts, yfinance_csv
from surveillance_pipelines.market.files.layouts import Layout
from surveillance_pipelines.market.files.limits import FileLimitError, check_parquet
from surveillance_pipelines.market.files.options import FileError, FileOptions
from surveillance_pipelines.market.files.text import read_rows
from surveillance_pipelines.market.row_checks import RowRefusal

TEXT_ENDINGS: Final = (".csv", ".txt", ".tsv")
PARQUET_ENDINGS: Final = (".parquet", ".pq")
_COMPRESSED: Final = (".gz", ".zst")
_SHOWN_NAMES: Final = 20


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file.

    Attributes:
        cells: one column for each of the file's, with normalised names; those of a text file are text, null if empty.
        places: ``row`` (number of the row, from 0) and ``line`` (of the text file, from 1; null if it is not text).
        names: the columns' names as written.
        layout: the vendor's layout.
        misfits: rows with more or fewer fields than columns.
        notes: what was left out or assumed.
    """

    cells: pl.DataFrame
    places: pl.DataFrame
    names: tuple[str, ...]
    layout: Layout
    misfits: tuple[RowRefusal, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return self.cells.height + len(self.misfits)

    @property
    def spelled(self) -> str:
        """The columns' names for a message."""
        return listed(self.names, _SHOWN_NAMES)


def load_table(path: Path, options: FileOptions) -> Table:
    """Return the rows of a Parquet or text file.

    Raises:
        FileError: if the file does not exist, is of no known form, cannot be read or expands too much.
    """
    if not path.is_file():
        raise FileError(f"expected a Parquet or CSV file, got no file at {path}")
    try:
        if path.suffix.lower() in PARQUET_ENDINGS:
            return _parquet(path)
        if is_text(path):
            return _text(path, options)
    except FileLimitError as error:
        raise FileError(str(error)) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileError(f"expected readable Parquet or CSV, {path.name} could not be read: {error}") from error
    raise FileError(f"expected a name that ends in {_endings()}, got {path.name}")


def is_text(path: Path) -> bool:
    """Return whether a file is read as text, judging by its name."""
    name = path.name.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return name.endswith(TEXT_ENDINGS)


def _endings() -> str:
    return f"{', '.join((*PARQUET_ENDINGS, *TEXT_ENDINGS))}, {' or '.join(f'.csv{ending}' for ending in _COMPRESSED)}"


def _parquet(path: Path) -> Table:
    check_parquet(path)
    cells = pl.read_parquet(path, glob=False)  # [ and * in a name are no pattern
    written = tuple(cells.columns)
    cells.columns = _distinct([layouts.normal_name(name) for name in written], path)
    lines = pl.Series("line", [None], dtype=pl.Int64).new_from_index(0, cells.height)
    places = pl.DataFrame({"row": pl.int_range(cells.height, eager=True), "line": lines})
    return Table(cells, places, written, layouts.of_header(cells.columns))


def _text(path: Path, options: FileOptions) -> Table:
    rows = read_rows(path)
    head = rows.head()
    if yfinance_csv.is_wide(head):
        written, data = yfinance_csv.long_rows(rows.frame)
        return _fitted(data, [layouts.normal_name(name) for name in written], tuple(written), yfinance_csv.LAYOUT, ())
    header = _header_row(head, options)
    notes = _above(rows.frame, header) if header is not None else ()
    if header is not None:
        written, data = head[header], rows.frame.slice(header + 1)
        names = [layouts.normal_name(name) for name in written]
        layout = layouts.NAMED_BY_USER if options.columns else layouts.of_header(names)
    else:
        written, layout = _headless(head[0], path, options)
        names, data = list(written), rows.frame
    names = _distinct([name or f"column_{place}" for place, name in enumerate(names, start=1)], path)
    return _fitted(data, names, tuple(written), layout, notes)


def _header_row(head: Sequence[Sequence[str]], options: FileOptions) -> int | None:
    """Return the number of the first row that has the names of columns; None if none has."""
    wanted = {layouts.normal_name(name) for name in options.columns.values() if not name.isdigit()}
    for number, fields in enumerate(head):
        names = [layouts.normal_name(name) for name in fields]
        if (wanted and wanted <= set(names)) or (not wanted and layouts.is_header(names)):
            return number
        if layouts.of_header(names) is not layouts.GENERIC:
            return number
    return None


def _headless(first: Sequence[str], path: Path, options: FileOptions) -> tuple[tuple[str, ...], Layout]:
    """Return the columns of a file without a header, and its layout."""
    if options.columns:
        return tuple(f"column_{place}" for place in range(1, len(first) + 1)), layouts.NAMED_BY_USER
    layout = layouts.of_row(first, path.name)
    if layout is None:
        shown = ",".join(first)[:80]
        raise FileError(
            f"expected a line with the names of columns, such as time, open, high, low, close and volume, or the "
            f"layout of a known vendor; {path.name} has no header line, its first row is {shown}",
            lacks="columns",
        )
    return layout.positions, layout


def _above(frame: pl.DataFrame, header: int) -> tuple[str, ...]:
    if header == 0:
        return ()
    return (f"{header} line{'s' if header > 1 else ''} above the header left out: {frame['fields'][0].to_list()}",)


def _fitted(
    data: pl.DataFrame, names: list[str], written: tuple[str, ...], layout: Layout, notes: tuple[str, ...]
) -> Table:
    """Return the rows with as many fields as columns, and the others as misfits.

    Empty fields beyond the columns do not count if every row has some. If only some rows do, a value of theirs may
    contain the separator, such as 1,234.
    """
    width, numbered = len(names), data.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    beyond = pl.col("fields").list.slice(width)
    size, padded = pl.col("fields").list.len(), beyond.list.eval(pl.element() == "").list.all()
    every = pl.lit(not bool(data["fields"].list.len().eq(width).any()))
    verdict = numbered.with_columns(fits=(size == width) | (every & (size > width) & padded))
    wrong = verdict.filter(~pl.col("fits"))
    misfits = tuple(
        RowRefusal(
            canonical_json({"fields": fields}), "wrong_columns",
            f"expected {width} fields as in the header, got {len(fields)}: quote values that contain the separator",
            row, line=line,
        )
        for row, line, fields in wrong.select("row", "line", "fields").iter_rows()
    )  # fmt: skip
    right = verdict.filter("fits")
    cells = right.select(
        pl.col("fields").list.get(place).replace("", None).alias(name) for place, name in enumerate(names)
    )
    return Table(cells, right.select("row", "line"), written, layout, misfits, notes)


def _distinct(names: list[str], path: Path) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1 and not name.startswith("column_")})
    if twice:
        raise FileError(f"expected each column once, {path.name} has {', '.join(twice)} more than once")
    return names
