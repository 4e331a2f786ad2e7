"""Scans of Delta tables in any folder.

``pl.scan_delta`` takes the encoded paths of delta-rs (``a%20b``) for names of files, reads ``=`` above the table as a
partition, and ``*`` and ``?`` as patterns.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

PARTITION: Final = "date"

DayRange = tuple[date, date]
"""First and last day, both included."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9/._~-]*")
"""Paths that are equal to their URL, and in which nothing is a pattern or a partition."""


def scan_table(
    table: DeltaTable, folder: Path | None, *, days: Collection[date] | DayRange | None = None
) -> pl.LazyFrame:
    """Return a table as a lazy frame.

    Args:
        table: an open table.
        folder: its folder; None if it is on an object store.
        days: days whose rows will be selected; None means all. The frame may contain other days too.
    """
    if folder is None or _PLAIN.fullmatch(os.path.realpath(folder)):
        return pl.scan_delta(table)
    by_day = {day: files for day, files in _files_by_day(table).items() if days is None or is_selected(day, days)}
    return scan_files(pl.Schema(table.schema()), folder, by_day)


def scan_files(schema: pl.Schema, folder: Path, by_day: Mapping[date, Sequence[str]]) -> pl.LazyFrame:
    """Return the rows of files of a table as a lazy frame; the paths are relative to its folder."""
    stored = pl.Schema({name: kind for name, kind in schema.items() if name != PARTITION})
    parts = [
        pl.scan_parquet(
            [folder / file for file in files], schema=stored, glob=False, hive_partitioning=False,
            missing_columns="insert", extra_columns="ignore",
        ).with_columns(pl.lit(day).alias(PARTITION))
        for day, files in by_day.items()
        if files
    ]  # fmt: skip
    return pl.concat(parts).select(schema.names()) if parts else pl.LazyFrame(schema=schema)


def is_selected(day: date, days: Collection[date] | DayRange) -> bool:
    """Return whether a day is in a range, given as a tuple of two dates, or in another collection of days."""
    return days[0] <= day <= days[1] if isinstance(days, tuple) and len(days) == 2 else day in days


def _files_by_day(table: DeltaTable) -> dict[date, list[str]]:
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    found: dict[date, list[str]] = {}
    for day, path in actions.select(f"partition.{PARTITION}", "path").sort(pl.all()).iter_rows():
        found.setdefault(day, []).append(unquote(path))
    return found
