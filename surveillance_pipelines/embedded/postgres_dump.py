"""Dumps of databases, made and restored with ``pg_dump`` and ``pg_restore`` of the embedded PostgreSQL."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from surveillance_pipelines.contracts.errors import OperationFailedError
from surveillance_pipelines.embedded.postgres_server import binary_folder, fatal_line


def dump(connection: Mapping[str, str], snapshot: str, target: Path) -> None:
    """Write all schemas of a database, as a snapshot sees them, to a file in PostgreSQL's custom format.

    Args:
        connection: environment variables of libpq (``PGHOST``, ``PGDATABASE``, …); a password in an argument would be
            visible to other users.
        snapshot: snapshot that an open transaction has exported.
        target: file to write.

    Raises:
        OperationFailedError: if ``pg_dump`` fails; the message contains its reason.
    """
    arguments = ("--format=custom", "--compress=1", f"--snapshot={snapshot}", f"--file={target}")
    _run("pg_dump", connection, arguments)


def restore(connection: Mapping[str, str], source: Path) -> None:
    """Restore a dump into an empty database, in one transaction.

    Args:
        connection: environment variables of libpq.
        source: file that ``dump`` has written.

    Raises:
        OperationFailedError: if ``pg_restore`` fails; the message contains its reason.
    """
    arguments = ("--exit-on-error", "--single-transaction", f"--dbname={connection['PGDATABASE']}", str(source))
    _run("pg_restore", connection, arguments)


def _run(program: str, connection: Mapping[str, str], arguments: Sequence[str]) -> None:
    command = [str(binary_folder() / program), "--no-owner", "--no-privileges", *arguments]
    done = subprocess.run(command, env={**os.environ, **connection}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OperationFailedError(
            f"expected {program} to succeed for the database {connection['PGDATABASE']}, got exit code "
            f"{done.returncode}: {fatal_line(done.stderr.splitlines())}"
        )
