"""Damage of a Delta table: each is found and named, and nothing else is."""

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from surveillance_pipelines.stores.lake import Lake

FIRST = date(2024, 1, 1)
COMMITS = 24
"""Commits 0 … 23; checkpoints are written at 9 and 19."""


def commit(version: int) -> str:
    return f"_delta_log/{version:020}.json"


def checkpoint(version: int) -> str:
    return f"_delta_log/{version:020}.checkpoint.parquet"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    for number in range(COMMITS):
        day = FIRST + timedelta(days=number)
        lake.write_days("bars", pl.DataFrame({"date": [day], "symbol": ["A"], "close": [1.0]}), days=[day])
    return Path(lake.url)


@pytest.fixture
def table(written: Path, lake: Lake) -> Path:
    shutil.copytree(written, lake.url)
    return Path(lake.url) / "bars"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])


def test_table_without_damage_has_none(table: Path, lake: Lake) -> None:
    assert lake.damage("bars") is None


@pytest.mark.parametrize("version", [0, 3, 9, 15, 22])
@pytest.mark.parametrize(("change", "says"), [
    (Path.unlink, "because _delta_log has later ones; found no file"),
    (lambda file: file.write_bytes(b""), "found an empty file"),
    (cut, "found text that is cut off or changed"),
], ids=["missing", "emptied", "cut off"])  # fmt: skip
def test_damaged_commit_is_named(
    table: Path, lake: Lake, version: int, change: Callable[[Path], None], says: str
) -> None:
    change(table / commit(version))
    found = lake.damage("bars")
    assert found is not None
    assert found.log is not None
    assert (found.log.file, found.log.spare) == (Path(commit(version)), False)
    assert commit(version) in found.problem
    assert says in found.problem


@pytest.mark.parametrize("version", [9, 19])
def test_cut_off_checkpoint_is_named_and_the_table_works_without_it(table: Path, lake: Lake, version: int) -> None:
    cut(table / checkpoint(version))
    found = lake.damage("bars")
    assert found is not None
    assert found.log is not None
    assert (found.log.file, found.log.spare) == (Path(checkpoint(version)), True)
    for name in (checkpoint(version), "_delta_log/_last_checkpoint"):
        (table / name).unlink(missing_ok=True)
    assert lake.damage("bars") is None
    assert lake.read("bars").height == COMMITS


def test_missing_newest_checkpoint_is_named(table: Path, lake: Lake) -> None:
    (table / checkpoint(19)).unlink()
    found = lake.problem("bars")
    assert found == f"expected the checkpoint {checkpoint(19)}, which _last_checkpoint names; found no file"


def test_log_that_delta_has_shortened_up_to_a_checkpoint_is_not_damaged(table: Path, lake: Lake) -> None:
    for version in range(19):
        (table / commit(version)).unlink()
    (table / checkpoint(9)).unlink()
    assert lake.damage("bars") is None
    assert lake.read("bars").height == COMMITS
    cut(table / checkpoint(19))
    found = lake.damage("bars")
    assert found is not None
    assert found.log is not None
    assert not found.log.spare


@pytest.mark.parametrize("keep", [0, 1])
def test_lost_data_files_are_named_with_their_days(table: Path, lake: Lake, keep: int) -> None:
    days = [FIRST, FIRST + timedelta(days=5)]
    for day in days:
        (file,) = (table / f"date={day}").glob("*.parquet")
        content = file.read_bytes()
        file.unlink()
        if keep:  # the same size, and no Parquet
            file.write_bytes(bytes(len(content)))
    found = lake.damage("bars")
    assert found is not None
    assert (found.log, found.days, [file.rows for file in found.files]) == (None, days, [1, 1])
    assert ("found no readable footer" if keep else "found no file") in found.problem
