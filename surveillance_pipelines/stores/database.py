"""PostgreSQL: connections, URLs per driver, bulk inserts and migrations. Alembic is imported only on use."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from surveillance_pipelines.contracts.errors import InvalidInputError, SurveillanceError, UnavailableError
from surveillance_pipelines.contracts.urls import require_readable_url

Driver = Literal["psycopg", "psycopg2", "libpq"]

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_SCHEMES: Final[dict[Driver, str]] = {
    "libpq": "postgresql",
    "psycopg": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
}


def normalise_url(url: str, driver: Driver) -> str:
    """Return a PostgreSQL URL with the scheme that a driver expects.

    Raises:
        InvalidInputError: if the URL is not a PostgreSQL URL. The message omits the URL, because it may contain a
            password.
    """
    parts = urlsplit(url)
    if parts.scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise InvalidInputError("expected a postgresql:// URL (DATABASE_URL), got another scheme or none")
    require_readable_url(url, "a URL of PostgreSQL (DATABASE_URL)")
    return _SCHEMES[driver] + url[len(parts.scheme) :]


def with_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    parts = urlsplit(url)
    # A URL with a socket folder has an empty host, for which urlunsplit would drop the //.
    rest = urlunsplit(("", "", f"/{name}", parts.query, ""))
    return f"{parts.scheme}://{parts.netloc}{rest}"


def connect(database_url: str, *, autocommit: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection with a UTC session.

    Raises:
        psycopg.OperationalError: if the server cannot be reached.
    """
    parameters: dict[str, Any] = {"connect_timeout": 10, **conninfo_to_dict(normalise_url(database_url, "libpq"))}
    parameters["options"] = f"{parameters.get('options', '')} -c timezone=UTC"
    return psycopg.connect(autocommit=autocommit, **parameters)


class Reconnector:
    """A connection that is opened again after it broke; for one thread. A ``with`` block closes it at its end.

    Args:
        open_connection: opens the connection.

    Attributes:
        openings: number of connections opened so far.
    """

    def __init__(self, open_connection: Callable[[], psycopg.Connection]) -> None:
        self._open: Final = open_connection
        self._connection = open_connection()
        self.openings = 1

    def get(self) -> psycopg.Connection:
        """Return the open connection.

        Raises:
            psycopg.OperationalError: if it broke and the server cannot be reached.
        """
        if self._connection.closed:
            self._connection = self._open()
            self.openings += 1
        return self._connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()


OUTAGE_ERRORS: Final = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
"""Exceptions that mean that PostgreSQL cannot work now, or refuses the connection (``is_outage`` tells)."""


_REFUSAL: Final = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects"
    r'|role "[^"]*" (?:does not exist|is not permitted to log in)|database "[^"]*" does not exist'
    r"|permission denied for database"
)
"""Messages with which PostgreSQL refuses a user, a password or a database. A refused connection has no SQLSTATE, so a
server with messages in another language than English is not understood."""
_ACCESS_REMEDY: Final = (
    "correct user, password and name of the database in DATABASE_URL (or DAGSTER_DATABASE_URL, MLFLOW_TRACKING_URI); "
    "the server decides in pg_hba.conf who may connect and whether it needs sslmode"
)


def is_refused(error: Exception) -> bool:
    """Return whether PostgreSQL answers and refuses the user, the password or the name of the database."""
    return isinstance(error, psycopg.OperationalError) and _REFUSAL.search(str(error)) is not None


def is_outage(error: Exception) -> bool:
    """Return whether an exception means that PostgreSQL cannot work now: unreachable, full, stopping, read-only."""
    return isinstance(error, OUTAGE_ERRORS) and not is_refused(error)


def translate_error(error: Exception) -> SurveillanceError | None:
    """Translate ``psycopg.OperationalError`` to an error of the platform; None for other exceptions."""
    if not isinstance(error, psycopg.OperationalError):
        return None
    if is_refused(error):
        found = " ".join(str(error).split())
        return InvalidInputError(f"expected PostgreSQL to accept the connection: {found}", remedy=_ACCESS_REMEDY)
    return UnavailableError(
        f"expected PostgreSQL to answer: {error}", remedy="check DATABASE_URL, or run `surveillance doctor`"
    )


def upsert_rows(
    connection: psycopg.Connection[Any],
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    key: Sequence[str],
) -> int:
    """Insert the rows whose ``key`` does not exist yet, and return their number.

    Args:
        connection: an open connection; the caller manages the transaction.
        table: ``schema.name``.
        columns: names in the order of the values.
        rows: one sequence of values per row.
        key: columns of the unique key.
    """
    if not rows:
        return 0
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO NOTHING").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() for _ in columns),
        sql.SQL(", ").join(map(sql.Identifier, key)),
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)
        return max(cursor.rowcount, 0)


def ensure_database(server_url: str, name: str) -> bool:
    """Create a database on the server of ``server_url`` unless it exists; return whether it was created."""
    with connect(server_url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            return False
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return False  # another process created it first
        return True


def is_migrated(database_url: str) -> bool:
    """Return whether the database is at the newest migration, without importing Alembic."""
    with connect(database_url, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('public.alembic_version')").fetchone() == (None,):
            return False
        row = connection.execute("SELECT version_num FROM public.alembic_version").fetchone()
    return row is not None and row[0] == newest_revision()


def newest_revision() -> str:
    """Return the id of the newest migration, from the file names."""
    return max(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def migrate(database_url: str, revision: str = "head") -> None:
    """Migrate the platform's tables to a revision. Concurrent migrations are serialized by a lock."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))  # % begins a reference
    config.attributes["database_url"] = normalise_url(database_url, "psycopg")
    if revision == "head" or revision.startswith("+"):
        command.upgrade(config, revision)
    else:
        command.downgrade(config, revision)


def postgres_variables(database_url: str) -> dict[str, str]:
    """Return a database URL as environment variables for libpq and the dbt profile."""
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict

    variable_of = {option.keyword.decode(): option.envvar for option in pq.Conninfo.get_defaults()}
    usual = {"PGHOST": "localhost", "PGPORT": "5432", "PGUSER": "postgres", "PGPASSWORD": ""}
    given = {variable_of[keyword]: str(value) for keyword, value in conninfo_to_dict(database_url).items()}
    return usual | {variable.decode(): value for variable, value in given.items() if variable}
