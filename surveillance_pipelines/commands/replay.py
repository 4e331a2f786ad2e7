"""``surveillance replay``: recompute stored outputs and compare them with the stored values."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.progress import Progress

from surveillance_pipelines.commands.console import console, counted, echo, is_live, mark, table
from surveillance_pipelines.commands.exit_codes import ExitCode

if TYPE_CHECKING:
    from surveillance_pipelines.replay.comparison import Replayed

_MARKS: Final = {"equal": "ok", "equivalent": "ok", "different": "fail", "impossible": "warn"}
_SHOWN: Final = 20


def replay(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids of anomalies, signals, predictions, messages or alerts, or unique prefixes.", show_default=False
        ),
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Replay this many randomly selected outputs.")] = 0,
    seed: Annotated[int, typer.Option(help="Set the random seed of the sample.")] = 0,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Sample only bars from this UTC day on.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per output.")] = False,
) -> None:
    """Recompute outputs from stored bars, settings and models, and show the first field that differs.

    Outputs must be byte-equal if the runtime hash is equal, and agree within 1e-6 otherwise. Exits with 0 only if every
    output passes.
    """
    from surveillance_pipelines.services.platform import open_platform
    from surveillance_pipelines.services.replays import replay_outputs

    first = since.date() if since else None
    with Progress(console=console(), transient=True, disable=as_json or not is_live()) as progress:
        task = progress.add_task("replaying", total=None)
        results = replay_outputs(
            open_platform(), ids or [], sample=sample, seed=seed, since=first,
            advanced=lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
    if as_json:
        sys.stdout.writelines(json.dumps(_record(result), default=str) + "\n" for result in results)
    else:
        _show(results)
    if not results or not all(result.passed for result in results):
        raise typer.Exit(ExitCode.FAILED)


def _show(results: "Sequence[Replayed]") -> None:
    if not results:
        echo("no outputs to replay yet: no bar has been scored")
        echo("score live ticks: `surveillance up`; stored days: `surveillance backfill FIRST LAST --job scoring_job`")
        return
    counts = Counter(result.outcome for result in results)
    shown = sorted(results, key=lambda result: result.passed)[:_SHOWN]  # failures first
    rows = [
        (result.id[:12], result.kind, _bar(result), mark(_MARKS[result.outcome]), result.summary) for result in shown
    ]
    table("", ("id", "row", "bar", "", "result"), rows)
    if len(results) > len(shown):
        echo(f"and {counted(len(results) - len(shown), 'more output')}")
    for note, times in Counter(note for result in results for note in result.notes).most_common():
        echo(f"{counted(times, 'output')}: {note}")
    totals = ", ".join(f"{counts[name]:,} {name}" for name in _MARKS if counts[name])
    echo(f"{counted(len(results), 'output')} replayed: {totals}")


def _bar(result: "Replayed") -> str:
    from surveillance_pipelines.clock import to_iso

    if result.bar_start is None:
        return "–"
    return f"{result.symbol} {to_iso(result.bar_start)[:16]} {result.bar_status}, {result.lane}"


def _record(result: "Replayed") -> dict[str, Any]:
    from surveillance_pipelines.clock import to_iso

    start = None if result.bar_start is None else to_iso(result.bar_start)
    return asdict(result) | {"bar_start": start, "summary": result.summary}
