"""Files of users for the commands: the facts that options state, and the files of folders and archives."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from surveillance_pipelines.market.files.layouts import NAMES
from surveillance_pipelines.market.files.options import FileOptions, parse_columns
from surveillance_pipelines.market.files.sets import NamedFile, files_of


def file_options(*, columns: str = "", **facts: Any) -> FileOptions:
    """Return the facts about a file that the options of a command state.

    Args:
        columns: names of columns, such as ``time=window_start,open=o``.
        facts: the other fields of ``FileOptions``.

    Raises:
        InvalidInputError: if ``columns`` cannot be parsed.
    """
    return FileOptions(columns=parse_columns(columns, NAMES), **facts)


@contextmanager
def all_files(paths: Sequence[Path]) -> Iterator[list[NamedFile]]:
    """Return the files of all paths; those of archives exist within the ``with`` block.

    Raises:
        FileError: if a folder or an archive has no file that can be read.
    """
    with ExitStack() as opened:
        yield [file for path in paths for file in opened.enter_context(files_of(path))]
