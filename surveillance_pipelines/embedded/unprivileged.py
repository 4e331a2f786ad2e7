"""Run a program that does not run as root: as the current user, or as a system account if that user is root.

PostgreSQL does not start as root. For root, this module uses an existing account (``postgres``, else ``nobody``); it
creates no account and changes no folder permissions. If that account cannot access the program or its data because a
parent folder is private (root's home, a ``mktemp -d``), the process keeps one capability of root, ``CAP_DAC_OVERRIDE``
(access to files regardless of permissions), through ``setpriv`` of util-linux. ``no_setuid_fixup`` makes the capability
effective for the program's own ``access(2)`` checks as well.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError

_ACCOUNTS: Final = ("postgres", "nobody")
_KEEP_FILE_ACCESS: Final = (
    "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup",
)  # fmt: skip


class UnreachableError(SurveillanceError, code=ErrorCode.UNAVAILABLE):
    """The account that has to run the program cannot access it."""


@dataclass(frozen=True)
class Account:
    """The account that runs a program. All fields are unset if the current user is not root.

    Attributes:
        prefix: command that changes the account and starts the program given after it.
        user: user id for the new process if there is no prefix.
        group: group id for the new process if there is no prefix.
        owner: user id and group id that must own the program's data.
    """

    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None
    owner: tuple[int, int] | None = None

    @classmethod
    def choose(cls, program: Path, folder: Path) -> Self:
        """Return the account with the fewest privileges that can run ``program`` and enter ``folder``.

        Raises:
            UnreachableError: if the current user is root and no account can.
        """
        if os.geteuid() != 0:
            return cls()
        entry = _system_account()
        ids = (entry.pw_uid, entry.pw_gid)
        candidates = [cls(user=ids[0], group=ids[1], owner=ids)]
        if setpriv := shutil.which("setpriv"):
            switch = (f"--reuid={ids[0]}", f"--regid={ids[1]}", "--clear-groups")
            candidates.append(cls(prefix=(setpriv, *switch, *_KEEP_FILE_ACCESS, "--"), owner=ids))
        for account in candidates:
            if account.can_access(program, folder):
                return account
        raise UnreachableError(
            f"PostgreSQL does not run as root, and the account {entry.pw_name!r} cannot access {program} and {folder}: "
            "run as an ordinary user, use a folder that other users may enter, or set DATABASE_URL to your own server"
        )

    def chown(self, folder: Path) -> None:
        """Make the account the owner of a folder."""
        if self.owner is not None:
            os.chown(folder, *self.owner)

    def own(self, folder: Path) -> None:
        """Make a folder private, and the account the owner of its contents; a plain copy of it has lost both."""
        folder.chmod(0o700)
        if self.owner is not None and (folder.stat().st_uid, folder.stat().st_gid) != self.owner:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, *self.owner, follow_symlinks=False)

    def start(self, command: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
        """Start a command in a new session and append its output to ``log``.

        The working directory is ``/``, because the account may not be able to enter the current one.
        """
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.prefix, *map(str, command)],
                cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                user=self.user, group=self.group, extra_groups=None if self.user is None else [],
            )  # fmt: skip

    def run(self, command: Sequence[str | Path], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command, wait for its end and capture its output."""
        return subprocess.run(
            [*self.prefix, *map(str, command)],
            cwd="/", check=False, capture_output=True, text=True, input=stdin,
            user=self.user, group=self.group, extra_groups=None if self.user is None else [],
        )  # fmt: skip

    def can_access(self, program: Path, folder: Path) -> bool:
        """Return whether the account can run the program and enter the folder."""
        try:
            runs = self.run([program, "--version"])
            enters = self.run(["test", "-x", folder])
        except PermissionError:
            return False
        return runs.returncode == 0 and enters.returncode == 0


def system_group() -> int | None:
    """Return the group of the account that runs programs for root, or None if there is no such account."""
    try:
        return _system_account().pw_gid
    except UnreachableError:
        return None


def _system_account() -> pwd.struct_passwd:
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise UnreachableError(
        f"PostgreSQL does not run as root: expected one of the accounts {', '.join(_ACCOUNTS)}, found none; run as an "
        "ordinary user, or set DATABASE_URL to your own server"
    )
