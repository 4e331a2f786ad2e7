"""Dagster metadata of replay results, for a job and a check."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.clock import to_iso
from surveillance_pipelines.defs.metadata import counts_table

if TYPE_CHECKING:
    from surveillance_pipelines.replay.comparison import Replayed

_SHOWN: Final = 50


def replay_metadata(results: "Sequence[Replayed]") -> dict[str, Any]:
    """Return counts by outcome and a table of results, failed ones first."""
    counts = Counter(result.outcome for result in results)
    shown = sorted(results, key=lambda result: result.passed)[:_SHOWN]
    rows = [_row(result) for result in shown]
    return {"replayed": len(results), **counts} | ({"outputs": counts_table(rows)} if rows else {})


def replay_sentence(results: "Sequence[Replayed]") -> str:
    """Summarise a replay in one sentence with the first failed output."""
    failed = [result for result in results if not result.passed]
    if not results:
        return "no outputs to replay yet"
    if not failed:
        return f"{len(results)} outputs were recomputed and equal the stored values"
    worst = min(failed, key=lambda result: result.outcome)  # "different" before "impossible"
    return f"{len(failed)} of {len(results)} outputs differ or cannot be recomputed; {worst.id}: {worst.summary}"


def _row(result: "Replayed") -> dict[str, str | int | float | bool | None]:
    return {
        "id": result.id,
        "row": result.kind or "unknown",
        "symbol": result.symbol or "–",
        "bar": "–" if result.bar_start is None else to_iso(result.bar_start)[:16],
        "lane": result.lane or "–",
        "outcome": result.outcome,
        "found": result.summary,
        "notes": "; ".join(result.notes),
    }
