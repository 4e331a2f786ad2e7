"""PostgreSQL access on a real server: URLs, inserts, migrations."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from surveillance_pipelines.contracts.errors import ErrorCode
from surveillance_pipelines.contracts.outputs import Anomaly, OutputRow, Signal, column_names
from surveillance_pipelines.stores.database import (
    connect,
    ensure_database,
    is_migrated,
    is_outage,
    is_refused,
    migrate,
    normalise_url,
    translate_error,
    upsert_rows,
    with_database,
)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_normalise_url_any_postgresql_scheme_becomes_the_drivers(scheme: str) -> None:
    url = f"{scheme}://me:a%40b@host:5433/db?sslmode=require"
    assert normalise_url(url, "libpq") == "postgresql://me:a%40b@host:5433/db?sslmode=require"
    assert normalise_url(url, "psycopg2") == "postgresql+psycopg2://me:a%40b@host:5433/db?sslmode=require"


def test_normalise_url_other_database_is_refused_without_its_password() -> None:
    with pytest.raises(ValueError, match="postgresql://") as refused:
        normalise_url("mysql://me:secret@host/db", "psycopg")
    assert "secret" not in str(refused.value)


def test_with_database_socket_url_keeps_its_folder() -> None:
    assert with_database("postgresql://me@/one?host=/run/pg", "two") == "postgresql://me@/two?host=/run/pg"


def with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}{password}@{parts.hostname}:{parts.port}"))


def refused_connection(url: str) -> psycopg.OperationalError:
    with pytest.raises(psycopg.OperationalError) as caught, connect(url):
        pass
    return caught.value


@pytest.mark.parametrize("password", [":wrong", ""])
def test_wrong_password_is_no_outage_and_an_invalid_setting(database_url: str, password: str) -> None:
    error = refused_connection(with_password(database_url, password))
    assert not is_outage(error)
    known = translate_error(error)
    assert known is not None
    assert known.code is ErrorCode.INVALID_INPUT
    assert "DATABASE_URL" in known.remedy


def test_missing_database_is_no_outage(database_url: str) -> None:
    error = refused_connection(with_database(database_url, "absent"))
    assert is_refused(error)
    assert not is_outage(error)


def test_server_that_does_not_answer_or_has_no_connection_left_is_an_outage() -> None:
    absent = refused_connection("postgresql://me:pw@127.0.0.1:1/db")
    full = psycopg.OperationalError('connection failed: FATAL:  too many connections for database "db"')
    role = psycopg.OperationalError('connection failed: FATAL:  too many connections for role "me"')
    starting = psycopg.OperationalError("connection failed: FATAL:  the database system is starting up")
    assert [is_outage(error) for error in (absent, full, role, starting)] == [True] * 4
    known = translate_error(absent)
    assert known is not None
    assert known.code is ErrorCode.UNAVAILABLE


def test_connect_session_is_in_utc(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute("SELECT now(), current_setting('timezone')").fetchone()
    assert row is not None
    assert row[1] == "UTC"
    assert row[0].utcoffset() == timedelta(0)


def test_connect_options_of_the_url_are_kept(database_url: str) -> None:
    with connect(f"{database_url}?options=-c%20search_path%3Dops") as connection:
        row = connection.execute("SELECT current_setting('search_path'), current_setting('timezone')").fetchone()
    assert row == ("ops", "UTC")


def test_upsert_rows_known_keys_are_left_alone_and_not_counted(connection: psycopg.Connection[Any]) -> None:
    columns = ("symbol", "calendar", "added_at", "source")
    at = datetime(2026, 1, 2, tzinfo=UTC)

    def insert(*symbols: str, source: str) -> int:
        rows = [(symbol, "XNYS", at, source) for symbol in symbols]
        return upsert_rows(connection, "surveillance.instruments", columns, rows, key=("symbol",))

    assert insert("A", "B", source="first") == 2
    assert insert("B", "C", "C", source="second") == 1
    assert insert(source="none") == 0
    found = connection.execute("SELECT symbol, source FROM surveillance.instruments ORDER BY 1").fetchall()
    assert found == [("A", "first"), ("B", "first"), ("C", "second")]


def test_ensure_database_second_call_finds_it(services: Any, empty_database_url: str) -> None:
    name = empty_database_url.rsplit("/", 1)[1]
    assert ensure_database(services.server_url, name) is False


def test_migrate_up_down_and_up_again_ends_with_all_tables(empty_database_url: str) -> None:
    assert not is_migrated(empty_database_url)
    migrate(empty_database_url)
    assert is_migrated(empty_database_url)
    tables = _tables(empty_database_url)
    assert {"ops.ledger", "ops.outbox", "surveillance.anomalies", "surveillance.model_metrics"} <= tables
    migrate(empty_database_url, "base")
    assert _tables(empty_database_url) == {"public.alembic_version"}
    assert not is_migrated(empty_database_url)
    migrate(empty_database_url)
    assert _tables(empty_database_url) == tables


def test_migrate_migrated_database_changes_nothing(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("INSERT INTO ops.ledger VALUES ('m', null, 'q', 'scored', null, now(), null, null)")
    migrate(database_url)
    with connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM ops.ledger").fetchone() == (1,)


@pytest.mark.parametrize(("table", "row_type"), [("anomalies", Anomaly), ("signals", Signal)])
def test_output_table_columns_equal_the_row_contract(
    connection: psycopg.Connection[Any], table: str, row_type: type[OutputRow]
) -> None:
    found = connection.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = 'surveillance' AND table_name = %s ORDER BY ordinal_position",
        (table,),
    ).fetchall()
    assert tuple(name for (name,) in found) == column_names(row_type)


def test_ledger_second_outcome_of_a_dedup_id_is_refused_unless_duplicate(connection: psycopg.Connection[Any]) -> None:
    insert = "INSERT INTO ops.ledger VALUES (%s, %s, 'q', %s, null, now(), null, null)"
    connection.execute(insert, ("m1", "d", "scored"))
    connection.execute(insert, ("m2", "d", "duplicate"))
    connection.execute(insert, ("m3", None, "scored"))
    connection.execute(insert, ("m4", None, "scored"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(insert, ("m5", "d", "late"))


def test_ledger_unknown_outcome_is_refused(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("INSERT INTO ops.ledger VALUES ('m', null, 'q', 'lost', null, now(), null, null)")


def _tables(url: str) -> set[str]:
    with connect(url) as connection:
        rows = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
    return {name for (name,) in rows}
