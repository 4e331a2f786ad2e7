"""The hash of the code that decides a score: the row contract's ``code_version``."""

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from surveillance_pipelines.hashing import sha256_files

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_SCORING_SOURCES: Final = (
    "contracts/frames.py",
    "contracts/market.py",
    "contracts/outputs.py",
    "contracts/sessions.py",
    "features/*.py",
    "market/messages.py",
    "market/volume.py",
    *(f"models/{name}.py" for name in ("bundle", "explanations", "runtime", "scoring")),
    *(f"serving/{name}.py" for name in ("alerts", "bar_builder", "batch", "engine", "event_clock", "guard",
                                        "partial_bars", "scoring_rows", "seeding", "signal_gate", "snapshots",
                                        "symbol_lane")),
    "strategies/*.py",
)  # fmt: skip


@cache
def scoring_code_version() -> str:
    """Return ``<package version>+<hash>`` over the sources between a message and its score."""
    paths = sorted(path for pattern in _SCORING_SOURCES for path in _PACKAGE.glob(pattern))
    return f"{version('surveillance-pipelines')}+{sha256_files(paths)[:12]}"
