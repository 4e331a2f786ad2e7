"""The row contract's ``code_version``: a hash of the code that computes scores."""

from functools import cache
from importlib.metadata import version
from typing import Final

from surveillance_pipelines.code_versions import code_version

SCORING: Final = ("engine.engine", "batch.scoring")
"""The modules in which the live lane and the warehouse lane turn inputs into output rows."""


@cache
def scoring_code_version() -> str:
    """Return ``<package version>+<hash of the source files of SCORING and their imports>``."""
    return f"{version('surveillance-pipelines')}+{code_version(*SCORING)}"
