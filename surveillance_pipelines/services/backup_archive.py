"""The container of a backup: a folder or a tar file with parts and a manifest, which is written last.

A backup appears under its name only when it is complete.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any, Final, Self

from surveillance_pipelines.contracts.errors import IntegrityError, InvalidInputError

MANIFEST: Final = "manifest.json"
TAR: Final = ".tar"
_CHUNK: Final = 1 << 20
_DAMAGED: Final = "use another copy of the backup: this one is damaged"

Advanced = Callable[[str, int], None]
"""Called with the name of a part and the number of its bytes that were processed since the last call."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a backup. ``name`` is its path in the backup, with ``/``."""

    name: str
    bytes: int
    sha256: str


class _Measured(io.RawIOBase):
    """A file that is read once, with the size and hash of what was read."""

    def __init__(self, file: IO[bytes], advanced: Callable[[int], None]) -> None:
        self._file, self._advanced = file, advanced
        self._digest, self.count = hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._digest.update(chunk)
        self.count += len(chunk)
        self._advanced(len(chunk))
        return chunk

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class BackupWriter(ABC):
    """Writes a backup. Leaving the ``with`` block by an exception deletes what was written.

    Args:
        target: the backup to write.
        advanced: reports progress.

    Attributes:
        scratch: folder for temporary files, on the disk of the backup.
        parts: parts written so far.

    Raises:
        InvalidInputError: if the target exists, or has no folder.
    """

    def __init__(self, target: Path, advanced: Advanced) -> None:
        if target.exists():
            raise InvalidInputError(
                f"expected no file or folder at {target}, found one", remedy="choose another name for the backup"
            )
        if not target.parent.is_dir():
            raise InvalidInputError(f"expected the folder {target.parent}, found none", remedy="create it")
        self._target, self._advanced = target, advanced
        self.scratch: Final = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        self.parts: Final[list[Part]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)

    def add(self, name: str, source: Path) -> None:
        """Add a file that does not change."""
        with source.open("rb") as file:
            measured = _Measured(file, lambda count: self._advanced(name, count))
            self._write(name, measured, source.stat().st_size)
        self.parts.append(Part(name, measured.count, measured.sha256))

    def add_text(self, name: str, text: str) -> None:
        """Add a text."""
        file = self.scratch / "text"
        file.write_text(text)
        self.add(name, file)

    def finish(self, manifest: dict[str, Any]) -> None:
        """Add the manifest and give the backup its name; everything is on disk before that."""
        text = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
        self._write(MANIFEST, io.BytesIO(text), len(text))
        complete = self._close()
        os.sync()
        complete.rename(self._target)

    @abstractmethod
    def _write(self, name: str, source: Any, size: int) -> None: ...

    @abstractmethod
    def _close(self) -> Path:
        """Return the path of the complete backup."""


class _FolderWriter(BackupWriter):
    def __init__(self, target: Path, advanced: Advanced) -> None:
        super().__init__(target, advanced)
        self._folder = self.scratch / "content"
        self._folder.mkdir(mode=0o700)

    def _write(self, name: str, source: Any, size: int) -> None:  # noqa: ARG002 (a tar file needs the size)
        path = self._folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _create(path) as file:
            shutil.copyfileobj(source, file, _CHUNK)

    def _close(self) -> Path:
        return self._folder


class _TarWriter(BackupWriter):
    def __init__(self, target: Path, advanced: Advanced) -> None:
        super().__init__(target, advanced)
        self._path = self.scratch / "content.tar"
        self._tar = tarfile.open(self._path, "x", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed by `_close`)
        self._path.chmod(0o600)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()
        super().__exit__(kind, error, trace)

    def _write(self, name: str, source: Any, size: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o600
        self._tar.addfile(entry, source)

    def _close(self) -> Path:
        self._tar.close()
        return self._path


def _create(path: Path) -> IO[bytes]:
    """Create a file that only its owner can read."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")


def open_writer(target: Path, advanced: Advanced) -> BackupWriter:
    """Return the writer of a backup: a tar file if the name ends in ``.tar``, else a folder.

    Raises:
        InvalidInputError: if the target exists, has no folder, or has the ending of another archive.
    """
    if target.suffix == TAR:
        return _TarWriter(target, advanced)
    if target.suffix.lower() in (".gz", ".tgz", ".zip", ".zst", ".bz2", ".xz"):
        raise InvalidInputError(
            f"expected a folder or a file that ends in .tar, got {target.name}", remedy=f"use {target.name}.tar"
        )
    return _FolderWriter(target, advanced)


class BackupReader:
    """Reads a backup; ``open`` returns a part's file.

    Args:
        source: folder or tar file.

    Attributes:
        manifest: contents of the manifest.
    """

    def __init__(self, source: Path, open_part: Callable[[str], IO[bytes]]) -> None:
        self._source, self._open = source, open_part
        try:
            with open_part(MANIFEST) as file:
                self.manifest: Final[dict[str, Any]] = json.load(file)
        except (KeyError, FileNotFoundError, ValueError, tarfile.TarError) as error:
            raise InvalidInputError(
                f"expected a backup with {MANIFEST} in {source}, found none that can be read",
                remedy="name a folder or file that `surveillance backup` has written",
            ) from error

    @property
    def parts(self) -> list[Part]:
        """The parts of the manifest.

        Raises:
            IntegrityError: if a name leads out of the backup.
        """
        parts = [Part(**part) for part in self.manifest["parts"]]
        for part in parts:
            path = PurePosixPath(part.name)
            if path.is_absolute() or ".." in path.parts:
                raise IntegrityError(f"expected names below the backup in {MANIFEST}, got {part.name!r}")
        return parts

    def verify(self, advanced: Advanced) -> None:
        """Compare the size and the sha256 of each part with the manifest.

        Raises:
            IntegrityError: if a part is missing or differs.
        """
        for part in self.parts:
            self.copy(part, None, advanced)

    def copy(self, part: Part, target: Path | None, advanced: Advanced) -> None:
        """Copy a part to a file, which must not exist, and compare it with the manifest; None only compares.

        Raises:
            IntegrityError: if the part is missing or differs.
        """
        try:
            with self._open(part.name) as file, _sink(target) as sink:
                measured = _Measured(file, lambda count: advanced(part.name, count))
                shutil.copyfileobj(measured, sink, _CHUNK)
        except (KeyError, FileNotFoundError, tarfile.TarError) as error:
            raise IntegrityError(
                f"expected {part.name} in the backup {self._source}, found none that can be read", remedy=_DAMAGED
            ) from error
        if (measured.count, measured.sha256) != (part.bytes, part.sha256):
            raise IntegrityError(
                f"expected {part.name} in the backup {self._source} with {part.bytes} bytes and the sha256 "
                f"{part.sha256[:12]}, got {measured.count} bytes and {measured.sha256[:12]}",
                remedy=_DAMAGED,
            )


@contextmanager
def _sink(target: Path | None) -> Iterator[IO[bytes]]:
    if target is None:
        with Path(os.devnull).open("wb") as file:
            yield file
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _create(target) as file:
        yield file


@contextmanager
def open_reader(source: Path) -> Iterator[BackupReader]:
    """Open a backup for a ``with`` block.

    Raises:
        InvalidInputError: if there is no backup.
    """
    if source.is_dir():
        yield BackupReader(source, lambda name: (source / name).open("rb"))
        return
    try:
        tar = tarfile.open(source, "r:")  # noqa: SIM115 (closed by `closing`)
    except (FileNotFoundError, tarfile.TarError) as error:
        raise InvalidInputError(
            f"expected a backup (a folder or a .tar file) at {source}, found "
            f"{'another file' if source.exists() else 'nothing'}"
        ) from error
    with closing(tar):
        yield BackupReader(source, lambda name: _member(tar, name))


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    found = tar.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found
