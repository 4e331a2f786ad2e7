"""Restoring a backup into an empty home.

The new home is built beside its place and renamed when everything is in it, so an interrupted restore leaves no home
that looks complete.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from surveillance_pipelines.contracts.endpoints import Endpoints
from surveillance_pipelines.contracts.errors import ConflictError, IntegrityError, InvalidInputError
from surveillance_pipelines.contracts.locations import local_folder
from surveillance_pipelines.services.backup import FORMAT, database_urls, require_embedded_database
from surveillance_pipelines.services.backup_archive import Advanced, BackupReader, open_reader
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    from surveillance_pipelines.embedded.services import EmbeddedServices

SETTINGS_OF_BACKUP: Final = "settings-of-backup.env"
"""File in the restored home with the settings of the backup."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored home.

    Attributes:
        rows: database → table → number of rows, equal to those of the backup.
        files: number of restored files.
        begun_at: when the backup began (ISO 8601); later changes are not in it.
        settings_file: file with the settings of the backup.
    """

    rows: dict[str, dict[str, int]]
    files: int
    begun_at: str
    settings_file: Path


def restore(settings: Settings, source: Path, advanced: Advanced) -> Restored:
    """Restore a backup into SURVEILLANCE_HOME, which must be empty, and start nothing there.

    Raises:
        InvalidInputError: if there is no backup, it has a newer format, or DATABASE_URL is configured.
        ConflictError: if the home, or a configured folder of lake or models, has data, or another release made the
            backup.
        IntegrityError: if a part is missing or differs from the manifest, or a table has another number of rows.
    """
    require_embedded_database(settings)
    home = settings.surveillance_home
    with open_reader(source) as backup:
        _require_restorable(backup.manifest)
        _require_empty(settings)
        backup.verify(advanced)
        building = home.with_name(f".{home.name}.restoring")
        work = _of_home(settings, building)
        _delete(work)
        try:
            rows = _build(work, backup, advanced)
            if home.exists():
                shutil.rmtree(home)  # empty, or compiled functions
            building.rename(home)
        except BaseException:
            _delete(work)
            _delete_outside(settings)
            raise
    return Restored(rows, len(backup.parts), str(backup.manifest["begun_at"]), home / SETTINGS_OF_BACKUP)


def restored_bytes(source: Path) -> int:
    """Return the bytes that ``restore`` reads: each part is verified, then copied."""
    with open_reader(source) as backup:
        return 2 * sum(part.bytes for part in backup.parts)


def _require_restorable(manifest: Mapping[str, Any]) -> None:
    from surveillance_pipelines.engine.code_version import scoring_code_version
    from surveillance_pipelines.stores.database import newest_revision

    if manifest["format"] > FORMAT:
        raise InvalidInputError(
            f"expected a backup of format {FORMAT} or older, got format {manifest['format']}",
            remedy="restore it with the release that made it, or a newer one",
        )
    ours = {"code_version": scoring_code_version(), "migration": newest_revision()}
    theirs = {name: manifest[name] for name in ours}
    if theirs != ours:
        raise ConflictError(
            "expected a backup made by this code "
            f"({ours['code_version']}, migration {ours['migration']}), got one made by {theirs['code_version']}, "
            f"migration {theirs['migration']}",
            remedy="restore it with the release that made it, then upgrade that home as usual",
        )


def _require_empty(settings: Settings) -> None:
    from surveillance_pipelines.services.homes import is_empty

    home = settings.surveillance_home
    if not is_empty(home):
        raise ConflictError(
            f"expected no data in {home}, found {_some_names(home)}",
            remedy="set SURVEILLANCE_HOME (or --home) to a folder that does not exist yet",
        )
    for folder in _outside(settings):
        if folder.is_dir() and any(folder.iterdir()):
            raise ConflictError(
                f"expected no data in {folder}, found {_some_names(folder)}",
                remedy="move it away, or set LAKE_URL and MODEL_STORAGE_PATH to folders that do not exist yet",
            )


def _some_names(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:5]) if folder.is_dir() else "a file"


def _outside(settings: Settings) -> list[Path]:
    """Return the configured folders of lake and models, which lie outside of the new home."""
    lake = None if settings.lake_url is None else local_folder(settings.lake_url)
    folders = [] if lake is None else [lake.expanduser().absolute()]
    return folders + ([] if settings.model_storage_path is None else [settings.model_storage_path])


def _of_home(settings: Settings, home: Path) -> Settings:
    copied = settings.model_copy(update={"surveillance_home": home})
    cast("dict[str, Any]", copied.__dict__).pop(
        "models_path", None
    )  # derived from the home, and copied if it was computed before
    return copied


def _build(work: Settings, backup: BackupReader, advanced: Advanced) -> dict[str, dict[str, int]]:
    from surveillance_pipelines.embedded.services import hold, stop_services
    from surveillance_pipelines.services.endpoints import locate

    with hold(work) as services:
        endpoints = locate(work, services)
        rows = _restore_databases(work, endpoints, services, backup, advanced)
    stop_services(work)
    folders = {
        "lake": local_folder(endpoints.lake_url),
        "models": endpoints.models_path,
        "mlartifacts": work.surveillance_home / "mlartifacts",
        "home": work.surveillance_home,
    }
    for part in backup.parts:
        kind, _, rest = part.name.partition("/")
        if (folder := folders.get(kind)) is not None:
            backup.copy(part, folder / rest, advanced)
        elif not rest:
            backup.copy(part, work.surveillance_home / SETTINGS_OF_BACKUP, advanced)
    return rows


def _restore_databases(
    work: Settings, endpoints: Endpoints, services: "EmbeddedServices", backup: BackupReader, advanced: Advanced
) -> dict[str, dict[str, int]]:
    from surveillance_pipelines.embedded.postgres_dump import restore as restore_dump
    from surveillance_pipelines.stores.database import ensure_database, postgres_variables
    from surveillance_pipelines.stores.snapshots import row_counts

    urls, rows = database_urls(work, endpoints), {}
    for part in backup.parts:
        kind, _, file = part.name.partition("/")
        name = file.removesuffix(".dump")
        if kind != "databases" or name not in urls:
            continue
        dump = work.surveillance_home / file
        backup.copy(part, dump, advanced)
        ensure_database(services.server_url, name)
        restore_dump(postgres_variables(urls[name]), dump)
        dump.unlink()
        rows[name] = row_counts(urls[name])
        if differing := {k for k, v in backup.manifest["rows"][name].items() if rows[name].get(k) != v}:
            table = min(differing)
            raise IntegrityError(
                f"expected {backup.manifest['rows'][name][table]} rows in {table} of the database {name}, got "
                f"{rows[name].get(table)}"
            )
    return rows


def _delete(work: Settings) -> None:
    """Delete an unfinished home, of this restore or of one that was killed."""
    from surveillance_pipelines.embedded.services import release, stop_services
    from surveillance_pipelines.services.homes import require_unused

    if not work.surveillance_home.exists():
        return
    release(work)
    require_unused(work.surveillance_home)
    stop_services(work)
    shutil.rmtree(work.surveillance_home)


def _delete_outside(settings: Settings) -> None:
    for folder in _outside(settings):
        shutil.rmtree(folder, ignore_errors=True)
