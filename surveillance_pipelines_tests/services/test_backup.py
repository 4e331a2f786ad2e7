"""A home that is backed up while a drain run serves, and restored elsewhere, with real services."""

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.contracts.errors import ConflictError, IntegrityError, InvalidInputError
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.embedded.service_home import ServiceHome
from surveillance_pipelines.embedded.services import release, stop_services
from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.services.backup import BackedUp, back_up, settings_text
from surveillance_pipelines.services.doctor import check_lake, check_models
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.services.replays import replay_outputs
from surveillance_pipelines.services.restoration import restore
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines.stores.snapshots import row_counts
from surveillance_pipelines_tests.engine.market import SESSION_ROWS, SYMBOLS, stream
from surveillance_pipelines_tests.replay.test_replay import history_of
from surveillance_pipelines_tests.storage_fixtures import service_settings
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle

OUTPUTS = (
    "SELECT id FROM surveillance.anomalies UNION SELECT id FROM surveillance.signals UNION "
    "SELECT id FROM surveillance.predictions UNION SELECT id FROM ops.outbox ORDER BY 1"
)
VALUES = {
    "predictions": "symbol, bar_start, revision, price, anomaly_score, buy_probability, sell_probability, bundle_hash",
    "anomalies": "symbol, bar_start, kind, alert_id, alert_status, bar_status, score, risk_score, bundle_hash",
    "signals": "symbol, bar_start, bundle_hash",
}
"""Table → the values that determine what a consumer is told."""
MESSAGES = stream(90)
FIRST = 300
"""Messages that are sent before the backup; the others are sent after it."""


def ignore(_name: str, _count: int) -> None:
    """Show no progress."""


def settings_of(home: Path) -> Settings:
    quick = {
        "symbols": SYMBOLS, "lease_seconds": 0.5, "sqs_visibility_timeout": 1, "sqs_wait_time": 1,
        "drain_idle_seconds": 0.3, "bar_close_grace_seconds": 0.0, "publish_scores": "all",
    }  # fmt: skip
    return service_settings(home).model_copy(update=quick)


def rows(platform: Platform, statement: str) -> list[tuple[Any, ...]]:
    with platform.connect() as connection:
        return connection.execute(statement.encode()).fetchall()


def column(platform: Platform, statement: str) -> list[Any]:
    return [row[0] for row in rows(platform, statement)]


def send(platform: Platform, begin: int, end: int) -> None:
    queue = platform.queue(platform.endpoints.queue_urls[0])
    queue.send([SendEntry(one.body, one.group_id, one.dedup_id) for one in MESSAGES[begin:end]])


def serve_until(platform: Platform, processed: int) -> None:
    """Serve until so many messages have an outcome and nothing is left to do, such as closing the last bars."""
    stopped_by = ""
    while stopped_by != "idle" or column(platform, "SELECT count(*) FROM ops.ledger")[0] < processed:
        endpoints = platform.endpoints
        report = drain(endpoints, platform.settings, endpoints.queue_urls[0], run_id="run-1", window_seconds=10)
        stopped_by = report.stopped_by


def stop(settings: Settings) -> None:
    stop_services(settings)
    release(settings)


@dataclass(frozen=True)
class Original:
    """A home with a champion, a lake of two versions and outputs, and a backup made while a run served."""

    platform: Platform
    backup: Path
    done: BackedUp


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    folder = tmp_path_factory.mktemp("backup")
    platform = Platform(settings_of(folder / "home"))
    try:
        _fill(platform)
        send(platform, 0, FIRST)
        with ThreadPoolExecutor(1) as pool:
            backing_up = pool.submit(_back_up_and_send_more, platform, folder / "backup.tar")
            serve_until(platform, len(MESSAGES))  # in this thread, because a run handles signals
        yield Original(platform, folder / "backup.tar", backing_up.result())
    finally:
        stop(platform.settings)


def _fill(platform: Platform) -> None:
    history = history_of(SYMBOLS, -1)
    days = history["date"].unique().to_list()
    platform.lake.write_days("bars_1m", history, days=days)
    platform.lake.write_days("bars_1m", history.with_columns(pl.col("close") * 1.001), days=days)
    bundle_hash = build_tiny_bundle(platform.models_path / "v1", seed=7)
    (platform.models_path / "build").mkdir()
    (platform.models_path / "build" / "temporary.json").write_text("{}")
    with platform.connect() as connection:
        save_sessions(connection, session_rows(SESSION_ROWS))
        record_version(connection, ModelVersion(
            version=1, bundle_hash=bundle_hash, path=Path("v1"), training_duration_seconds=1.0, training_dataset_size=1,
        ))  # fmt: skip
        deploy_version(connection, 1, decided_by="test")


def _back_up_and_send_more(platform: Platform, target: Path) -> BackedUp:
    while column(platform, "SELECT count(*) FROM ops.ledger")[0] == 0:
        SYSTEM_CLOCK.sleep(0.02)
    done = back_up(platform, target, ignore)
    send(platform, FIRST, len(MESSAGES))
    return done


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a home that does not exist yet."""
    settings = settings_of(tmp_path / "restored")
    yield settings
    if settings.surveillance_home.exists():
        stop(settings)


@pytest.mark.slow
def test_restored_home_has_all_rows_and_files_and_serves_on_as_the_original_did(
    original: Original, place: Settings
) -> None:
    at_backup = original.done.rows["surveillance"]
    assert 0 < at_backup["ops.ledger"] < len(MESSAGES), "the backup was made while the run served"
    assert at_backup["ops.ledger"] == at_backup["ops.inbox"], "effects and inputs come from one snapshot"

    done = restore(place, original.backup, ignore)
    restored = Platform(place)
    assert done.rows["surveillance"] == at_backup == row_counts(restored.endpoints.database_url)
    assert restored.lake.version("bars_1m") == original.platform.lake.version("bars_1m") == 1
    for version in (0, 1):
        assert_frame_equal(
            restored.lake.read("bars_1m", version=version), original.platform.lake.read("bars_1m", version=version)
        )
    champion = "SELECT * FROM surveillance.deployments"
    assert rows(restored, champion) == rows(original.platform, champion) != []
    assert not (place.models_path / "build").exists()
    assert ServiceHome(place.surveillance_home).record.stat().st_mode & 0o077 == 0

    stored = column(restored, OUTPUTS)
    results = replay_outputs(restored, stored)
    assert [result.summary for result in results if result.outcome != "equal"] == []
    assert len(results) == len(stored) > 0

    send(restored, 0, len(MESSAGES))
    repeated = at_backup["ops.ledger"]
    serve_until(restored, len(MESSAGES) + repeated)
    for table, values in VALUES.items():  # ids of rows hash the queue's message ids, which are new
        statement = f"SELECT {values} FROM surveillance.{table} ORDER BY {values}"
        assert rows(restored, statement) == rows(original.platform, statement) != []
    outcomes = rows(restored, "SELECT outcome, count(*) FROM ops.ledger GROUP BY outcome")
    assert dict(outcomes) == {"scored": len(MESSAGES), "duplicate": repeated}


@pytest.mark.slow
def test_files_that_nothing_can_compute_again_come_back_by_the_commands_of_doctor(
    original: Original, place: Settings
) -> None:
    platform = original.platform
    log = Path(platform.lake.url) / "bars_1m" / "_delta_log" / f"{0:020}.json"
    lost = [log, next(platform.models_path.glob("v1/*.onnx"))]
    for file in lost:
        file.unlink()
    facts = [*check_lake(platform), *check_models(platform)]
    assert [fact.verdict for fact in facts] == ["fail", "fail"]
    assert all(file.name in fact.found for file, fact in zip(lost, facts, strict=True))
    restore(place, original.backup, ignore)
    for fact in facts:
        first, *copies = re.findall(r"`((?:surveillance --home|mkdir|cp) [^`]*)`", fact.remedy)
        assert first == "surveillance --home NEW restore BACKUP"
        for command in copies:
            here = command.replace(" NEW/", f" {place.surveillance_home}/")
            subprocess.run(here, shell=True, check=True)
    assert [fact.verdict for fact in (*check_lake(platform), *check_models(platform))] == ["ok", "ok"]


@pytest.mark.slow
def test_restore_refuses_what_it_cannot_restore_and_leaves_nothing(
    original: Original, place: Settings, tmp_path: Path
) -> None:
    def refused(manifest: dict[str, Any], error: type[Exception], text: str) -> None:
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(error, match=text):
            restore(place, folder, ignore)
        assert [path.name for path in tmp_path.iterdir()] == ["unpacked"]

    folder = tmp_path / "unpacked"
    with tarfile.open(original.backup) as tar:
        tar.extractall(folder, filter="data")
    manifest = json.loads((folder / "manifest.json").read_text())
    refused(manifest | {"format": 2}, InvalidInputError, "expected a backup of format 1 or older, got format 2")
    refused(manifest | {"migration": "9999"}, ConflictError, "got one made by .*, migration 9999")
    refused(manifest | {"code_version": "0.0.1+abc"}, ConflictError, r"got one made by 0.0.1\+abc")
    other = [{**part, "name": f"../{part['name']}"} for part in manifest["parts"]]
    refused(manifest | {"parts": other}, IntegrityError, "names below the backup")
    counts = {**manifest["rows"], "surveillance": manifest["rows"]["surveillance"] | {"ops.ledger": 1}}
    refused(manifest | {"rows": counts}, IntegrityError, "expected 1 rows in ops.ledger of the database surveillance")

    table = next(path for path in folder.glob("lake/bars_1m/*/*.parquet"))
    content = table.read_bytes()
    table.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(manifest, IntegrityError, f"expected lake/bars_1m/.*{len(content)} bytes and the sha256")
    table.unlink()
    refused(manifest, IntegrityError, "found none that can be read")
    shutil.rmtree(folder / "databases")
    with pytest.raises(InvalidInputError, match="found another file"):
        restore(place, Path(__file__), ignore)


def test_restore_into_a_home_with_data_is_refused(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    (tmp_path / "home" / "lake").mkdir(parents=True)
    (tmp_path / "backup").mkdir()
    with pytest.raises(InvalidInputError, match=r"expected a backup with manifest\.json"):
        restore(settings, tmp_path / "backup", ignore)
    manifest = _manifest_of_this_code()
    (tmp_path / "backup" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConflictError, match=r"expected no data in .*home, found lake"):
        restore(settings, tmp_path / "backup", ignore)


def _manifest_of_this_code() -> dict[str, Any]:
    from surveillance_pipelines.engine.code_version import scoring_code_version
    from surveillance_pipelines.stores.database import newest_revision

    return {"format": 1, "code_version": scoring_code_version(), "migration": newest_revision(), "parts": []}


def test_backup_needs_a_new_name_outside_of_the_home_and_an_embedded_database(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="got a configured DATABASE_URL"):
        back_up(Platform(settings), tmp_path / "backup", ignore)
    platform = Platform(settings_of(tmp_path / "home"))
    (tmp_path / "taken.tar").touch()
    for name, text in (
        ("taken.tar", "expected no file or folder at"),
        ("home/backup", "expected a place outside of"),
        ("absent/backup", "expected the folder"),
        ("backup.tar.gz", "expected a folder or a file that ends in .tar"),
    ):
        with pytest.raises(InvalidInputError, match=text):
            back_up(platform, tmp_path / name, ignore)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken.tar"], "nothing was started or written"


def test_settings_of_a_backup_hold_no_secret_and_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "surveillance_home": tmp_path, "symbols": ("AAPL", "SPY"), "aws_secret_access_key": "hunter2",
        "mlflow_tracking_uri": "postgresql://me:hunter2@host/mlflow", "drain_standby": False,
        "output_queue_url": "https://q/o.fifo",
    }  # fmt: skip
    text = settings_text(Settings(_env_file=None, **given))  # pyright: ignore[reportCallIssue]
    assert "hunter2" not in text
    (tmp_path / ".env").write_text(text)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    read = Settings(_env_file=tmp_path / ".env")  # pyright: ignore[reportCallIssue]
    assert (read.symbols, read.drain_standby, read.output_queue_url) == (("AAPL", "SPY"), False, "https://q/o.fifo")
    assert (read.aws_secret_access_key, read.mlflow_tracking_uri) == (None, None)
