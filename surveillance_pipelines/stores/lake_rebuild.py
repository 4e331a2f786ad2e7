"""Rebuilding of a lost data file of a Delta table in a folder: the same rows give the same file.

The log already names the file, so nothing is committed, and earlier versions of the table can be read again too.
"""

import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import polars as pl
from deltalake import ColumnProperties, DeltaTable, WriterProperties, write_deltalake

from surveillance_pipelines.stores.lake import in_order
from surveillance_pipelines.stores.lake_damage import LOG, LostFile
from surveillance_pipelines.stores.lake_scan import PARTITION

_PROPERTIES: Final = (
    WriterProperties(),
    WriterProperties(default_column_properties=ColumnProperties(dictionary_enabled=False)),
)
"""See ``parquet_properties.py``: which of them a write had depends on its other days."""


@dataclass(frozen=True, slots=True)
class Addition:
    """The commit that added a data file.

    Attributes:
        version: version of the commit.
        at: instant of the commit, in whole milliseconds.
        batch_id: id of the commit's application transaction; None if it has none.
        days: days of the rows that the commit added, ascending.
        stats: statistics of the file: ``numRecords``, ``minValues``, ``maxValues``, ``nullCount``.
        size: size of the file in bytes.
    """

    version: int
    at: datetime
    batch_id: str | None
    days: list[date]
    stats: dict[str, Any]
    size: int

    def only(self, column: str) -> str | None:
        """Return the value that all rows of the file have in a column, as in the log; None if they differ."""
        low, high = (self.stats.get(bound, {}).get(column) for bound in ("minValues", "maxValues"))
        return low if low == high else None


def find_addition(folder: Path, path: Path) -> Addition | None:
    """Return the commit that added a data file; None if no commit of the log did.

    Args:
        folder: folder of the table, whose log is intact.
        path: path of the file relative to it.
    """
    for file in sorted((folder / LOG).glob("*.json")):
        actions = [json.loads(line) for line in file.read_text().splitlines() if line]
        added = [one["add"] for one in actions if "add" in one]
        found = next((one for one in added if Path(unquote(one["path"])) == path), None)
        if found is not None:
            at = next((one["commitInfo"]["timestamp"] for one in actions if "commitInfo" in one), 0)
            return Addition(
                version=int(file.stem),
                at=datetime.fromtimestamp(at / 1000, tz=UTC),
                batch_id=next((one["txn"]["appId"] for one in actions if "txn" in one), None),
                days=sorted({date.fromisoformat(one["partitionValues"][PARTITION]) for one in added}),
                stats=json.loads(found["stats"]),
                size=found["size"],
            )
    return None


def rebuild_file(folder: Path, file: LostFile, added: Addition, rows: pl.DataFrame) -> bool:
    """Write a lost file again if these are its rows; return whether they are.

    The rows are written as the lost ones were. If size, number of rows, and least and greatest value of each column
    are as in the log, the new file takes the place of the lost one.

    Args:
        folder: folder of the table.
        file: the lost file.
        added: the commit that added it.
        rows: at least the columns of the table.
    """
    if rows.height != file.rows:
        return False
    columns = [field.name for field in DeltaTable(str(folder), version=added.version).schema().fields]
    for properties in _PROPERTIES:
        with tempfile.TemporaryDirectory(prefix=".rebuild-", dir=folder) as scratch:
            write_deltalake(
                scratch, in_order(rows.select(columns)), partition_by=PARTITION, writer_properties=properties
            )  # pyright: ignore[reportCallIssue] (the overloads want a mode)
            (written,) = (path.relative_to(scratch) for path in Path(scratch).glob("*/*.parquet"))
            again = find_addition(Path(scratch), written)
            if again is not None and (again.size, again.stats) == (added.size, added.stats):
                target = folder / file.path
                target.parent.mkdir(exist_ok=True)
                (Path(scratch) / written).replace(target)
                return True
    return False
