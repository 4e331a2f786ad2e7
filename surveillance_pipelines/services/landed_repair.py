"""Rebuilds lost files of ``bars_landed`` from their sources: the ingestion that wrote a file is computed again."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.errors import IntegrityError
from surveillance_pipelines.contracts.locations import local_folder
from surveillance_pipelines.contracts.market import LANDED_TABLE
from surveillance_pipelines.services.instruments import span
from surveillance_pipelines.services.landed_bars import PREDECESSOR, changed_bars
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.stores.lake_damage import LostFile
    from surveillance_pipelines.stores.lake_rebuild import Addition

_NEAREST: Final = 5
"""Days of a batch in which its exact knowledge time is looked for."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Files that were rebuilt, with their number of rows, and lost files of the same days that still are lost."""

    files: dict[str, int]
    left: "list[LostFile]"

    @property
    def notes(self) -> tuple[str, ...]:
        made = [
            f"rebuilt the lost file {name} of {LANDED_TABLE} with {rows:,} bars" for name, rows in self.files.items()
        ]
        return (*made, f"still lost: {len(self.left)} files of these days") if self.left else tuple(made)


def rebuild_landed(stores: Stores, bars: "pl.DataFrame", cause: Exception) -> Rebuilt:
    """Rebuild the lost files whose rows came from these bars.

    If other files of these days are still lost afterwards, all bars are in the intact ones.

    Args:
        stores: the lake.
        bars: ``BAR_SCHEMA``, the bars that a source has now.
        cause: the error that reading the table raised.

    Raises:
        IntegrityError: if no file was rebuilt, or some bars cannot be compared because of other lost files.
        Exception: ``cause``, if no file of these days is lost.
    """
    from surveillance_pipelines.stores.lake_rebuild import find_addition, rebuild_file

    lake = local_folder(stores.lake.url)
    table = stores.lake.open(LANDED_TABLE)
    lost = [] if table is None else table.lost_files(span(bars["date"]))
    if lake is None or not lost:
        raise cause
    folder = lake / LANDED_TABLE
    found = [(added, file) for file in lost if (added := find_addition(folder, file.path)) is not None]
    rebuilt: dict[str, int] = {}
    for added, file in sorted(found, key=lambda one: one[0].version):
        rows = _rows_of(stores, bars, file, added)
        if rows is not None and rebuild_file(folder, file, added, rows):
            rebuilt[str(file.path)] = file.rows
    left = [file for file in lost if str(file.path) not in rebuilt]
    if left and not (rebuilt and _are_all_stored(stores, bars)):
        raise IntegrityError(
            f"{LANDED_TABLE}: {left[0].problem}. Of {len(lost)} lost files of these days, {len(rebuilt)} could be "
            "rebuilt from these bars",
            remedy="`surveillance doctor` names the source of each lost file; ingest it with the same options as then, "
            "the earliest first. If its data has changed since, copy the file from a backup",
        ) from cause
    return Rebuilt(rebuilt, left)


def _are_all_stored(stores: Stores, bars: "pl.DataFrame") -> bool:
    table = stores.lake.open(LANDED_TABLE)
    return table is not None and changed_bars(table.read_intact(span(bars["date"])), bars, 0).is_empty()


def _rows_of(stores: Stores, bars: "pl.DataFrame", file: "LostFile", added: "Addition") -> "pl.DataFrame | None":
    """Return the rows that the ingestion of a file added on its day; None if earlier rows cannot be read."""
    import polars as pl

    from surveillance_pipelines.clock import to_us
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA, UTC_MICROSECONDS
    from surveillance_pipelines.stores.lake_history import READ_ERRORS

    mine = bars.filter((pl.col("date") == file.day) & (pl.col("source") == added.only("source")))
    before = BAR_SCHEMA.to_frame()
    if added.version > 0:
        try:
            before = stores.lake.read(LANDED_TABLE, days=[file.day], schema=BAR_SCHEMA, version=added.version - 1)
        except READ_ERRORS:
            return None
    known = _known_at(stores, file, added)
    if known is not None and mine["knowledge_time"].n_unique() == 1:  # the instant of the ingestion, not of each bar
        mine = mine.with_columns(knowledge_time=pl.lit(known).cast(UTC_MICROSECONDS))
    changed = changed_bars(before, mine, to_us(added.at) if known is None else known)
    return changed.drop(PREDECESSOR).with_columns(batch_id=pl.lit(added.batch_id))


def _known_at(stores: Stores, file: "LostFile", added: "Addition") -> int | None:
    """Return the knowledge time that all rows of a file have, in microseconds; None if they differ.

    The log has whole milliseconds. Other rows of the same batch have the rest.
    """
    from surveillance_pipelines.clock import to_us

    text = added.only("knowledge_time")
    if text is None:
        return None
    known = to_us(datetime.fromisoformat(text))
    for copies in _copies(stores, file, added):
        mine = copies.filter(copies["batch_id"] == added.batch_id)["knowledge_time"].dt.epoch("us").unique()
        if (exact := next((at for at in mine if at // 1000 == known // 1000), None)) is not None:
            return exact
    return known


def _copies(stores: Stores, file: "LostFile", added: "Addition") -> "Iterator[pl.DataFrame]":
    """Yield rows that may have the batch id of a file: its day in the table of its timeframe, and the batch's days."""
    from surveillance_pipelines.contracts.errors import NotFoundError
    from surveillance_pipelines.stores.lake_history import READ_ERRORS

    others = sorted((day for day in added.days if day != file.day), key=lambda day: abs(day - file.day))
    places = [(f"bars_{added.only('timeframe')}", file.day), *((LANDED_TABLE, day) for day in others[:_NEAREST])]
    for table, day in places:
        try:
            yield stores.lake.read(table, days=[day], columns=["batch_id", "knowledge_time"])
        except (NotFoundError, *READ_ERRORS):
            continue
