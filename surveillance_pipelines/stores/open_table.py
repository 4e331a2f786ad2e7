"""A table of the lake that stays open: opening it again reads only the commits since."""

from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from surveillance_pipelines.contracts.frames import LATER_COLUMNS
from surveillance_pipelines.stores.lake_damage import LostFile, find_lost_files
from surveillance_pipelines.stores.lake_scan import PARTITION, DayRange, is_selected, scan_files, scan_table


class OpenTable:
    """A Delta table partitioned by ``date``, at the version of the last ``refresh``. Used by one thread."""

    def __init__(self, table: DeltaTable, folder: Path | None) -> None:
        self._table: Final = table
        self._folder: Final = folder
        self._files: dict[date, tuple[str, ...]] | None = None

    def refresh(self) -> None:
        """Go to the newest version; costs one look at the log."""
        before = self._table.version()
        self._table.update_incremental()
        if self._table.version() != before:
            self._files = None

    def files(self) -> dict[date, tuple[str, ...]]:
        """Return the paths of each day's files, days ascending. The rows of a day change only with its files."""
        if self._files is None:
            actions = pl.DataFrame(self._table.get_add_actions(flatten=True))
            by_day = actions.group_by(pl.col(f"partition.{PARTITION}").alias(PARTITION)).agg(pl.col("path").sort())
            self._files = {day: tuple(paths) for day, paths in by_day.sort(PARTITION).iter_rows()}
        return self._files

    def read(
        self,
        *,
        days: Collection[date] | DayRange | None = None,
        symbols: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        schema: pl.Schema | None = None,
    ) -> pl.DataFrame:
        """Return the rows of the table; see ``Lake.read``."""
        return read_rows(self._table, self._folder, days=days, symbols=symbols, columns=columns, schema=schema)

    def lost_files(self, days: Collection[date] | DayRange) -> list[LostFile]:
        """Return the missing and damaged files of days; none if the table is on an object store."""
        if self._folder is None:
            return []
        return [file for file in find_lost_files(self._table, self._folder) if is_selected(file.day, days)]

    def read_intact(self, days: Collection[date] | DayRange) -> pl.DataFrame:
        """Return the rows of days that are in intact files, of a table in a folder."""
        lost = {file.path.as_posix() for file in self.lost_files(days)}
        kept = {
            day: [path for path in map(unquote, paths) if path not in lost]
            for day, paths in self.files().items()
            if is_selected(day, days)
        }
        return scan_files(pl.Schema(self._table.schema()), self._folder or Path(), kept).collect()


def read_rows(
    table: DeltaTable,
    folder: Path | None,
    *,
    days: Collection[date] | DayRange | None,
    symbols: Collection[str] | None,
    columns: Sequence[str] | None,
    schema: pl.Schema | None,
) -> pl.DataFrame:
    """Return rows of an open table in a folder, or on an object store; see ``Lake.read``."""
    names = {field.name for field in table.schema().fields}
    frame = scan_table(table, folder, days=days)
    if days is not None:
        frame = frame.filter(_on(days))
    if symbols is not None:
        frame = frame.filter(pl.col("symbol").is_in(sorted(symbols)))
    if schema is not None and (absent := sorted((set(schema) & LATER_COLUMNS) - set(names))):
        frame = frame.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent)
    if schema is not None and columns is None and set(schema) & LATER_COLUMNS:
        columns = schema.names()  # adding a column changes their order in the table
    return frame.select(pl.all() if columns is None else columns).collect()


def _on(days: Collection[date] | DayRange) -> pl.Expr:
    if isinstance(days, tuple) and len(days) == 2:
        return pl.col(PARTITION).is_between(*days)
    return pl.col(PARTITION).is_in(sorted(days))
