"""``surveillance dead-letters``: inputs that were refused, with the reason, and their way back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from surveillance_pipelines.commands.console import cell, counted, mark, say, table
from surveillance_pipelines.contracts.errors import InvalidInputError, OperationFailedError

if TYPE_CHECKING:
    from surveillance_pipelines.services.dead_letters import Replay, Verdict

app: Final = typer.Typer(help="Inputs that were refused, kept with their body and the reason.", no_args_is_help=True)

_MARKS: Final = {"send": "ok", "known": "warn", "refused": "fail", "elsewhere": "fail"}
"""What a verdict says → the mark beside it."""


@app.command("list")
def list_dead_letters(
    limit: Annotated[int, typer.Option(min=1, help="Rows to show, newest first.")] = 20,
    code: Annotated[str | None, typer.Option(help="Only this refusal code, such as not_json.")] = None,
) -> None:
    """Show how many inputs were refused by reason, the newest of them with their ids, and what became of replays."""
    from surveillance_pipelines.services.dead_letters import counts_by_reason, newest, replays_of
    from surveillance_pipelines.services.platform import open_platform

    with open_platform().connect() as connection:
        counts, shown = counts_by_reason(connection), newest(connection, limit, code=code)
        replays = replays_of(connection, [row[0] for row in shown])
    if not counts:
        say("no input was ever refused")
        return
    columns = ("source", "code", "rows", "replayed", "last")
    table("refused inputs by reason", columns, counts, right=("rows", "replayed"))
    rows = [(*row, _newest(replays[row[0]])) for row in shown]
    table(f"the newest {len(shown)}", ("id", "received", "source", "code", "reason", "replayed"), rows)
    say("one in full: `surveillance dead-letters show ID`; back onto its queue: `surveillance dead-letters replay ID`")


@app.command("show")
def show_dead_letter(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the beginning of it.")],
    out: Annotated[Path | None, typer.Option(help="Write the body to this file, to repair it.")] = None,
) -> None:
    """Show one refused input: its whole body, why it was refused, and every replay with its outcome."""
    from surveillance_pipelines.services.dead_letters import find_letters, replays_of
    from surveillance_pipelines.services.platform import open_platform

    with open_platform().connect() as connection:
        (letter,) = find_letters(connection, [id_])
        replays = replays_of(connection, [letter.message_id])[letter.message_id]
    origin = letter.queue_url or letter.source
    facts = [("received", letter.received_at), ("from", origin), ("code", letter.code), ("reason", letter.reason)]
    table(letter.message_id, ("", ""), facts)
    if replays:
        table("replays", ("at", "what became of it"), [(replay.requested_at, replay.said) for replay in replays])
    if out is None:
        say(cell(letter.body))
    else:
        out.write_text(letter.body, encoding="utf-8")
        say(f"repair {out}, then `surveillance dead-letters replay {letter.message_id} --edit-body {out}`")


@app.command("replay")
def replay_dead_letters(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, or the beginnings of them.")] = None,
    *,
    code: Annotated[str | None, typer.Option(help="All of this refusal code that were not replayed yet.")] = None,
    edit_body: Annotated[Path | None, typer.Option(help="File with the repaired body, for one ID.")] = None,
    body: Annotated[str | None, typer.Option(help="The repaired body itself, for one ID.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Send also what would be refused again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, send nothing.")] = False,
) -> None:
    """Put refused messages back on their input queue, repaired or as they are; not what would be refused again."""
    from surveillance_pipelines.services.dead_letters import replay
    from surveillance_pipelines.services.platform import open_platform

    if not ids and code is None:
        remedy = "`surveillance dead-letters list` shows them"
        raise InvalidInputError("expected ids or --code, got neither", remedy=remedy)
    if edit_body is not None and body is not None:
        raise InvalidInputError("expected --edit-body or --body, got both")
    repaired = body if edit_body is None else edit_body.read_text(encoding="utf-8").strip()
    done = replay(open_platform(), ids or [], code=code, body=repaired, force=force, dry_run=dry_run)
    verdicts, sent = done.verdicts, done.sent
    if not verdicts:
        say(f"nothing to replay: every message refused as {code} was replayed, or there is none")
        return
    rows = [(verdict.letter.message_id, mark(_MARKS[verdict.action]), _said(verdict, sent)) for verdict in verdicts]
    table("dry run: nothing is sent" if dry_run else "", ("id", "", "what becomes of it"), rows)
    if done.unsent:
        raise OperationFailedError(
            f"expected to replay {counted(len(verdicts), 'dead letter')}, {done.unsent:,} cannot be sent: see above",
            remedy="repair the body (--edit-body or --body), or have a message refused once more (--force)",
        )


def _said(verdict: "Verdict", sent: Mapping[str, str]) -> str:
    if verdict.action != "send":
        return verdict.said
    message_id = sent.get(verdict.letter.message_id)
    return f"would be sent: {verdict.said}" if message_id is None else f"sent as {message_id}: {verdict.said}"


def _newest(replays: "Sequence[Replay]") -> str | None:
    return replays[-1].said if replays else None
