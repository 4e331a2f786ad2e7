"""The migration that gives older predictions the hash of their settings and runtime."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.outputs import row_id
from surveillance_pipelines.stores.database import connect, migrate

BEFORE = "0006"
START = datetime(2024, 3, 5, 14, 30, tzinfo=UTC)
ADD = """
    INSERT INTO surveillance.predictions (id, symbol, timeframe, bar_start, revision, source, event_time,
        knowledge_time, price, anomaly_score, buy_probability, hold_probability, sell_probability, horizon_minutes,
        bundle_hash, feature_view, warmup, run_id)
    VALUES (%s, %s, '1m', %s, 0, 'sqs', %s, %s, 1, 0.1, 0.2, 0.6, 0.2, 15, 'bundle', 'core_v1', false, %s)
"""


@pytest.fixture
def old(empty_database_url: str) -> str:
    """A database at the revision before, with the settings of two runs."""
    migrate(empty_database_url)
    migrate(empty_database_url, BEFORE)
    with connect(empty_database_url) as connection:
        connection.execute("INSERT INTO ops.calendar_maps VALUES ('calendars', '{}')")
        for config_hash, tenant in (("a" * 64, "default"), ("b" * 64, "fund")):
            connection.execute(
                "INSERT INTO ops.configs (config_hash, knobs) VALUES (%s, %s)", (config_hash, Jsonb({"tenant": tenant}))
            )
        for name in ("r1", "r2"):
            connection.execute("INSERT INTO ops.runtimes (runtime_hash, description) VALUES (%s, '{}')", (name,))
        for run, runtime in (("one", "r1"), ("two", "r1"), ("two", "r2")):
            connection.execute(
                "INSERT INTO ops.scoring_runs (lane, run_id, calendars_hash, config_hash, runtime_hash, code_version)"
                " VALUES ('batch', %s, 'calendars', %s, %s, '1')",
                (run, "a" * 64, runtime),
            )
    return empty_database_url


def prediction(
    symbol: str, *, run: str, tenant: str = "default", config_hash: str = "a" * 64, id_: str | None = None
) -> tuple[Any, ...]:
    """Return the values that ``ADD`` takes; the id is made of the settings unless it is given."""
    made = row_id(
        "score", kind="score", tenant=tenant, strategy="surveillance", symbol=symbol, timeframe="1m",
        bar_start=to_us(START), revision=0, bar_status="final", trigger_message_id=None, feature_view="core_v1",
        bundle_hash="bundle", config_hash=config_hash,
    )  # fmt: skip
    return id_ or made, symbol, START, START, START, run


def add(url: str, rows: Sequence[tuple[Any, ...]]) -> None:
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.executemany(ADD, rows)


def provenance(url: str) -> dict[str, tuple]:
    with connect(url) as connection:
        rows = connection.execute(
            "SELECT symbol, config_hash, runtime_hash, model_ids, excluded_models FROM surveillance.predictions"
        ).fetchall()
    return {symbol: tuple(values) for symbol, *values in rows}


def test_settings_follow_from_the_ids_and_what_cannot_be_known_stays_null(old: str):
    rows = [
        prediction("AAPL", run="one"),
        prediction("MSFT", run="two", tenant="fund", config_hash="b" * 64),
        prediction("SPY", run="gone", config_hash="c" * 64),
        prediction("QQQ", run="one", id_="0" * 64),
    ]
    add(old, rows)
    migrate(old, "+1")
    assert provenance(old) == {
        "AAPL": ("a" * 64, "r1", None, None),
        "MSFT": ("b" * 64, None, None, None),  # its run had two runtimes
        "SPY": (None, None, None, None),  # its settings are not on record
        "QQQ": (None, "r1", None, None),  # an id of no recipe
    }


def test_more_rows_than_one_step_reads_are_all_filled(old: str):
    add(old, [prediction(f"S{i}", run="one") for i in range(10_001)])
    migrate(old, "+1")
    assert {row[0] for row in provenance(old).values()} == {"a" * 64}


def test_downgrade_removes_the_columns_and_the_next_upgrade_fills_them_again(old: str):
    add(old, [prediction("AAPL", run="one")])
    migrate(old, "+1")
    migrate(old, BEFORE)
    migrate(old, "+1")
    assert provenance(old)["AAPL"][0] == "a" * 64
