"""A lost file of each lake table: ``doctor`` names it with commands, and these bring the rows back."""

import re
import shlex
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.errors import IntegrityError
from surveillance_pipelines.contracts.feature_tables import DEFAULT_VIEW, TRAINING_VIEW, feature_table_of
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.market.files.options import FileOptions
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.services.bars import resample_days, resolve_days, write_ticks
from surveillance_pipelines.services.doctor import check_lake
from surveillance_pipelines.services.feature_table import compute_feature_days
from surveillance_pipelines.services.ingestion import ingest_file, ingest_simulated
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.services.scoring import score_range
from surveillance_pipelines.services.trading_sessions import save_known_sessions
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines_tests.market.markets import FIRST, market_bars
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle

DAYS = [FIRST, FIRST + timedelta(days=1)]
DAY = f"surveillance backfill {FIRST} {FIRST}"
LONGER = ("5m", "15m", "1h", "4h", "1d")
FEATURES = tuple(map(feature_table_of, (DEFAULT_VIEW, TRAINING_VIEW)))
TABLES = ("bars_landed", "ticks", "bars_1m", *(f"bars_{name}" for name in LONGER), *FEATURES, "scores")
RUN = "run_id"
"""Column of ``scores`` with the run that computed a row, which a repair changes."""


def take(connection: psycopg.Connection, message_id: str, at: datetime) -> None:
    """Put an accepted tick on record."""
    body = encode_tick(Tick("AAPL", 400.5, 100.0, to_us(at)))
    connection.execute(
        "INSERT INTO ops.inbox (message_id, queue_url, body, received_at, receive_count, event_time)"
        " VALUES (%s, 'q', %s, %s, 1, %s)",
        (message_id, body, at, at),
    )
    connection.execute(
        "INSERT INTO ops.ledger (message_id, queue_url, outcome, committed_at) VALUES (%s, 'q', 'scored', %s)",
        (message_id, at),
    )


def write_files(folder: Path) -> list[Path]:
    """Write two files of bars of two days, and one that corrects five bars of the first."""
    columns = ("symbol", "bar_start", "open", "high", "low", "close", "volume")
    bars = market_bars().filter(pl.col("date").is_in(DAYS)).select(columns)
    aapl = bars.filter(pl.col("symbol") == "AAPL")
    files = {
        "aapl.parquet": aapl,
        "other bars.parquet": bars.filter(pl.col("symbol") == "MSFT"),
        "correction.parquet": aapl.head(5).with_columns(volume=pl.lit(7.0)),
    }
    for name, frame in files.items():
        frame.write_parquet(folder / name)
    return [folder / name for name in files]


def run(platform: Platform, command: str) -> None:
    """Do what a command of ``surveillance`` does, without a process of Dagster."""
    name, *arguments = shlex.split(command)[1:]
    if name == "ingest" and arguments[0] == "simulate":
        chosen = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        ingest_simulated(
            platform, chosen["--symbols"].split(","), sessions=int(chosen["--days"]), seed=int(chosen["--seed"]),
            last=datetime.fromisoformat(chosen["--last"]).date(),
        )  # fmt: skip
        return
    if name == "ingest":
        ingest_file(platform, Path(arguments[0]), FileOptions())
        return
    first, last = (datetime.fromisoformat(text).date() for text in arguments[:2])
    if "scoring_job" in arguments:
        bundle = arguments[arguments.index("--bundle") + 1] if "--bundle" in arguments else ""
        score_range(platform, first, last, bundle=bundle, run_id=command)
        return
    write_ticks(platform, first, last)
    resolve_days(platform, first, last)
    for timeframe in LONGER:
        resample_days(platform, timeframe, first, last)
    for view in (DEFAULT_VIEW, TRAINING_VIEW):
        compute_feature_days(platform, view, first, last, run_id=command)


def fill(platform: Platform, folder: Path) -> None:
    """Ingest bars of two days and put ticks on record."""
    for path in write_files(folder):
        ingest_file(platform, path, FileOptions())
    save_known_sessions(platform)
    with platform.connect() as connection:
        for number in range(3):
            take(connection, f"m{number}", datetime.fromisoformat(f"{FIRST}T15:30:0{number}Z"))


@pytest.fixture
def platform(settings: Settings, tmp_path: Path) -> Platform:
    """A lake with rows of two days in every table."""
    platform = Platform(settings)
    fill(platform, tmp_path)
    for options in ("", " --job scoring_job"):
        run(platform, f"surveillance backfill {DAYS[0]} {DAYS[1]}{options}")
    return platform


def rows(lake: Lake, table: str) -> pl.DataFrame:
    frame = lake.read(table)
    return frame.select(sorted(set(frame.columns) - {RUN})).sort(pl.all())


def in_milliseconds(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows with knowledge times as exact as in the log, because all copies of a correction were lost."""
    return frame.with_columns(pl.col("^knowledge_time$").dt.truncate("1ms")).sort(pl.all())


def folder_of(platform: Platform, table: str) -> Path:
    return Path(platform.lake.url) / table


def lose(platform: Platform, table: str, *, cut: bool = False) -> list[str]:
    """Delete the files of the first day of a table, or cut them off; return their names."""
    table_open = platform.lake.open(table)
    assert table_open is not None
    paths = table_open.files()[FIRST]
    for path in paths:
        file = folder_of(platform, table) / path
        if cut:
            file.write_bytes(file.read_bytes()[:-10])
        else:
            file.unlink()
    return [Path(path).name for path in paths]


def commands(platform: Platform) -> dict[str, list[str]]:
    """Return table → commands that the doctor names, in their order, without the copy from a backup."""
    found = check_lake(platform)
    assert {fact.verdict for fact in found} == {"fail"}
    return {
        fact.found.partition(":")[0]: re.findall(r"`(surveillance (?!--home)[^`]*)`", fact.remedy) for fact in found
    }


def expected_commands(table: str, folder: Path) -> list[str]:
    files = [folder / name for name in ("aapl.parquet", "other bars.parquet", "correction.parquet")]
    special = {
        "bars_landed": [f"surveillance ingest {shlex.quote(str(path))}" for path in files],
        "scores": [f"{DAY} --job scoring_job"],
    }
    return special.get(table, [DAY])


def test_lost_files_of_each_table_come_back_by_the_commands_of_doctor(platform: Platform, tmp_path: Path) -> None:
    before = {table: rows(platform.lake, table) for table in TABLES}
    for place, table in enumerate(TABLES):
        lost = lose(platform, table, cut=place % 2 == 1)
        (fact,) = check_lake(platform)
        assert any(name in fact.found for name in lost)
        assert commands(platform) == {table: expected_commands(table, tmp_path)}
        for command in expected_commands(table, tmp_path):
            run(platform, command)
        assert [fact.verdict for fact in check_lake(platform)] == ["ok"], table
        assert rows(platform.lake, table).equals(before[table]), table


def test_lost_files_of_all_tables_come_back_in_the_order_of_doctor(platform: Platform) -> None:
    before = {table: rows(platform.lake, table) for table in TABLES}
    version = platform.lake.version("bars_landed")
    for table in TABLES:
        lose(platform, table)
    found = commands(platform)
    assert list(found)[:3] == ["bars_landed", "ticks", "bars_1m"]
    for command in dict.fromkeys(command for of_table in found.values() for command in of_table):
        run(platform, command)
    assert [fact.verdict for fact in check_lake(platform)] == ["ok"]
    assert platform.lake.version("bars_landed") == version
    for table in TABLES:
        assert in_milliseconds(rows(platform.lake, table)).equals(in_milliseconds(before[table])), table


def test_scores_that_the_champion_did_not_compute_are_computed_with_their_bundle(
    platform: Platform, tmp_path: Path
) -> None:
    bundle_hash = build_tiny_bundle(tmp_path / "v1")
    with platform.connect() as connection:
        record_version(connection, ModelVersion(
            version=1, bundle_hash=bundle_hash, path=tmp_path / "v1", training_duration_seconds=1.0,
            training_dataset_size=1,
        ))  # fmt: skip
        deploy_version(connection, 1, decided_by="test")
    lose(platform, "scores")
    assert commands(platform) == {"scores": [f"{DAY} --job scoring_job --bundle warmup"]}
    run(platform, f"surveillance backfill {FIRST} {FIRST} --job scoring_job")
    lose(platform, "scores")
    assert commands(platform) == {"scores": [f"{DAY} --job scoring_job"]}


def test_ticks_that_only_the_lake_had_are_restored_from_a_backup(platform: Platform) -> None:
    with platform.connect() as connection:
        connection.execute("DELETE FROM ops.ledger WHERE message_id = 'm0'")
    (name,) = lose(platform, "ticks")
    (fact,) = check_lake(platform)
    assert "from a backup" in fact.remedy
    assert name in fact.remedy
    assert "backfill" not in fact.remedy
    with pytest.raises(IntegrityError, match="expected its 3 ticks in PostgreSQL, found 2"):
        run(platform, DAY)
    assert [fact.verdict for fact in check_lake(platform)] == ["fail"]


@pytest.mark.parametrize("table", ["bars_1m", FEATURES[0]])
def test_lost_file_that_replays_read_is_first_copied_from_a_backup(platform: Platform, table: str) -> None:
    (name,) = lose(platform, table)
    (fact,) = check_lake(platform)
    copied, _, backfill = fact.remedy.partition("; or else ")
    assert copied.startswith(f"restore {folder_of(platform, table)}/")
    assert copied.endswith(f"{name} from a backup, which keeps replays of the outputs computed from it")
    assert backfill == f"`{DAY}`"


def test_lost_file_that_no_replay_reads_is_computed_again(platform: Platform) -> None:
    lose(platform, "bars_5m")
    (fact,) = check_lake(platform)
    assert fact.remedy == f"`{DAY}`"


def test_other_bars_do_not_replace_a_lost_file(platform: Platform, tmp_path: Path) -> None:
    lose(platform, "bars_landed")
    changed = pl.read_parquet(tmp_path / "aapl.parquet").with_columns(volume=pl.lit(1.0))
    changed.write_parquet(tmp_path / "changed.parquet")
    with pytest.raises(IntegrityError, match="Of 3 lost files of these days, 0 could be rebuilt") as refused:
        ingest_file(platform, tmp_path / "changed.parquet", FileOptions())
    assert "copy the file from a backup" in refused.value.remedy
    assert len(commands(platform)["bars_landed"]) == 3


def test_lost_file_of_simulated_bars_is_simulated_again(settings: Settings) -> None:
    platform = Platform(settings)
    ingest_simulated(platform, ("AAPL", "MSFT"), sessions=3, last=DAYS[1], seed=3)
    before = rows(platform.lake, "bars_landed")
    lose(platform, "bars_landed")
    (command,) = commands(platform)["bars_landed"]
    assert command == f"surveillance ingest simulate --symbols AAPL,MSFT --days 3 --last {DAYS[1]} --seed 3"
    run(platform, command)
    assert [fact.verdict for fact in check_lake(platform)] == ["ok"]
    assert rows(platform.lake, "bars_landed").equals(before)


def test_bars_without_a_recorded_ingestion_are_restored_from_a_backup(platform: Platform) -> None:
    with platform.connect() as connection:
        connection.execute("DELETE FROM surveillance.ingestion_runs")
    lose(platform, "bars_landed")
    assert commands(platform) == {"bars_landed": []}
    (fact,) = check_lake(platform)
    assert "from a backup" in fact.remedy
