"""Damaged tables of the lake, each with the command that repairs it: from what a table can be computed again.

| table | computed from |
|---|---|
| ``ticks`` | inbox and ledger in PostgreSQL, while retention has not dropped their week |
| ``bars_landed`` | the source: a file, Yahoo, the simulator |
| ``bars_1m`` | ``bars_landed``, ``ticks``, ``ops.live_bars`` |
| ``bars_5m`` … ``bars_1d`` | ``bars_1m``, ``bars_landed`` |
| ``features_…`` | ``bars_1m`` |
| ``scores`` | the features and the bundle |
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.contracts.locations import local_folder
from surveillance_pipelines.contracts.market import FIRST_DAY, LANDED_TABLE, TIMEFRAME_MINUTES
from surveillance_pipelines.services.backup_copies import copy_from_backup
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.stores.lake_damage import LostFile, TableDamage

_ORDER: Final = (LANDED_TABLE, "ticks", "bars_1m")
"""Tables whose repair comes first, because others are computed from them."""
_LARGEST_GAP: Final = timedelta(days=7)
"""Days between lost days that one backfill also computes, instead of a second one."""
_SHOWN: Final = 5
"""Maximum number of commands in a remedy."""


@dataclass(frozen=True, slots=True)
class LakeProblem:
    """A damaged table: what is damaged, and what to do."""

    table: str
    problem: str
    remedy: str


def lake_problems(stores: Stores, connection: Any, tables: Sequence[str]) -> list[LakeProblem]:
    """Return the damaged tables, in the order in which their repairs work.

    Args:
        stores: settings and lake.
        connection: connection to PostgreSQL.
        tables: tables to read if the lake is on an object store. In a folder, all tables are.
    """
    from surveillance_pipelines.stores.lake_files import table_names

    folder = local_folder(stores.lake.url)
    names = tables if folder is None else table_names(stores.lake)
    found = [damage for name in names if (damage := stores.lake.damage(name)) is not None]
    found.sort(key=lambda damage: (_ORDER.index(damage.table) if damage.table in _ORDER else len(_ORDER), damage.table))
    return [LakeProblem(damage.table, _problem(damage), _remedy(stores, connection, damage)) for damage in found]


def _problem(damage: "TableDamage") -> str:
    if len(damage.files) < 2:
        return damage.problem
    days = damage.days
    return f"{damage.problem}; {len(damage.files)} files are lost, of {len(days)} days from {days[0]} to {days[-1]}"


def _remedy(stores: Stores, connection: Any, damage: "TableDamage") -> str:
    folder = local_folder(stores.lake.url)
    if folder is None:
        return "restore an earlier version of the table's objects, which the bucket keeps if versioning is turned on"
    if damage.log is not None and damage.log.spare:
        files = {damage.log.file, Path(damage.log.file).with_name("_last_checkpoint")}
        paths = " ".join(shlex.quote(str(folder / damage.table / file)) for file in sorted(files))
        return f"`rm -f {paths}`: all commits exist, so the table can be read without this checkpoint"
    if damage.log is not None:
        return copy_from_backup(stores, folder / damage.table / damage.log.file)
    if not damage.files:
        return copy_from_backup(stores, folder / damage.table)
    commands, lost = _commands(stores, connection, damage)
    parts = [f"`{command}`" for command in commands[:_SHOWN]]
    if len(commands) > _SHOWN:
        parts.append(f"`surveillance doctor`, which names the {len(commands) - _SHOWN} commands that follow")
    text = ", then ".join(parts)
    if damage.table == LANDED_TABLE and parts:
        text += " (with the same options as then)"
    if parts and _is_replayed(damage.table):
        rebuilt = [file for file in damage.files if file not in lost]
        copied = copy_from_backup(stores, *(folder / damage.table / file.path for file in rebuilt))
        text = f"{copied}, which keeps replays of the outputs computed from it; or else {text}"
    if not lost:
        return text
    kept = copy_from_backup(stores, *(folder / damage.table / file.path for file in lost))
    return f"{text}; {kept}" if text else kept


def _is_replayed(table: str) -> bool:
    """Return whether replays read earlier versions of a table, whose files a backfill does not write again."""
    return table == "bars_1m" or table.startswith("features_")


def _commands(stores: Stores, connection: Any, damage: "TableDamage") -> tuple[list[str], "list[LostFile]"]:
    """Return the commands that rebuild the lost files of a table, and the files that none can rebuild."""
    if damage.table == LANDED_TABLE:
        return _ingestions(stores, connection, damage)
    if damage.table == "scores":
        return _scorings(stores, connection, damage)
    if damage.table == "ticks":
        from surveillance_pipelines.stores.live_rows import count_ticks

        gone = [file for file in damage.files if count_ticks(connection, file.day) < file.rows]
    else:
        computed = {f"bars_{timeframe}" for timeframe in TIMEFRAME_MINUTES}
        is_computed = damage.table in computed or damage.table.startswith("features_")
        gone = [file for file in damage.files if not is_computed or file.day < FIRST_DAY]
    days = {file.day for file in damage.files} - {file.day for file in gone}
    return [f"surveillance backfill {first} {last}" for first, last in _ranges(days)], gone


def _ranges(days: set[date]) -> list[tuple[date, date]]:
    """Return the days as ranges, ascending; days that are close together are in one range.

    A day is computed from earlier days and the next one, so that ascending ranges work.
    """
    ranges: list[tuple[date, date]] = []
    for day in sorted(days):
        if ranges and day - ranges[-1][1] <= _LARGEST_GAP:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def _scorings(stores: Stores, connection: Any, damage: "TableDamage") -> tuple[list[str], "list[LostFile]"]:
    """Return the scorings of the lost days, each with the bundle that scored them."""
    from surveillance_pipelines.models.warmup import WARMUP_BUNDLE
    from surveillance_pipelines.stores.lake_rebuild import find_addition
    from surveillance_pipelines.stores.predictors import champion_hash

    champion = champion_hash(connection, stores.settings) or WARMUP_BUNDLE
    days: dict[str, set[date]] = {}
    for file in damage.files:
        added = find_addition(_folder(stores, damage.table), file.path)
        used = None if added is None else added.only("bundle_hash")
        days.setdefault(used or champion, set()).add(file.day)
    return [
        f"surveillance backfill {first} {last} --job scoring_job" + ("" if used == champion else f" --bundle {used}")
        for used, of_bundle in sorted(days.items())
        for first, last in _ranges(of_bundle)
    ], []


def _ingestions(stores: Stores, connection: Any, damage: "TableDamage") -> tuple[list[str], "list[LostFile]"]:
    """Return the ingestions that wrote the lost files, the earliest first."""
    from surveillance_pipelines.stores.ingestion_runs import ingestion_run_at
    from surveillance_pipelines.stores.lake_rebuild import find_addition

    folder = _folder(stores, LANDED_TABLE)
    found: dict[str, int] = {}
    lost: list[LostFile] = []
    for file in damage.files:
        added = find_addition(folder, file.path)
        source = None if added is None else added.only("source")
        run = None if added is None or source is None else ingestion_run_at(connection, source, added.at)
        if added is None or source is None or run is None:
            lost.append(file)
            continue
        command = _ingestion(source, run, file.day, added.days)
        found[command] = min(added.version, found.get(command, added.version))
    return sorted(found, key=lambda command: found[command]), lost


def _folder(stores: Stores, table: str) -> Path:
    return Path(local_folder(stores.lake.url) or "") / table


def _ingestion(source: str, run: dict[str, Any], day: date, days: Sequence[date]) -> str:
    if source == "file":
        path = Path(run["path"])
        archive = next((one for one in path.parents if one.suffix.lower() == ".zip"), path)
        return f"surveillance ingest {shlex.quote(str(archive))}"
    symbols = shlex.quote(",".join(run["symbols"]))
    if source == "simulated":
        market = f"--days {len(days)} --last {days[-1]} --seed {run['seed']}"
        return f"surveillance ingest simulate --symbols {symbols} {market}"
    return f"surveillance ingest yahoo --symbols {symbols} --start {day} --end {day} --interval {run['interval']}"
