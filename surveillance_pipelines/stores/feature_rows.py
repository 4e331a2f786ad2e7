"""Feature rows of the lake before a day, for models that read windows of several bars."""

from datetime import date
from typing import Final

import polars as pl

from surveillance_pipelines.stores.lake import Lake


class EarlierRows:
    """Reads the last feature rows before a day, for models that read windows of several bars.

    Args:
        lake: the lake.
        table: table of features.
        schema: schema of the table.
        version: version of the table; None means the newest.
        count: rows per symbol; 0 for windows of one bar.
    """

    def __init__(self, lake: Lake, table: str, schema: pl.Schema, version: int | None, count: int) -> None:
        self._lake: Final = lake
        self._table: Final = table
        self._schema: Final = schema
        self._version: Final = version
        self._count: Final = count
        self._days: Final = sorted(lake.days(table), reverse=True) if count > 0 else []

    def before(self, day: date, features: pl.DataFrame) -> pl.DataFrame | None:
        """Return the last rows before a day for the symbols of a frame; None for windows of one bar."""
        if self._count <= 0:
            return None
        symbols = features["symbol"].unique().to_list()
        found = self._schema.to_frame()
        for earlier in (known for known in self._days if known < day):
            rows = self._lake.read(
                self._table, days=[earlier], symbols=symbols, schema=self._schema, version=self._version
            )
            first = rows.filter(pl.col("revision") == 0)
            found = pl.concat([first.select(found.columns), found]).sort("symbol", "bar_start")
            found = found.group_by("symbol", maintain_order=True).tail(self._count)
            counts = found.group_by("symbol").len()
            if len(counts) == len(symbols) and counts["len"].min() == self._count:
                break
        return found
