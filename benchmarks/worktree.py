"""Checkouts of older commits of this repository."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import REPOSITORY


class UnknownCommitError(RuntimeError):
    """This repository has no such commit."""


@contextmanager
def worktree(folder: Path, commit: str, *, keep: bool = False) -> Iterator[Path]:
    """Check a commit out into a worktree of this repository for a ``with`` block.

    Raises:
        UnknownCommitError: if git cannot check it out.
    """
    done = _git(REPOSITORY, "worktree", "add", "--detach", str(folder), commit)
    if done.returncode != 0:
        raise UnknownCommitError(f"expected a commit {commit} in this repository, git says: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        if not keep:
            _git(REPOSITORY, "worktree", "remove", "--force", str(folder))


def short_hash(folder: Path, name: str) -> str:
    """Return the short hash of a commit; for ``HEAD``, marked if files of the checkout differ from it."""
    if name != "HEAD":
        return _git(folder, "rev-parse", "--short", name).stdout.strip()
    return _git(folder, "describe", "--always", "--dirty", "--exclude", "*").stdout.strip() or "no commit"


def commit_before(folder: Path, path: str) -> str:
    """Return the short hash of the parent of the newest commit that changed a path.

    Raises:
        UnknownCommitError: if git does not know it, as in a shallow clone.
    """
    newest = _git(folder, "log", "-1", "--format=%h", "--", path).stdout.strip()
    done = _git(folder, "rev-parse", "--short", f"{newest}^")
    if not newest or done.returncode != 0:
        raise UnknownCommitError(f"expected a commit before the newest one of {path}, git says: {done.stderr.strip()}")
    return done.stdout.strip()


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
