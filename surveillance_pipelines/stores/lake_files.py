"""The files of a lake in a folder: those of one version of a table and of all versions before it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from surveillance_pipelines.contracts.locations import local_folder
from surveillance_pipelines.stores.lake import Lake

_LOG: Final = "_delta_log"
_NUMBERED: Final = re.compile(r"(\d{20})\.(json|checkpoint(\.\d+\.\d+)?\.parquet)")
"""Commits and checkpoints. ``_last_checkpoint`` is left out: it may name a later one, and Delta works without it."""


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files of one table.

    Attributes:
        table: name of the table.
        version: newest version of the table; None if its log cannot be read.
        paths: files relative to the table's folder.
        problem: what is damaged; empty if nothing is.
    """

    table: str
    version: int | None
    paths: list[Path] = field(default_factory=list)
    problem: str = ""


def _folder(lake: Lake) -> Path:
    if (folder := local_folder(lake.url)) is None:
        raise ValueError(f"expected a lake in a folder, got {lake.url}")
    return folder


def table_names(lake: Lake) -> list[str]:
    """Return the names of the tables in a lake's folder."""
    folders = _folder(lake).glob("*")
    return sorted(one.name for one in folders if (one / _LOG).is_dir() or any(one.glob("*/*.parquet")))


def table_files(lake: Lake, table: str) -> TableFiles:
    """Return the files of a table up to its present version.

    Writers may go on: a file never changes, and a later version has a commit with a higher number. Files that a commit
    names and that do not exist are reported. If the log cannot be read, all files of the folder are returned.
    """
    folder = _folder(lake) / table
    try:
        version = lake.version(table)
        if version is None:  # its first write is in progress
            return TableFiles(table, None)
        log = sorted(path for path in (folder / _LOG).iterdir() if _number(path) <= version)
        data = {Path(path) for commit in log if commit.suffix == ".json" for path in _added(commit)}
        actions = pl.DataFrame(DeltaTable(str(folder), version=version).get_add_actions(flatten=True))
        data |= {Path(unquote(path)) for path in actions["path"]}
    except Exception as error:  # noqa: BLE001 (delta-rs raises many types; a damaged table is copied as it is)
        paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return TableFiles(table, None, paths, f"the log cannot be read: {' '.join(str(error).split())[:200]}")
    missing = sorted(path for path in data if not (folder / path).is_file())
    paths = [path.relative_to(folder) for path in log] + sorted(data - set(missing))
    problem = f"{len(missing)} of its files do not exist, such as {missing[0]}" if missing else lake.problem(table)
    return TableFiles(table, version, paths, problem or "")


def _number(path: Path) -> float:
    found = _NUMBERED.fullmatch(path.name)
    return int(found[1]) if found else float("inf")


def _added(commit: Path) -> Iterator[str]:
    for line in commit.read_text().splitlines():
        action: dict[str, Any] = json.loads(line)
        if "add" in action:
            yield unquote(action["add"]["path"])
