"""The folder in which numba keeps compiled functions, chosen before numba is imported.

A module with a function compiled by ``njit(cache=True)`` cannot be imported if numba finds no writable folder, and
numba reads its configuration once. ``features/__init__.py`` therefore calls ``choose_cache`` before any of these
modules.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

VARIABLE: Final = "NUMBA_CACHE_DIR"
"""Environment variable of numba, which child processes inherit."""
COMPILED_CODE: Final = Path(__file__).resolve().parent / "features"
"""Folder of the modules with compiled functions. Those of other folders import it first."""
_FURTHER_CODE: Final = (COMPILED_CODE.with_name("models"),)


def find_cache(code: Path = COMPILED_CODE) -> Path | None:
    """Return the first writable folder for compiled functions, and create it if necessary; None if there is none.

    The order is: ``NUMBA_CACHE_DIR``, if it is set; the code's own ``__pycache__``, which all homes share; and
    ``cache/numba`` in SURVEILLANCE_HOME. Numba itself tries the first two in this order.

    Args:
        code: folder of the modules with compiled functions.
    """
    return next(filter(_is_writable, _candidates(code)), None)


def choose_cache(code: Path = COMPILED_CODE) -> None:
    """Let numba keep compiled functions in the folder of ``find_cache``; without one, each process compiles them."""
    folder = find_cache(code)
    if folder is None:
        _disable_cache(code)
    elif folder != code / "__pycache__":
        os.environ[VARIABLE] = str(folder)


def _candidates(code: Path) -> Iterator[Path]:
    if configured := os.environ.get(VARIABLE):
        yield Path(configured)
    if code != COMPILED_CODE or all(_is_writable(folder / "__pycache__") for folder in _FURTHER_CODE):
        yield code / "__pycache__"
    from pydantic import ValidationError

    from surveillance_pipelines.settings import Settings

    with contextlib.suppress(ValidationError):  # every command reports invalid settings
        yield Settings().surveillance_home / "cache" / "numba"


def _is_writable(folder: Path) -> bool:
    try:
        for part in (*reversed(folder.parents), folder):
            if not part.exists():
                # Private, because numba executes what it finds; other users must be able to read the code's folder.
                part.mkdir(mode=0o755 if folder.name == "__pycache__" else 0o700, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _disable_cache(code: Path) -> None:
    """Let numba compile in each process. It has no setting for this, and ``kernel.py`` asks for a cache."""
    from numba.core.dispatcher import Dispatcher

    Dispatcher.enable_caching = lambda self: None  # noqa: ARG005 (the name of the replaced method's argument)
    sys.stderr.write(
        "warning: each process compiles the features again, because compiled functions cannot be kept: expected a "
        f"writable folder, found none of {code / '__pycache__'}, cache/numba in SURVEILLANCE_HOME, {VARIABLE}\n"
    )
