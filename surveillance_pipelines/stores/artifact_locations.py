"""Locations of MLflow's files in its database: absolute, so they are changed when a home was copied or moved.

MLflow has no call that changes the location of an experiment. Without the change, a training in a copied home would
write into the original.
"""

from typing import Any, Final

import psycopg
from psycopg import sql

from surveillance_pipelines.stores.database import connect, normalise_url
from surveillance_pipelines.stores.registry import EXPERIMENT

_LOCATION: Final = "SELECT artifact_location FROM experiments WHERE name = %s"
_COLUMNS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate_artifacts(tracking_uri: str, root: str) -> int:
    """Change the locations of the experiment's files to a folder; return the number of changed values.

    Does nothing if the database has no MLflow tables, or no experiment, or the location is a bucket or already right.

    Args:
        tracking_uri: MLflow's database.
        root: folder of the files in this home, or its ``file://`` URL.
    """
    with connect(normalise_url(tracking_uri, "libpq")) as connection:
        if connection.execute("SELECT to_regclass('experiments')").fetchone() == (None,):
            return 0
        row = connection.execute(_LOCATION, (EXPERIMENT,)).fetchone()
        before = None if row is None else str(row[0])
        if before is None or before == root or not before.startswith(("/", "file://")):
            return 0
        return sum(_replace(connection, table, column, before, root) for table, column in _COLUMNS)


def _replace(connection: psycopg.Connection[Any], table: str, column: str, before: str, after: str) -> int:
    statement = sql.SQL(
        "UPDATE {table} SET {column} = %(after)s || substr({column}, length(%(before)s) + 1)"
        " WHERE {column} = %(before)s OR starts_with({column}, %(before)s || '/')"
    ).format(table=sql.Identifier(table), column=sql.Identifier(column))
    return connection.execute(statement, {"before": before, "after": after}).rowcount
