"""PostgreSQL: connections, URLs per driver, bulk inserts and migrations. Alembic is imported only on use."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from surveillance_pipelines.contracts.errors import (
    ConflictError,
    InvalidInputError,
    SurveillanceError,
    UnavailableError,
)
from surveillance_pipelines.contracts.urls import require_readable_url

_OWN_REVISION: Final = re.compile(r"\d{4}")
"""Ids of the platform's migrations; those of Alembic are hexadecimal and longer."""

Driver = Literal["psycopg", "psycopg2", "libpq"]

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_SCHEMES: Final[dict[Driver, str]] = {
    "libpq": "postgresql",
    "psycopg": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
}


class ForeignDatabaseError(ConflictError):
    """A database belongs to another program, or to a newer release, so that it must not be migrated."""


def normalise_url(url: str, driver: Driver, setting: str = "DATABASE_URL") -> str:
    """Return a PostgreSQL URL with the scheme that a driver expects.

    Args:
        url: the URL.
        driver: the driver that will read it.
        setting: name of the setting, for the error.

    Raises:
        InvalidInputError: if the URL is not a PostgreSQL URL. The message omits the URL, because it may contain a
            password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0].lower() not in ("postgresql", "postgres"):
        raise InvalidInputError(
            f"expected {setting} as a postgresql:// URL, got another scheme or none (not shown: it may "
            "contain a password)",
            remedy=f"set {setting} to postgresql://user:password@host:port/name",
        )
    require_readable_url(url, setting)
    _parameters(f"postgresql://{rest}", setting)
    return f"{_SCHEMES[driver]}://{rest}"


def with_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    scheme, _, rest = url.partition("://")
    path, question_mark, query = rest.partition("?")
    return f"{scheme}://{path.partition('/')[0]}/{name}{question_mark}{query}"


def is_same_database(one: str, other: str) -> bool:
    """Return whether two PostgreSQL URLs name the same host, port and database."""
    usual = {"host": "localhost", "port": "5432"}
    names = ("host", "port", "dbname")
    first, second = ({**usual, **_parameters(f"postgresql://{url.partition('://')[2]}")} for url in (one, other))
    return all(str(first.get(name)) == str(second.get(name)) for name in names)


def _parameters(url: str, setting: str = "DATABASE_URL") -> dict[str, Any]:
    """Return the parameters of a connection; the errors of libpq contain parts of the URL, and are not shown."""
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise InvalidInputError(
            f"expected {setting} as a URL that PostgreSQL accepts, got one that it cannot read (not shown: it may "
            "contain a password)",
            remedy="write it as postgresql://user:password@host:port/name?parameter=value, and & and = of a password "
            "as %26 and %3D",
        ) from None


def connect(database_url: str, *, autocommit: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection with a UTC session.

    Raises:
        psycopg.OperationalError: if the server cannot be reached.
    """
    parameters: dict[str, Any] = {"connect_timeout": 10, **_parameters(normalise_url(database_url, "libpq"))}
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
    """Return whether the database has the tables of the newest migration, without importing Alembic.

    Raises:
        ForeignDatabaseError: if it is the database of another program, or of a newer release.
    """
    with connect(database_url, autocommit=True) as connection:
        revision = recorded_revision(connection)
        has_tables = connection.execute("SELECT to_regclass('ops.ledger')").fetchone() != (None,)
    if revision is not None and not has_tables:
        raise ForeignDatabaseError(
            f"expected the tables of migration {revision} in the database of DATABASE_URL, found none: "
            "another program manages it, or its tables were dropped",
            remedy="set DATABASE_URL to an empty database, or restore this one from a backup",
        )
    return revision == newest_revision()


def recorded_revision(connection: psycopg.Connection[Any]) -> str | None:
    """Return the newest migration that a database records; None if none was applied.

    Raises:
        ForeignDatabaseError: if another program, for example Dagster or MLflow, has recorded it, or a newer release.
    """
    if connection.execute("SELECT to_regclass('public.alembic_version')").fetchone() == (None,):
        return None
    recorded = {str(revision) for (revision,) in connection.execute("SELECT version_num FROM public.alembic_version")}
    if recorded - set(_revisions()):
        found = ", ".join(sorted(recorded))
        if all(_OWN_REVISION.fullmatch(revision) for revision in recorded):
            raise ForeignDatabaseError(
                f"expected a database at migration {newest_revision()} or an older one, found {found}: "
                "a newer release has migrated it",
                remedy="use that release or a newer one, or set DATABASE_URL to another database",
            )
        raise ForeignDatabaseError(
            f"expected a database of the platform, or an empty one, found migration {found}: the database of "
            "DATABASE_URL belongs to another program, for example Dagster or MLflow",
            remedy="set DATABASE_URL to a database of its own; Dagster's is DAGSTER_DATABASE_URL, and MLflow's "
            "MLFLOW_TRACKING_URI",
        )
    return max(recorded, default=None)


def newest_revision() -> str:
    """Return the id of the newest migration, from the file names."""
    return max(_revisions())


def _revisions() -> list[str]:
    return [path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")]


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

    variable_of = {option.keyword.decode(): option.envvar for option in pq.Conninfo.get_defaults()}
    usual = {"PGHOST": "localhost", "PGPORT": "5432", "PGUSER": "postgres", "PGPASSWORD": ""}
    given = {variable_of[keyword]: str(value) for keyword, value in _parameters(database_url).items()}
    return usual | {variable.decode(): value for variable, value in given.items() if variable}
