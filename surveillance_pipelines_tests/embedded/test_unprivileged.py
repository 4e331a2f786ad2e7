"""The account that runs PostgreSQL: the current user, a system account, or that account with access to all files."""

import os
import sys
from pathlib import Path

import pytest

from surveillance_pipelines.embedded.postgres_server import binary_folder
from surveillance_pipelines.embedded.unprivileged import Account, UnreachableError

POSTGRES = binary_folder() / "postgres"
_START_AND_STOP = """
import os, sys
from pathlib import Path
from surveillance_pipelines_tests.storage_fixtures import service_settings
from surveillance_pipelines.embedded.services import ensure_services, stop_services
settings = service_settings(Path(sys.argv[1]))
found = ensure_services(settings)
print(os.geteuid() == 0, found.postgres.process().uids().effective)
stop_services(settings)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the account")


@pytest.mark.skipif(os.geteuid() == 0, reason="tests an ordinary user")
def test_choose_for_an_ordinary_user_keeps_the_account(tmp_path: Path) -> None:
    assert Account.choose(POSTGRES, tmp_path) == Account()


@needs_root
def test_choose_for_an_accessible_folder_uses_a_plain_account(tmp_path: Path) -> None:
    program = Path("/bin/true")
    account = Account.choose(program, Path("/"))
    assert account.prefix == ()
    assert account.user not in (None, 0)
    assert account.run(["id", "-u"]).stdout.strip() == str(account.user)
    assert account.run(["id", "-G"]).stdout.strip() == str(account.group)


@needs_root
def test_choose_for_a_folder_in_a_private_one_keeps_only_file_access(tmp_path: Path) -> None:
    private = tmp_path / "private"
    folder = private / "data"
    folder.mkdir(parents=True)
    private.chmod(0o700)
    account = Account.choose(POSTGRES, folder)
    assert account.prefix
    status = account.run(["cat", "/proc/self/status"]).stdout
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    dac_override = 0x2
    assert int(found["CapEff"], 16) == dac_override
    assert found["Uid"].split()[1] != "0"
    assert private.stat().st_mode & 0o777 == 0o700


@needs_root
def test_choose_without_setpriv_explains_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="DATABASE_URL"):
        Account.choose(POSTGRES, private / "data")


@needs_root
def test_services_of_an_ordinary_user_start_and_stop(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    account = Account.choose(Path(sys.executable), home)
    account.chown(home)
    done = account.run([sys.executable, "-c", _START_AND_STOP, home])
    assert done.stderr == ""
    assert done.stdout.split() == ["False", str(account.owner and account.owner[0])]
