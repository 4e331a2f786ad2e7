"""The result of reading a file, and how the file was read."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from surveillance_pipelines.contracts.market import Timeframe
from surveillance_pipelines.market.files.columns import StandardRows
from surveillance_pipelines.market.files.table import Table
from surveillance_pipelines.market.row_checks import CheckedRows, RowRefusal


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file was read.

    Attributes:
        layout: name of the layout.
        sources: our name → the file's column, as written.
        times: form of the times.
        timeframe: length of the bars; None for trades.
    """

    layout: str
    sources: Mapping[str, str]
    times: str
    timeframe: Timeframe | None = None


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result of reading a file: rows in = frame + refusals + duplicates.

    Attributes:
        frame: ``BAR_SCHEMA`` or ``TICK_SCHEMA``, source ``file``.
        refusals: rows that did not land, each with its reason, in the order of the file.
        duplicates: number of rows that repeat another one exactly.
        rows_in: number of rows of the file.
        batch_id: ``file-`` and the start of the content's sha256, so that a file lands once.
        reading: how the file was read.
        notes: assumptions made while reading.
        not_yet_known: number of valid rows that became known after the requested instant.
    """

    frame: pl.DataFrame
    refusals: tuple[RowRefusal, ...]
    duplicates: int
    rows_in: int
    batch_id: str
    reading: Reading
    notes: tuple[str, ...] = ()
    not_yet_known: int = 0

    @property
    def first_reason(self) -> str:
        """Position and reason of the first refused row; empty if none was refused."""
        return next((f"{refusal.where}: {refusal.reason}" for refusal in self.refusals), "")


def reading_of(table: Table, rows: StandardRows, timeframe: Timeframe | None = None) -> Reading:
    return Reading(table.layout.name, rows.sources, rows.times.form, timeframe)


def all_refusals(table: Table, checked: CheckedRows) -> tuple[RowRefusal, ...]:
    """Return the rows that do not fit the header and those that failed a check, in the order of the file."""
    return tuple(sorted((*table.misfits, *checked.refusals), key=lambda refusal: refusal.row))
