"""Rows of the live lane's tables, as PostgreSQL holds them after one statement over JSON arrays."""

import math
from datetime import UTC, date, datetime

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surveillance_pipelines.clock import to_datetime, to_us
from surveillance_pipelines.stores.tables import Table

COLUMNS = {
    "id": "text", "sent_at": "timestamptz", "price": "float8", "trades": "bigint", "warmup": "boolean", "day": "date",
    "state": "bytea", "explanation": "jsonb",
}  # fmt: skip
TABLE = Table("rows", tuple(COLUMNS), conflict=None, returning=("id",))
FIRST, LAST = to_us(datetime(1970, 1, 1, tzinfo=UTC)), to_us(datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
ROWS = st.lists(
    st.tuples(
        TEXT, st.none() | st.integers(FIRST, LAST), st.none() | st.floats(), st.integers(-(2**63), 2**63 - 1),
        st.none() | st.booleans(), st.none() | st.dates(date(1970, 1, 1)), st.none() | st.binary(),
        st.none() | st.just("[1.5]"),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


def store(connection: psycopg.Connection, rows: list[tuple]) -> list[tuple]:
    """Return the rows as they are read again, in the order of their insertion, and instants in microseconds."""
    types = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS rows ({types}, position serial)".encode())
    connection.execute("TRUNCATE rows")
    returned = connection.execute(TABLE.insert, TABLE.parameters(rows)).fetchall()
    assert [id_ for (id_,) in returned] == [row[0] for row in rows]
    found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM rows ORDER BY position".encode()).fetchall()
    return [(id_, None if at is None else to_us(at), *rest) for id_, at, *rest in found]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_any_row_is_read_as_it_was_written(connection: psycopg.Connection, rows: list[tuple]):
    for found, row in zip(store(connection, rows), rows, strict=True):
        *expected, explanation = row
        *values, read = found
        assert read == (None if explanation is None else [1.5])
        for value, wanted in zip(values, expected, strict=True):
            if isinstance(wanted, float):
                assert math.isnan(value) if math.isnan(wanted) else value == wanted
                assert math.copysign(1, value) == math.copysign(1, wanted) or math.isnan(wanted)
            else:
                assert value == wanted


def test_instants_keep_their_microseconds(connection: psycopg.Connection):
    instants = [to_us(datetime(2024, 3, 5, 14, 30, 17, 370_541, tzinfo=UTC)) + k for k in range(50)]
    found = store(connection, [(str(k), at, 1.0, 1, True, None, None, None) for k, at in enumerate(instants)])
    assert [at for _, at, *_ in found] == instants
    assert to_datetime(instants[0]).isoformat() == "2024-03-05T14:30:17.370541+00:00"
