"""Any home and any database: each works (ingest twice, read back, doctor), or is refused with a true message."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from surveillance_pipelines.contracts.errors import InvalidInputError, SurveillanceError
from surveillance_pipelines.embedded.services import stop_services
from surveillance_pipelines.market.files.options import FileOptions
from surveillance_pipelines.services.doctor import check_database, check_home, check_lake
from surveillance_pipelines.services.facts import Fact
from surveillance_pipelines.services.failures import translate
from surveillance_pipelines.services.ingestion import ingest_file
from surveillance_pipelines.services.platform import Platform, open_platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect, is_same_database, migrate, newest_revision
from surveillance_pipelines_tests.storage_fixtures import service_settings

HOMES = (
    "plain", "a b", "é", "e\u0301", "日本", "🚀", "a#b", "100%", "a=b", "date=2024-03-06", "a+b", "it's", 'a"b', "a?b",
    "a*b", "a:b", "a;b", "a&b", "{x}", "$HOME", "`x`", "-x", "~x", "a\u2028b", "h é #1 100% a=b it's ?*:🚀 {x}",
)  # fmt: skip
REFUSED_HOMES = {
    "[x]": "SURVEILLANCE_HOME without [", "a\nb": "SURVEILLANCE_HOME without [", "a\tb": "SURVEILLANCE_HOME without [",
    "a]b": "got ']' in", "a%20b": "got '%20' in", "a\\b": "got '\\\\' in", "a|b": "got '|' in", "a^b": "got '^' in",
}  # fmt: skip
BARS = "symbol,ts,open,high,low,close,volume\n" + "".join(
    f"AAPL,2024-03-06T14:{minute}:00Z,10,12,9,{close},100\n" for minute, close in ((30, 10), (31, 11), (32, 12))
)


def ingest_and_read(platform: Platform, folder: Path) -> tuple[list[int], list[float]]:
    """Ingest three bars twice; return the landed counts and the closes in the lake."""
    file = folder / "bars [1].csv"
    file.write_text(BARS)
    counts = [ingest_file(platform, file, FileOptions()).landed.height for _ in range(2)]
    return counts, platform.lake.read("bars_landed").sort("bar_start")["close"].to_list()


def require_working(platform: Platform, folder: Path) -> None:
    assert ingest_and_read(platform, folder) == ([3, 0], [10.0, 11.0, 12.0])
    found = [finding for check in (check_home, check_database, check_lake) for finding in check(platform)]
    assert [(finding.name, finding.verdict) for finding in found] == [
        ("home", "ok"), ("database", "ok"), ("lake", "ok")
    ]  # fmt: skip


def at(settings: Settings, home: Path) -> Settings:
    """Return settings with a home, and everything that belongs in it."""
    return settings.model_copy(update={"surveillance_home": home, "lake_url": None, "model_storage_path": None})


@pytest.mark.parametrize("name", HOMES)
def test_home_works(settings: Settings, tmp_path: Path, name: str) -> None:
    (tmp_path / "homes").mkdir()
    home = tmp_path / "homes" / name
    require_working(Platform(at(settings, home)), tmp_path)
    assert [path.name for path in home.parent.iterdir()] == [name]
    assert sorted(path.name for path in home.iterdir()) == ["lake"]


@pytest.mark.parametrize("name", REFUSED_HOMES)
def test_home_is_refused_before_anything_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAKE_URL", raising=False)
    monkeypatch.setenv("SURVEILLANCE_HOME", str(tmp_path / name))
    with pytest.raises(InvalidInputError) as refused:
        open_platform()
    assert REFUSED_HOMES[name] in refused.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a]b", "a%20b", "a\\b", "a|b", "a^b"])
def test_remedy_for_a_folder_that_delta_refuses_works(settings: Settings, tmp_path: Path, name: str) -> None:
    platform = Platform(at(settings, tmp_path / name).model_copy(update={"lake_url": str(tmp_path / "other lake")}))
    assert ingest_and_read(platform, tmp_path) == ([3, 0], [10.0, 11.0, 12.0])


def test_artifacts_of_a_home_with_an_escape_stay_in_it(settings: Settings, tmp_path: Path) -> None:
    changed = {"lake_url": str(tmp_path / "lake"), "surveillance_home": tmp_path / "a%20b"}
    platform = Platform(settings.model_copy(update=changed))
    assert platform.endpoints.mlflow_artifact_root == f"file://{tmp_path}/a%2520b/mlartifacts"


def test_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(FileExistsError) as refused:
        _ = Platform(service_settings(tmp_path / "home")).endpoints
    assert str(tmp_path / "home") in translate(refused.value).message
    assert (tmp_path / "home").read_text() == ""


def _newer(url: str) -> None:
    migrate(url)
    _execute(url, "UPDATE public.alembic_version SET version_num = '9999'")


def _of_another_program(url: str) -> None:
    _execute(url, "CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY)")
    _execute(url, "INSERT INTO public.alembic_version VALUES ('29b539ebc72a')")


def _without_its_tables(url: str) -> None:
    migrate(url)
    _execute(url, "DROP SCHEMA ops CASCADE")


def _execute(url: str, statement: str) -> None:
    with connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (_newer, "found 9999: a newer release has migrated it", "use that release or a newer one"),
        (_of_another_program, "found migration 29b539ebc72a: the database of DATABASE_URL belongs to another program",
         "set DATABASE_URL to a database of its own"),
        (_without_its_tables, f"expected the tables of migration {newest_revision()}", "set DATABASE_URL to an empty"),
    ],
)  # fmt: skip
def test_database_that_is_not_of_this_release_is_refused_and_not_changed(
    settings: Settings, empty_database_url: str, change: Callable[[str], None], says: str, remedy: str
) -> None:
    change(empty_database_url)
    before = _tables(empty_database_url)
    platform = Platform(settings.model_copy(update={"database_url": SecretStr(empty_database_url)}))
    with pytest.raises(SurveillanceError) as refused:
        platform.prepare()
    assert says in refused.value.message
    assert remedy in refused.value.remedy
    (found,) = check_database(platform)
    assert found == Fact("database", "fail", refused.value.message, refused.value.remedy)
    assert _tables(empty_database_url) == before


def _tables(url: str) -> list[tuple[str, str]]:
    with connect(url) as connection:
        query = "SELECT table_schema, table_name FROM information_schema.tables ORDER BY 1, 2"
        return connection.execute(query).fetchall()


def test_database_of_dagster_is_named(settings: Settings, dagster_url: str) -> None:
    with pytest.raises(SurveillanceError, match="another program, for example Dagster or MLflow"):
        Platform(settings.model_copy(update={"database_url": SecretStr(dagster_url)})).prepare()


@pytest.mark.parametrize("setting", ["dagster_database_url", "mlflow_tracking_uri"])
def test_database_shared_with_another_program_is_refused(settings: Settings, setting: str) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    same = SecretStr(url) if setting == "dagster_database_url" else url
    with pytest.raises(InvalidInputError, match=f"expected {setting.upper()} and DATABASE_URL to name two databases"):
        _ = Platform(settings.model_copy(update={setting: same})).endpoints


def test_same_database_is_recognised_by_host_port_and_name() -> None:
    assert is_same_database("postgresql://a:b@localhost/x", "postgresql+psycopg2://c@localhost:5432/x")
    assert not is_same_database("postgresql://localhost/x", "postgresql://localhost/y")
    assert not is_same_database("postgresql://localhost:1/x", "postgresql://localhost:2/x")


@pytest.mark.parametrize("revision", ["0001", "0010"])
def test_older_database_is_migrated(settings: Settings, empty_database_url: str, tmp_path: Path, revision: str) -> None:
    migrate(empty_database_url, f"+{int(revision)}")
    home = at(settings, tmp_path / "home").model_copy(update={"database_url": SecretStr(empty_database_url)})
    require_working(Platform(home), tmp_path)


@pytest.mark.slow
def test_embedded_services_in_a_home_with_a_hard_name_notice_a_changed_database(tmp_path: Path) -> None:
    settings = service_settings(tmp_path / "h é #1 100% a=b it's ?*:🚀 {x}").model_copy(update={"lake_url": None})
    platform = Platform(settings)
    try:
        require_working(platform, tmp_path)
        _execute(platform.endpoints.database_url, "DROP SCHEMA ops CASCADE")
        with pytest.raises(SurveillanceError, match="its tables were dropped"):
            Platform(settings).prepare()
        (found,) = check_database(Platform(settings))
        assert found.verdict == "fail"
    finally:
        stop_services(settings)
