"""Permissions of a home: new ones are private, and those of an older version are made so."""

import os
import stat
from pathlib import Path

import pytest

from surveillance_pipelines.embedded.private_folders import protect_home
from surveillance_pipelines.embedded.queue_credentials import credentials_file, queue_credentials
from surveillance_pipelines.embedded.service_home import ServiceHome


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as an older version left it: readable by all."""
    home = tmp_path / "home"
    for name in ("dagster", "embedded", "embedded/holders", "lake", "logs", "models"):
        (home / name).mkdir(parents=True)
        (home / name).chmod(0o755)
    for name in ("services.json", "embedded/postgres.json"):
        (home / name).write_text("{}")
        (home / name).chmod(0o644)
    home.chmod(0o755)
    return home


def test_prepare_makes_an_existing_home_private(home: Path) -> None:
    ServiceHome(home).prepare()
    for path in (home, *home.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o067 == 0, path
        assert mode & 0o010 == 0 or os.geteuid() == 0, path


def test_protect_home_leaves_a_folder_of_others_and_its_other_files(home: Path) -> None:
    (home / "notes.txt").write_text("mine")
    (home / "notes.txt").chmod(0o644)
    home.chmod(0o1777)
    protect_home(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o1777
    assert stat.S_IMODE((home / "notes.txt").stat().st_mode) == 0o644
    assert stat.S_IMODE((home / "logs").stat().st_mode) == 0o700


def test_protect_home_does_not_follow_a_link(home: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (home / "lake").rmdir()
    (home / "lake").symlink_to(shared)
    protect_home(home)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_protect_home_ignores_a_file_that_another_process_renames(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.glob

    def with_a_renamed_file(folder: Path, pattern: str) -> list[Path]:
        return [folder / ".aws_config-renamed", *listed(folder, pattern)]

    monkeypatch.setattr(Path, "glob", with_a_renamed_file)
    protect_home(home)
    assert stat.S_IMODE((home / "embedded" / "postgres.json").stat().st_mode) == 0o600


def test_protect_home_without_a_home_creates_nothing(tmp_path: Path) -> None:
    protect_home(tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_queue_credentials_are_created_once_and_private(tmp_path: Path) -> None:
    homes = [ServiceHome(tmp_path / name) for name in ("one", "two")]
    for home in homes:
        home.prepare()
    first = queue_credentials(homes[0])
    assert queue_credentials(homes[0]) == first
    assert queue_credentials(homes[1]).secret_access_key != first.secret_access_key
    assert stat.S_IMODE(credentials_file(homes[0]).stat().st_mode) == 0o600
    assert str(first.secret_access_key) not in repr(first)
