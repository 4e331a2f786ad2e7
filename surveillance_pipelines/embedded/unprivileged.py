"""Run a program that refuses to be root: as itself for an ordinary user, as a system account when we are root.

PostgreSQL does not start as root. As root we take an account that exists already (``postgres``, else ``nobody``): no
account is created, and no permission of a folder is changed. Where that account cannot reach the program or its data,
because a parent folder is private (a home of root's, a ``mktemp -d``), the process keeps one ability of root's,
``CAP_DAC_OVERRIDE`` (reach files whatever their permissions), through ``setpriv`` of util-linux; ``no_setuid_fixup``
lets the program's own ``access(2)`` checks see it too.
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
    """The account that must run the program cannot reach it."""


@dataclass(frozen=True)
class Account:
    """Who runs a program. For an ordinary user nothing is set.

    Attributes:
        prefix: a command that changes the account and starts the program that follows it.
        user: user id that the new process takes by itself, where no prefix does that.
        group: its group id.
        owner: user and group id that the program's data must belong to.
    """

    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None
    owner: tuple[int, int] | None = None

    @classmethod
    def choose(cls, program: Path, folder: Path) -> Self:
        """Return the account that can run ``program`` and enter ``folder``, with the least that it takes.

        Raises:
            UnreachableError: if we are root and no way is open.
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
            if account.reaches(program, folder):
                return account
        raise UnreachableError(
            f"PostgreSQL does not run as root, and the account {entry.pw_name!r} cannot reach {program} and {folder}. "
            "Work as an ordinary user, or in a folder that others may enter, or set DATABASE_URL to a server of yours."
        )

    def give(self, folder: Path) -> None:
        """Make a folder of ours the account's own."""
        if self.owner is not None:
            os.chown(folder, *self.owner)

    def start(self, command: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own; its output goes to the end of ``log``.

        It starts in ``/``: the account may not be able to enter the current folder.
        """
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.prefix, *map(str, command)],
                cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                user=self.user, group=self.group, extra_groups=None if self.user is None else [],
            )  # fmt: skip

    def run(self, command: Sequence[str | Path], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and keep what it says."""
        return subprocess.run(
            [*self.prefix, *map(str, command)],
            cwd="/", check=False, capture_output=True, text=True, input=stdin,
            user=self.user, group=self.group, extra_groups=None if self.user is None else [],
        )  # fmt: skip

    def reaches(self, program: Path, folder: Path) -> bool:
        """Say whether the account can run the program and enter the folder."""
        try:
            runs = self.run([program, "--version"])
            enters = self.run(["test", "-x", folder])
        except PermissionError:
            return False
        return runs.returncode == 0 and enters.returncode == 0


def _system_account() -> pwd.struct_passwd:
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise UnreachableError(f"PostgreSQL does not run as root, and none of the accounts {_ACCOUNTS} exists here")
