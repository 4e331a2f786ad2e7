"""Recognition of a home that was copied or moved, so that it never uses the original's processes or addresses.

<home>/embedded/home.json   absolute path of the home when its services last started

The records of a copy name processes and ports of the original: holders, the queue server, PostgreSQL's port. They are
deleted before the first use of the copy.
"""

import fcntl
from pathlib import Path
from typing import Final

from surveillance_pipelines.contracts.errors import ConflictError
from surveillance_pipelines.embedded.service_home import ServiceHome, read_json, write_json

_POSTGRES_RUNS: Final = "postmaster.pid"
"""File that PostgreSQL deletes when it stops."""


def settle(home: ServiceHome) -> None:
    """Record where a home is; if it was copied or moved, first delete the records that belong to the original.

    Raises:
        ConflictError: if the home is a copy of one whose PostgreSQL was running, because such a copy is inconsistent.
    """
    if not has_moved(home) and _record(home).is_file():
        return
    with (home.embedded / "home.lock").open("w") as lock:  # processes that start at the same time settle once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if has_moved(home):
            _require_stopped_original(home)
            _forget(home)
        write_json(_record(home), {"home": str(home.home.resolve())})


def has_moved(home: ServiceHome) -> bool:
    """Return whether a home was copied or moved since its services last started; its records are not its own."""
    recorded = _recorded(home)
    return recorded is not None and recorded != home.home.resolve()


def _require_stopped_original(home: ServiceHome) -> None:
    original = _recorded(home)
    if original is None:
        return
    if (original / "embedded").is_dir() and (home.postgres / _POSTGRES_RUNS).is_file():
        raise ConflictError(
            f"expected {home.home} to be a copy of a stopped home, got a copy of {original} from while its PostgreSQL "
            "was running, or was killed",
            remedy=f"start {original} once, stop it, and copy it again; or, if {original} is not needed, delete it",
        )


def _forget(home: ServiceHome) -> None:
    for file in (home.record, home.embedded / "queue.json", home.embedded / "prepared.json"):
        file.unlink(missing_ok=True)
    for holder in home.holders.glob("[0-9]*"):
        holder.unlink(missing_ok=True)
    secrets = home.embedded / "postgres.json"
    if (kept := read_json(secrets)) is not None:
        write_json(secrets, {name: value for name, value in kept.items() if name != "port"})


def _recorded(home: ServiceHome) -> Path | None:
    found = read_json(_record(home))
    return None if found is None else Path(found["home"])


def _record(home: ServiceHome) -> Path:
    return home.embedded / "home.json"
