"""The hash of the code that decides a score: the row contract's ``code_version``."""

from functools import cache
from importlib.metadata import version
from typing import Final

from surveillance_pipelines.code_versions import code_version

SCORING: Final = ("engine.engine", "batch.scoring")
"""Where the live lane and the warehouse lane turn inputs into output rows."""


@cache
def scoring_code_version() -> str:
    """Return ``<package version>+<hash>`` over the sources between a message and its output rows."""
    return f"{version('surveillance-pipelines')}+{code_version(*SCORING)}"
