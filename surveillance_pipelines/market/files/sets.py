"""A path as files: a single file, the files of a folder, or those of a ZIP archive."""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from surveillance_pipelines.market.files.limits import FileLimitError, require_expansion
from surveillance_pipelines.market.files.options import FileError
from surveillance_pipelines.market.files.table import PARQUET_ENDINGS, is_text

_ZIP: Final = ".zip"


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file, and its name for people: of an archive, the archive's name and the member's."""

    name: str
    path: Path


@contextmanager
def files_of(path: Path) -> Iterator[list[NamedFile]]:
    """Return the files to read, in the order of their names; those of an archive exist within the ``with`` block.

    Files of other kinds and hidden files of a folder or an archive are left out.

    Raises:
        FileError: if nothing is at the path, or a folder or an archive has no file that can be read.
    """
    if path.is_dir():
        found = [each for each in sorted(path.rglob("*")) if each.is_file() and is_readable(each)]
        yield _at_least_one(
            [NamedFile(str(each), each) for each in found if not _is_hidden(each.relative_to(path))], path
        )
    elif path.suffix.lower() == _ZIP and path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            yield _at_least_one(_unpacked(path, Path(folder)), path)
    else:
        yield [NamedFile(str(path), path)]


def is_readable(path: Path) -> bool:
    """Return whether a file's name is of a kind that is read."""
    return path.suffix.lower() in PARQUET_ENDINGS or is_text(path)


def _unpacked(path: Path, folder: Path) -> list[NamedFile]:
    found: list[NamedFile] = []
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir() and _is_wanted(member.filename)]
            require_expansion(path, sum(member.file_size for member in members))
            for number, member in enumerate(sorted(members, key=lambda member: member.filename)):
                # The name in the archive may point out of a folder, so only its last part is used.
                target = folder / str(number) / PurePosixPath(member.filename).name
                target.parent.mkdir()
                with archive.open(member) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file)
                found.append(NamedFile(f"{path}/{member.filename}", target))
    except FileLimitError as error:
        raise FileError(str(error)) from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise FileError(f"expected a readable ZIP archive, {path.name} could not be read: {error}") from error
    return found


def _is_wanted(name: str) -> bool:
    place = PurePosixPath(name)
    return is_readable(Path(place.name)) and not _is_hidden(Path(*place.parts))


def _is_hidden(place: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in place.parts)


def _at_least_one(found: list[NamedFile], path: Path) -> list[NamedFile]:
    if not found:
        raise FileError(f"expected Parquet or CSV files in {path}, found none")
    return found
