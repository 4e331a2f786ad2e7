"""The lake: Delta tables partitioned by UTC ``date``, in a local folder or on S3, with one writer per table."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Final, Literal, TypeVar

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.contracts.errors import (
    ConflictError,
    ErrorCode,
    NotFoundError,
    SurveillanceError,
    UnavailableError,
)
from surveillance_pipelines.contracts.frames import LATER_COLUMNS
from surveillance_pipelines.contracts.locations import local_folder
from surveillance_pipelines.stores.lake_damage import TableDamage, find_log_damage, find_lost_files
from surveillance_pipelines.stores.lake_scan import PARTITION, DayRange, scan_table
from surveillance_pipelines.stores.open_table import OpenTable, read_rows
from surveillance_pipelines.stores.parquet_properties import writer_properties

COMMIT_ATTEMPTS: Final = 50
"""Attempts of a commit. Writers of other days may commit concurrently; in each round, at least one succeeds."""
KEPT_VERSIONS: Final = "interval 3650 days"
"""Retention of older versions, because a training records the version that it read. With Delta's default, 30 days, the
first later checkpoint would remove the version from the log. Replaced files are kept, because no table is vacuumed."""
CHECKPOINT_COMMITS: Final = "10"
"""Commits between two checkpoints of a table's log. Opening a table reads every commit since the last checkpoint, at
0.5 ms each, and a backfill opens and commits once per day. Delta's default is 100."""
_ORDER: Final = ("date", "symbol", "timeframe", "bar_start", "revision", "event_time")

QUICK_OPTIONS: Final = {"connect_timeout": "2s", "timeout": "10s", "retry_timeout": "5s"}
"""Options of delta-rs for readers whose other work waits. Its defaults allow 30 s per request and three minutes of
retries."""
FIRST_WRITE: Final = "_first_write"
"""File in a table's folder while its first write is in progress; Delta ignores its name."""

_DECORATION: Final = re.compile(r"\x1b\[[0-9;]*m|↳")
"""Colour codes and arrows in the nested errors of delta-rs."""

_FILES: Final = re.compile(r"[\w=.%-]+\.(?:json|parquet)")
"""Names of a table's files in an error's text."""

_T = TypeVar("_T")


class SchemaMismatchError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """The columns of a frame differ from those of the table."""


class LostLogError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """A table's folder has data files and no log, so Delta would take it for no table."""

    def __init__(self, table: str, folder: Path) -> None:
        super().__init__(
            f"expected the log of the lake's table {table} in {folder / '_delta_log'}, found only data files",
            remedy="restore that folder from a backup, or move the table's folder away and materialize it again",
        )


def plain_text(error: BaseException) -> str:
    """Return an error's text on one line, without the decoration of delta-rs."""
    return " ".join(_DECORATION.sub(" ", str(error)).split())


def translate_error(error: Exception) -> SurveillanceError | None:
    """Translate delta-rs's error of an unreachable object store to an error of the platform; None for others.

    delta-rs raises a plain ``OSError``, which only the beginning of its message distinguishes from others.
    """
    if not (isinstance(error, OSError) and str(error).startswith("Generic S3 error")):
        return None
    return UnavailableError(
        f"expected the lake to answer: {plain_text(error)}",
        remedy="check LAKE_URL, LAKE_ENDPOINT_URL and the AWS credentials, or run `surveillance doctor`",
    )


@dataclass(frozen=True)
class Lake:
    """Named Delta tables below one URL.

    Attributes:
        url: a folder or ``s3://bucket/prefix``.
        storage_options: options of delta-rs for S3 (endpoint, region, credentials); empty for a folder.
    """

    url: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)  # may contain a secret

    def quick(self) -> "Lake":
        """Return the same lake, whose calls fail within seconds if its object store does not answer."""
        return (
            replace(self, storage_options={**self.storage_options, **QUICK_OPTIONS})
            if local_folder(self.url) is None
            else self
        )

    def exists(self, table: str) -> bool:
        """Return whether a table exists.

        Raises:
            LostLogError: if the table's folder, in a local lake, has data files and no log.
        """
        return self._find(table) is not None

    def version(self, table: str) -> int | None:
        """Return the version of a table, which identifies its content (see ``KEPT_VERSIONS``); None if it is absent."""
        found = self._find(table)
        return None if found is None else found.version()

    def problem(self, table: str) -> str | None:
        """Return the first damage of a table as text; None if nothing is found. See ``damage``."""
        found = self.damage(table)
        return None if found is None else found.problem

    def damage(self, table: str) -> TableDamage | None:
        """Return what is damaged in a table: its log, or files that the log names; None if nothing is found.

        In a folder, the whole log is read, and existence, size and footer of each file are compared with it. On S3,
        only the part of the log is read that the newest version needs.
        """
        folder = self._folder(table)
        if folder is not None and (log := find_log_damage(folder)) is not None:
            return TableDamage(table, log.problem, log=log)
        try:
            found = self._find(table)
            files = () if found is None or folder is None else tuple(find_lost_files(found, folder))
        except Exception as error:  # noqa: BLE001 (delta-rs raises many types, all of which are damage here)
            named = sorted(set(_FILES.findall(str(error))))
            text = plain_text(error)[:200] + (f" (it names {', '.join(named[:3])})" if named else "")
            return TableDamage(table, text)
        return TableDamage(table, files[0].problem, files=files) if files else None

    def days(self, table: str) -> list[date]:
        """Return the days with rows, ascending; empty if the table does not exist."""
        found = self._find(table)
        partitions = [] if found is None else found.partitions()
        return sorted({date.fromisoformat(partition[PARTITION]) for partition in partitions})

    def scan(self, table: str, *, version: int | None = None) -> pl.LazyFrame:
        """Return the table as a lazy frame, at its newest version or an older one."""
        return scan_table(self._open(table, version), self._folder(table))

    def read(
        self,
        table: str,
        *,
        days: Collection[date] | DayRange | None = None,
        symbols: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        schema: pl.Schema | None = None,
        version: int | None = None,
    ) -> pl.DataFrame:
        """Return the rows of a table.

        Args:
            table: name of the table.
            days: a tuple of two dates is a range, both included; any other collection lists the days.
            symbols: symbols of the rows; None means all.
            columns: columns of the result, in this order; None means all.
            schema: schema of the table, and of the empty result if it does not exist. A column of ``LATER_COLUMNS``
                that the table lacks is null.
            version: version of the table; None means the newest.

        Raises:
            NotFoundError: if the table does not exist and no schema is given.
        """
        opened = self._find(table, version)
        if opened is None:
            if schema is None:
                raise NotFoundError(f"expected table {table!r} in the lake {self.url}, found none: materialize it")
            empty = schema.to_frame()
            return empty if columns is None else empty.select(columns)
        folder = self._folder(table)
        return read_rows(opened, folder, days=days, symbols=symbols, columns=columns, schema=schema)

    def open(self, table: str) -> OpenTable | None:
        """Return a table that stays open for repeated reads; None if it does not exist."""
        found = self._find(table)
        return None if found is None else OpenTable(found, self._folder(table))

    def write_days(self, table: str, frame: pl.DataFrame, *, days: Collection[date]) -> int:
        """Replace exactly the given days of a table with ``frame`` in one commit, and return the new version.

        Args:
            table: name of the table, created on the first write.
            frame: rows with a ``date`` column; a day without rows becomes empty.
            days: the days to replace.

        Raises:
            ValueError: if ``frame`` has rows of a day that is not in ``days``.
            SchemaMismatchError: if the columns of ``frame`` differ from those of the table.
        """
        if stray := sorted(set(frame[PARTITION].unique()) - set(days)):
            raise ValueError(f"expected only rows of the days to replace in {table!r}, got rows of {stray}")

        def replace(current: DeltaTable | None) -> int:
            if current is None:
                self._create(table, frame)
                return 0
            before = current.version()
            if not days:
                return before
            rows = _aligned(table, current, frame)
            listed = ", ".join(f"'{day.isoformat()}'" for day in sorted(days))
            _commit(current, rows, mode="overwrite", predicate=f"{PARTITION} IN ({listed})")
            return before + 1

        return self._retry_on_conflict(table, replace)

    def append(self, table: str, frame: pl.DataFrame, *, batch_id: str) -> bool:
        """Append rows to a table once per ``batch_id``; return whether this call added them.

        The id is committed together with the rows (a Delta application transaction), so a batch is added once, also by
        repeated calls, concurrent writers and after crashes.

        Raises:
            SchemaMismatchError: if the columns differ from those of the table.
        """
        return self.append_compared(table, lambda _: (frame, batch_id)) is not None

    def append_compared(
        self, table: str, compare: Callable[[OpenTable | None], tuple[pl.DataFrame, str] | None]
    ) -> pl.DataFrame | None:
        """Append rows that depend on the rows of the table, and return them; None if there were none to append.

        The commit succeeds only on top of the version that was compared with. If another writer committed first, the
        rows are compared again with its version, so that no two writers add the same rows.

        Args:
            table: name of the table, created on the first write.
            compare: takes the open table, or None if it does not exist; returns rows and the id of their batch (see
                ``append``), or None for no rows. Called once per attempt.

        Raises:
            SchemaMismatchError: if the columns differ from those of the table.
        """

        def add(current: DeltaTable | None) -> pl.DataFrame | None:
            found = compare(None if current is None else OpenTable(current, self._folder(table)))
            if found is None:
                return None
            frame, batch_id = found
            transaction = Transaction(batch_id, 1)
            if current is None:
                self._create(table, frame, transaction)
                return frame
            if current.transaction_version(batch_id) is not None:
                return None
            _commit(current, _aligned(table, current, frame), mode="append", transaction=transaction)
            return frame

        return self._retry_on_conflict(table, add)

    def _retry_on_conflict(self, table: str, change: Callable[[DeltaTable | None], _T]) -> _T:
        """Apply a change to the newest version, and retry it if another writer committed first.

        The rebase of delta-rs does not detect that another writer added the same batch, or filled a previously empty
        day. Therefore each attempt commits only on top of the version that it has read.
        """
        from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_incrementing

        commit = Retrying(
            retry=retry_if_exception_type((CommitFailedError, _AlreadyCreatedError)),
            stop=stop_after_attempt(COMMIT_ATTEMPTS),
            wait=wait_incrementing(start=0, increment=0.005),
            sleep=SYSTEM_CLOCK.sleep,
        )
        try:
            return commit(lambda: change(self._find(table)))
        except RetryError as error:
            raise ConflictError(
                f"expected to write the table {table!r} within {COMMIT_ATTEMPTS} attempts, but other writers committed "
                "first each time",
                remedy="write the table from fewer processes at the same time",
            ) from error

    def _create(self, table: str, frame: pl.DataFrame, transaction: Transaction | None = None) -> None:
        folder = self._folder(table)
        mark = None if folder is None else folder / FIRST_WRITE
        if mark is not None:  # if this write crashes, its files are not taken for a table that lost its log
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        try:
            write_deltalake(
                self._uri(table),
                in_order(frame),
                mode="error",
                partition_by=PARTITION,
                storage_options=self._options(),
                configuration={
                    "delta.logRetentionDuration": KEPT_VERSIONS,
                    "delta.checkpointInterval": CHECKPOINT_COMMITS,
                },
                writer_properties=writer_properties(frame),
                commit_properties=_properties(transaction),
            )
        except DeltaError as error:
            if self.exists(table):
                raise _AlreadyCreatedError(table) from error
            raise
        if mark is not None:
            mark.unlink(missing_ok=True)

    def _find(self, table: str, version: int | None = None) -> DeltaTable | None:
        """Open a table; return None if there is none.

        ``DeltaTable.is_deltatable`` is not used: it holds Python's lock until the store answers.

        Raises:
            LostLogError: if the table's folder, in a local lake, has data files and no log.
        """
        try:
            return self._open(table, version)
        except TableNotFoundError:
            folder = self._folder(table)
            if folder is None or (folder / FIRST_WRITE).exists() or not any(folder.glob("*/*.parquet")):
                return None
            raise LostLogError(table, folder) from None

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        return DeltaTable(self._uri(table), version=version, storage_options=self._options())

    def _uri(self, table: str) -> str:
        return f"{self.url.rstrip('/')}/{table}"

    def _folder(self, table: str) -> Path | None:
        """Return the folder of a table; None if the lake is on an object store."""
        lake = local_folder(self.url)
        return None if lake is None else lake / table

    def _options(self) -> dict[str, str] | None:
        return dict(self.storage_options) or None


class _AlreadyCreatedError(SurveillanceError, code=ErrorCode.CONFLICT):
    """Another writer created the table first."""


def _commit(
    current: DeltaTable,
    frame: pl.DataFrame,
    *,
    mode: Literal["append", "overwrite"],
    predicate: str | None = None,
    transaction: Transaction | None = None,
) -> None:
    write_deltalake(
        current,
        in_order(frame),
        mode=mode,  # pyright: ignore[reportArgumentType] (the overloads know one mode each)
        predicate=predicate,
        schema_mode="merge",
        writer_properties=writer_properties(frame),
        commit_properties=_properties(transaction),
    )


def _properties(transaction: Transaction | None) -> CommitProperties:
    return CommitProperties(max_commit_retries=0, app_transactions=None if transaction is None else [transaction])


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Sort rows by the available keys, so that related rows are adjacent and equal frames produce equal files."""
    keys = [name for name in _ORDER if name in frame.columns]
    return frame.sort(keys, maintain_order=True)


def _aligned(table: str, current: DeltaTable, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with the table's columns in its order, then those to add; raise if the columns differ."""
    expected = dict(pl.Schema(current.schema()))
    got = dict(frame.schema)
    if expected == got:
        return frame.select(expected.keys())
    if {name: got[name] for name in got if name not in LATER_COLUMNS - expected.keys()} == expected:
        return frame.select(*expected, *sorted(got.keys() - expected.keys()))
    differences = [
        f"{name}: expected {expected.get(name, 'no such column')}, got {got.get(name, 'no such column')}"
        for name in sorted(expected.keys() | got.keys())
        if expected.get(name) != got.get(name)
    ]
    raise SchemaMismatchError(
        f"table {table!r}: {'; '.join(differences)}. A changed table needs a new name or a migration."
    )
