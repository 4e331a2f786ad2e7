"""Backup of a home: everything that cannot be computed again, from one consistent state.

``docs/adr/0030-backup.md`` explains the order of the steps. ``services/restoration.py`` reads a backup.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from surveillance_pipelines.clock import now
from surveillance_pipelines.contracts.endpoints import DEMO_MARKER, Endpoints
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.locations import local_folder
from surveillance_pipelines.services.backup_archive import Advanced, BackupWriter, open_writer
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings

FORMAT: Final = 1
"""Version of the layout; a change that this code could not restore increments it."""
DATABASES: Final = ("dagster", "surveillance", "mlflow")
"""Databases in the order of their dumps: what is referred to is dumped after what refers to it."""
SETTINGS_FILE: Final = "settings.env"
_BUILDS: Final = "build"
"""Folder in the models folder with the files that the steps of a training run exchange."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A finished backup.

    Attributes:
        bytes: size of all parts.
        files: kind of part → number of files.
        rows: database → table → number of rows.
        left_out: what the backup does not contain, with the reason.
        waiting: queue → number of messages that were in it.
        problems: damage that was found, such as files of the lake that do not exist.
    """

    bytes: int
    files: dict[str, int]
    rows: dict[str, dict[str, int]]
    left_out: list[str]
    waiting: dict[str, int]
    problems: list[str] = field(default_factory=list)


def back_up(platform: Platform, target: Path, advanced: Advanced) -> BackedUp:
    """Write a backup of the home to a new folder, or to a new file if the name ends in ``.tar``.

    Runs may serve meanwhile. The dump of the platform's database is one snapshot; tables of the lake, bundles and
    MLflow's files, to which it refers, are only added, and are copied after it.

    Raises:
        InvalidInputError: if the target exists or lies in the home, or DATABASE_URL is configured.
    """
    require_embedded_database(platform.settings)
    target = target.expanduser().absolute()
    if target.is_relative_to(platform.home):
        raise InvalidInputError(
            f"expected a place outside of {platform.home} for the backup, got {target}", remedy="choose another folder"
        )
    with open_writer(target, advanced) as writer:
        endpoints, begun = platform.endpoints, now(platform.clock)
        rows, problems = _add_databases(writer, platform.settings, endpoints), []
        waiting = _waiting(platform, endpoints)
        versions = _add_lake(writer, platform, problems)
        for name, source in _files(platform.settings, endpoints):
            writer.add(name, source)
        writer.add_text(SETTINGS_FILE, settings_text(platform.settings))
        done = BackedUp(
            bytes=sum(part.bytes for part in writer.parts), files=_count(writer), rows=rows,
            left_out=_left_out(platform.settings, endpoints), waiting=waiting, problems=problems,
        )  # fmt: skip
        writer.finish(_manifest(writer, done, versions, begun))
    return done


def expected_bytes(platform: Platform) -> int:
    """Return about how many bytes of files a backup will copy; dumps are added to it."""
    from surveillance_pipelines.services.homes import folder_size

    require_embedded_database(platform.settings)
    endpoints = platform.endpoints
    files = sum(path.stat().st_size for _, path in _files(platform.settings, endpoints))
    lake = local_folder(endpoints.lake_url)
    return files if lake is None else files + folder_size(lake)


def require_embedded_database(settings: Settings) -> None:
    """Raise ``InvalidInputError`` if the home's database is another server's."""
    if settings.database_url is not None:
        raise InvalidInputError(
            "expected a home with the embedded database, got a configured DATABASE_URL",
            remedy="back up that server with its own tools (pg_dump), and copy the models folder and the lake after it",
        )


def database_urls(settings: Settings, endpoints: Endpoints) -> dict[str, str]:
    """Return the URLs of the databases on the embedded server, in the order of their dumps."""
    from surveillance_pipelines.stores.database import with_database

    configured = {
        "dagster": settings.dagster_database_url,
        "mlflow": settings.mlflow_tracking_uri,
        "surveillance": None,
    }
    return {name: with_database(endpoints.database_url, name) for name in DATABASES if configured[name] is None}


def settings_text(settings: Settings) -> str:
    """Return the settings that differ from their defaults, in the format of ``.env``, without secrets and addresses."""
    lines = ["# Settings of the home when it was backed up. Copy them to your own .env."]
    for name, info in Settings.model_fields.items():
        value = getattr(settings, name)
        if value == info.default:
            continue
        if name == "surveillance_home":
            lines.append(f"# SURVEILLANCE_HOME was {value}")
        elif "Secret" in str(info.annotation) or not info.repr or "@" in str(value):
            lines.append(f"# {name.upper()} was set; it is not included, because it may contain a secret")
        else:
            shown = ",".join(value) if isinstance(value, tuple) else str(value).lower() if value is True else str(value)
            lines.append(f"{name.upper()}={shown}")
    return "\n".join(lines) + "\n"


def _add_databases(writer: BackupWriter, settings: Settings, endpoints: Endpoints) -> dict[str, dict[str, int]]:
    from surveillance_pipelines.embedded.postgres_dump import dump
    from surveillance_pipelines.stores.database import postgres_variables
    from surveillance_pipelines.stores.snapshots import snapshot

    rows = {}
    for name, url in database_urls(settings, endpoints).items():
        file = writer.scratch / f"{name}.dump"
        with snapshot(url) as seen:
            dump(postgres_variables(url), seen.name, file)
        rows[name] = seen.rows
        writer.add(f"databases/{name}.dump", file)
        file.unlink()
    return rows


def _add_lake(writer: BackupWriter, platform: Platform, problems: list[str]) -> dict[str, int | None]:
    from surveillance_pipelines.stores.lake_files import table_files, table_names

    lake = platform.lake
    if (folder := local_folder(lake.url)) is None:
        return {}
    versions: dict[str, int | None] = {}
    for table in table_names(lake):
        found = table_files(lake, table)
        versions[table] = found.version
        for path in found.paths:
            writer.add(f"lake/{table}/{path.as_posix()}", folder / table / path)
        if found.problem:
            problems.append(f"lake table {table}: {found.problem}")
    return versions


def _files(settings: Settings, endpoints: Endpoints) -> Iterator[tuple[str, Path]]:
    """Return the names and paths of bundles, MLflow's files and the marker of a demo."""
    folders = {"models": endpoints.models_path, "mlartifacts": Path(endpoints.mlflow_artifact_root or "/nowhere")}
    for kind, folder in folders.items():
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            relative = path.relative_to(folder)
            if path.is_file() and not (kind == "models" and relative.parts[0] == _BUILDS):
                yield f"{kind}/{relative.as_posix()}", path
    if (marker := settings.surveillance_home / DEMO_MARKER).is_file():
        yield f"home/{DEMO_MARKER}", marker


def _waiting(platform: Platform, endpoints: Endpoints) -> dict[str, int]:
    waiting = {}
    for url in (*endpoints.queue_urls, endpoints.output_queue_url):
        depth = platform.queue(url).depth()
        waiting[url.rsplit("/", 1)[-1]] = depth.visible + depth.in_flight
    return waiting


def _left_out(settings: Settings, endpoints: Endpoints) -> list[str]:
    left = ["the queues", "logs and the output of Dagster's runs", "secrets"]
    if settings.dagster_database_url is not None:
        left.append("Dagster's database (DAGSTER_DATABASE_URL): back it up on its server")
    if settings.mlflow_tracking_uri is not None:
        left.append("MLflow (MLFLOW_TRACKING_URI): back it up on its server")
    if local_folder(endpoints.lake_url) is None:
        left.append(f"the lake {endpoints.lake_url}: its bucket keeps it; turn on versioning there")
    return left


def _count(writer: BackupWriter) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in writer.parts:
        kind = part.name.split("/")[0]
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _manifest(writer: BackupWriter, done: BackedUp, lake: Mapping[str, int | None], begun: datetime) -> dict[str, Any]:
    from surveillance_pipelines.engine.code_version import scoring_code_version
    from surveillance_pipelines.stores.database import newest_revision

    return {
        "format": FORMAT,
        "begun_at": begun.isoformat(),
        "code_version": scoring_code_version(),
        "migration": newest_revision(),
        "rows": done.rows,
        "lake": dict(lake),
        "waiting": done.waiting,
        "left_out": done.left_out,
        "problems": done.problems,
        "parts": [asdict(part) for part in writer.parts],
    }
