"""One line of ``surveillance status``."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact about a part of the platform.

    Attributes:
        name: name of the part.
        verdict: ok, warn or fail.
        found: state of the part.
        remedy: what to do; empty if nothing is to be done, or ``found`` says it.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def instant(value: datetime | None) -> str:
    """Format an instant as ``2024-03-06 14:30:00`` UTC; ``–`` for None."""
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
