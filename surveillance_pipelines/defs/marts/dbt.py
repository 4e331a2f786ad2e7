"""Dagster resource of the dbt command line, and row counts of the built tables."""

from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import version
from typing import Any

import dagster as dg
import psycopg
from dagster_dbt import DbtCliInvocation, DbtCliResource
from packaging.version import Version
from psycopg import sql


class InstalledDbt(DbtCliResource):
    """The dbt command line of this environment.

    The base class runs ``dbt --version`` before each build, which takes seconds and accesses the package index.
    """

    @cached_property
    def _cli_version(self) -> Version:
        return Version(version("dbt-core"))


def with_row_counts(invocation: DbtCliInvocation) -> Iterator[Any]:
    """Yield the events of a build, with ``dagster/row_count`` on those of tables.

    The connection uses libpq's environment variables, as dbt does. The row counts of dagster-dbt query the database of
    the manifest, which may differ from the one that was built.
    """
    with psycopg.connect(autocommit=True) as connection:
        for event in invocation.stream():
            yield _with_row_count(event, invocation, connection) if isinstance(event, dg.Output) else event


def _with_row_count(event: dg.Output, invocation: DbtCliInvocation, connection: psycopg.Connection) -> dg.Output:
    node = invocation.manifest["nodes"][event.metadata["unique_id"].value]
    if node["config"]["materialized"] == "view":
        return event
    count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(node["schema"], node["alias"]))
    row = connection.execute(count).fetchone()
    return event.with_metadata({**event.metadata, "dagster/row_count": 0 if row is None else row[0]})
