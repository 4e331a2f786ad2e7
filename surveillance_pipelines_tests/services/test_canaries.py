"""Canary runs on real stores: what they find, what they report, and that nothing of them reaches an output."""

from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from surveillance_pipelines.services import canaries
from surveillance_pipelines.services.canaries import CanaryRun, run_canaries
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.canaries import MARK, canaries_in_outputs
from surveillance_pipelines_tests.services.canary_faults import FAULTS
from surveillance_pipelines_tests.services.canary_world import WorldSpec, build_world
from surveillance_pipelines_tests.training.tiny_bundle import TINY_SYMBOLS

SPEC = WorldSpec(TINY_SYMBOLS, date(2024, 3, 4), (date(2024, 3, 11),), date(2024, 3, 12), seed=7)


@pytest.fixture
def platform(settings: Settings, bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A served market whose canary runs are small: one copy of full size, none of a third."""
    monkeypatch.setattr(canaries, "EVENTS", 1)
    monkeypatch.setattr(canaries, "THIRDS", 0)
    return build_world(settings.model_copy(update={"symbols": SPEC.symbols}), SPEC, bundle_path)


@pytest.fixture
def run(platform: Platform) -> CanaryRun:
    return run_canaries(platform, run_id="run-1")


def rows(platform: Platform, statement: str) -> list[tuple[Any, ...]]:
    with platform.connect() as connection:
        return connection.execute(statement.encode()).fetchall()


@pytest.mark.requirement("BEY-06")
def test_run_stores_one_row_per_manipulation_and_nothing_else(platform: Platform, run: CanaryRun):
    stored = rows(
        platform,
        "SELECT run_id, symbol, size, detected, score IS NOT NULL, delay_minutes IS NOT NULL, bundle_hash, config_hash "
        "FROM surveillance.canaries ORDER BY symbol, first_bar",
    )
    assert len(stored) == run.events.height == 2 * len(TINY_SYMBOLS)
    assert {row[0] for row in stored} == {f"{MARK}run-1"}
    assert {row[1] for row in stored} == set(TINY_SYMBOLS)
    assert all(scored and detected == delayed for *_, detected, scored, delayed, _, _ in stored)
    assert {row[6:] for row in stored} == {(run.bundle_hash, platform.settings.config_hash)}
    with platform.connect() as connection:
        assert set(canaries_in_outputs(connection).values()) == {0}
    for table in (
        "surveillance.anomalies",
        "surveillance.incidents",
        "surveillance.predictions",
        "ops.outbox",
        "ops.inbox",
        "ops.live_bars",
    ):
        assert rows(platform, f"SELECT count(*) FROM {table}") == [(0,)]


def test_run_serves_as_batch_scoring_does_and_finds_most_manipulations(run: CanaryRun):
    assert run.problems == {}
    assert run.day == SPEC.canary_day
    assert run.bundle_hash == run.champion_hash
    assert run.events["detected"].sum() >= run.events.height / 2
    assert run.control.bars == 390 * len(TINY_SYMBOLS)
    assert run.messages == 2 * 4 * run.control.bars
    assert set(run.counts.detectors) == {"tail_detector", "classifier", "floors"}
    assert {verdict.measure for verdict in run.verdicts} == {"detected", "named", "alerted"}


def test_run_with_the_same_seed_plants_and_finds_the_same(platform: Platform):
    first, again = (run_canaries(platform, run_id=f"run-{number}", seed=5).events for number in range(2))
    assert first.equals(again)


@pytest.mark.parametrize(
    ("fault", "symbol", "problem"),
    [
        ("feed off for a symbol", "AAPL", "0 bars on 2024-03-12, usually 390"),
        ("symbol removed from the instrument table", "", "messages refused: unknown_symbol 1560"),
        ("calendar of a symbol is XTKS", "AAPL", "0% of its bars are in the session of XTKS, and fill 0% of it"),
        ("prices times 100", "SPY", "390 of 390 bars were not built as sent"),
    ],
)
def test_run_names_what_is_not_served(platform: Platform, fault: str, symbol: str, problem: str):
    with FAULTS[fault](platform) as broken:
        assert run_canaries(broken, run_id=fault).problems[symbol].startswith(problem)


@pytest.mark.requirement("BEY-06")
def test_run_reads_through_a_connection_that_cannot_write(platform: Platform, monkeypatch: pytest.MonkeyPatch):
    def write(_stores: Platform, connection: psycopg.Connection[Any], *_arguments: Any) -> None:
        connection.execute("DELETE FROM surveillance.instruments")

    monkeypatch.setattr(canaries, "read_market", write)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        run_canaries(platform, run_id="run-1")


REFUSED = (
    (
        "INSERT INTO ops.inbox (message_id, queue_url, group_id, sequence_number, body, sent_at, received_at, "
        "receive_count, committed_at) VALUES ('canary:1', 'q', 'g', '1', '{}', now(), now(), 1, now())"
    ),
    (
        "INSERT INTO ops.ledger (message_id, queue_url, outcome, committed_at, fencing) "
        "VALUES ('canary:1', 'q', 'scored', now(), 1)"
    ),
    (
        "INSERT INTO ops.outbox (id, queue_url, row_type, body, group_id, created_at) "
        "VALUES ('1', 'q', 'score', '{\"run_id\":\"canary:1\"}', 'g', now())"
    ),
)


@pytest.mark.requirement("BEY-06")
def test_every_table_of_the_live_lane_and_of_outputs_refuses_canaries(settings: Settings):
    with Platform(settings).connect(autocommit=True) as connection:
        for statement in REFUSED:
            with pytest.raises(psycopg.errors.CheckViolation, match="no_canary"):
                connection.execute(statement.encode())
        _require_guards(connection)


def _require_guards(connection: psycopg.Connection[Any]) -> None:
    guarded = connection.execute(
        "SELECT conrelid::regclass::text FROM pg_constraint WHERE conname = 'no_canary' AND conparentid = 0 "
        "AND conislocal ORDER BY 1"
    ).fetchall()
    tables = {name.removeprefix("surveillance.") for (name,) in guarded if "_default" not in name}
    live = {f"ops.{name}" for name in ("inbox", "ledger", "live_bars", "outbox")}
    assert tables == live | {"anomalies", "incidents", "predictions", "signals"}
