"""One line of ``surveillance status`` and ``surveillance doctor``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

Verdict = Literal["ok", "warn", "fail"]

_ALSO: Final = "; also stops the checks of: "


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


def once_per_cause(findings: Sequence[Fact]) -> list[Fact]:
    """Return the findings with each failure once: later checks that fail for the same reason are named by the first."""
    kept: list[Fact] = []
    for finding in findings:
        same = next((place for place, one in enumerate(kept) if _same_cause(one, finding)), None)
        if same is None:
            kept.append(finding)
            continue
        first = kept[same]
        joint = f"{first.found}, {finding.name}" if _ALSO in first.found else f"{first.found}{_ALSO}{finding.name}"
        kept[same] = replace(first, found=joint)
    return kept


def _same_cause(first: Fact, later: Fact) -> bool:
    return first.verdict == later.verdict == "fail" and first.found.partition(_ALSO)[0] == later.found
