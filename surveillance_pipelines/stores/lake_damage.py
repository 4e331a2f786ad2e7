"""Damage of a Delta table in a folder: what its log names and what is missing, cut off or unreadable."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from surveillance_pipelines.stores.lake_scan import PARTITION

LOG: Final = "_delta_log"
_COMMIT: Final = re.compile(r"(\d{20})\.json")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint(?:\.\d+\.\d+)?\.parquet")
_LAST_CHECKPOINT: Final = "_last_checkpoint"


@dataclass(frozen=True, slots=True)
class LostFile:
    """A data file that the newest version of a table names, and that is missing or damaged.

    Attributes:
        path: path relative to the table's folder.
        day: day of its rows.
        rows: number of its rows, according to the log.
        problem: what was expected and what was found.
    """

    path: Path
    day: date
    rows: int
    problem: str


@dataclass(frozen=True, slots=True)
class LogDamage:
    """A damaged part of a table's log.

    Attributes:
        file: path relative to the table's folder.
        problem: what was expected and what was found.
        spare: whether the table can be read without the file and ``_last_checkpoint``, because it is a checkpoint and
            all commits exist.
    """

    file: Path
    problem: str
    spare: bool = False


@dataclass(frozen=True, slots=True)
class TableDamage:
    """Damage of a table: its first problem as text, and the damaged part of the log or files if they are known."""

    table: str
    problem: str
    log: LogDamage | None = None
    files: tuple[LostFile, ...] = ()

    @property
    def days(self) -> list[date]:
        """Days of the lost files, ascending."""
        return sorted({file.day for file in self.files})


def find_log_damage(folder: Path) -> LogDamage | None:
    """Return what is missing or damaged in the log of a table; None if nothing is, or if there is no log.

    delta-rs reads only what follows the newest checkpoint, and takes an empty commit for one without changes. Earlier
    commits are needed to read earlier versions, which replays and trainings do.
    """
    log = folder / LOG
    names = [path.name for path in log.iterdir()] if log.is_dir() else []
    commits = sorted(int(found[1]) for name in names if (found := _COMMIT.fullmatch(name)))
    checkpoints = sorted(name for name in names if _CHECKPOINT.fullmatch(name))
    if not commits:
        return None
    damage = _gap(folder, commits, checkpoints) or next(filter(None, (_bad_commit(folder, n) for n in commits)), None)
    return damage or _bad_checkpoint(folder, checkpoints, is_spare=commits[0] == 0)


def find_lost_files(table: DeltaTable, folder: Path) -> Iterator[LostFile]:
    """Yield the data files of an open table that are missing, have another size than in the log, or have no footer."""
    actions = pl.DataFrame(table.get_add_actions(flatten=True)).sort(f"partition.{PARTITION}", "path")
    for path, size, rows, day in actions.select(
        "path", "size_bytes", "num_records", f"partition.{PARTITION}"
    ).iter_rows():
        relative = Path(unquote(path))
        if problem := _file_problem(folder / relative, relative, size):
            yield LostFile(relative, day, rows, problem)


def _gap(folder: Path, commits: list[int], checkpoints: list[str]) -> LogDamage | None:
    first = commits[0]
    expected: list[int] = list(range(first, commits[-1]))
    if first > 0 and not any(int(name[:20]) in (first - 1, first) for name in checkpoints):
        expected.insert(0, first - 1)  # Delta deletes old commits only up to a checkpoint
    for version in expected:
        file = Path(LOG) / f"{version:020}.json"
        if not (folder / file).exists():  # a commit may have been added since the folder was listed
            return LogDamage(file, f"expected a commit in {file}, because {LOG} has later ones; found no file")
    return None


def _bad_commit(folder: Path, version: int) -> LogDamage | None:
    file = Path(LOG) / f"{version:020}.json"
    content = (folder / file).read_bytes()
    if not content:
        return LogDamage(file, f"expected a commit in {file}, found an empty file")
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            if line:
                json.loads(line)
        except ValueError:
            return LogDamage(file, f"expected JSON in line {number} of {file}, found text that is cut off or changed")
    return None


def _bad_checkpoint(folder: Path, checkpoints: list[str], *, is_spare: bool) -> LogDamage | None:
    for name in checkpoints:
        file = Path(LOG) / name
        if not _has_footer(folder / file):
            return LogDamage(file, f"expected a Parquet file in {file}, found no readable footer", is_spare)
    last = folder / LOG / _LAST_CHECKPOINT
    if not last.is_file():
        return None
    file = Path(LOG) / _LAST_CHECKPOINT
    try:
        version = int(json.loads(last.read_bytes())["version"])
    except (ValueError, KeyError, TypeError):
        return LogDamage(file, f"expected the version of the newest checkpoint in {file}, found none", is_spare)
    if any((folder / LOG).glob(f"{version:020}.checkpoint*.parquet")):
        return None
    file = Path(LOG) / f"{version:020}.checkpoint.parquet"
    return LogDamage(file, f"expected the checkpoint {file}, which {_LAST_CHECKPOINT} names; found no file", is_spare)


def _file_problem(file: Path, relative: Path, size: int) -> str | None:
    there = file.stat().st_size if file.is_file() else None
    if there != size:
        found = "no file" if there is None else there
        return f"expected {size} bytes in {relative}, found {found}"
    return None if _has_footer(file) else f"expected a Parquet file in {relative}, found no readable footer"


def _has_footer(file: Path) -> bool:
    try:
        pl.read_parquet_schema(file)
    except (OSError, pl.exceptions.PolarsError):
        return False
    return True
