"""``surveillance dead-letters``: list, show and replay refused inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from surveillance_pipelines.commands.console import cell, counted, echo, mark, table
from surveillance_pipelines.contracts.errors import InvalidInputError, OperationFailedError

if TYPE_CHECKING:
    from surveillance_pipelines.services.dead_letters import Replay, Verdict

app: Final = typer.Typer(
    help="List, show and replay refused inputs (dead letters), and redrive what SQS has set aside.",
    no_args_is_help=True,
)

_MARKS: Final = {"send": "ok", "known": "warn", "refused": "fail", "elsewhere": "fail"}
"""Action of a verdict → mark in the table."""


@app.command("list")
def list_dead_letters(
    limit: Annotated[int, typer.Option(min=1, help="Rows to show, newest first.")] = 20,
    code: Annotated[str | None, typer.Option(help="Show only this reason code, such as not_json.")] = None,
) -> None:
    """Show counts of refused inputs by reason code, and the newest refused inputs with ids and replay results."""
    from surveillance_pipelines.services.dead_letters import counts_by_reason, newest, replays_of
    from surveillance_pipelines.services.platform import open_platform

    with open_platform().connect() as connection:
        counts, shown = counts_by_reason(connection), newest(connection, limit, code=code)
        replays = replays_of(connection, [row[0] for row in shown])
    if not counts:
        echo("no dead letters: no input has been refused")
        return
    columns = ("source", "code", "rows", "replayed", "last")
    table("refused inputs by reason code", columns, counts, right=("rows", "replayed"))
    rows = [(*row, _newest(replays[row[0]])) for row in shown]
    table(f"newest {len(shown)}", ("id", "received", "source", "code", "reason", "last replay"), rows)
    echo("show one: `surveillance dead-letters show ID`")
    echo("send one again: `surveillance dead-letters replay ID`")
    echo("send all of a code again: `surveillance dead-letters replay --code CODE`")


@app.command("show")
def show_dead_letter(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the dead letter, or a unique prefix.")],
    out: Annotated[Path | None, typer.Option(help="Write the body to this file.")] = None,
) -> None:
    """Show one refused input: its full body, the reason, and every replay with its result."""
    from surveillance_pipelines.services.dead_letters import find_letters, replays_of
    from surveillance_pipelines.services.platform import open_platform

    with open_platform().connect() as connection:
        (letter,) = find_letters(connection, [id_])
        replays = replays_of(connection, [letter.message_id])[letter.message_id]
    origin = letter.queue_url or letter.source
    facts = [("received", letter.received_at), ("from", origin), ("code", letter.code), ("reason", letter.reason)]
    table(letter.message_id, ("", ""), facts)
    if replays:
        table("replays", ("requested", "result"), [(replay.requested_at, replay.summary) for replay in replays])
    if out is None:
        echo(cell(letter.body))
    else:
        out.write_text(letter.body, encoding="utf-8")
        echo(f"repair {out}, then `surveillance dead-letters replay {letter.message_id} --edit-body {out}`")


@app.command("replay")
def replay_dead_letters(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, or unique prefixes.")] = None,
    *,
    code: Annotated[
        str | None, typer.Option(help="Replay all dead letters with this reason code that were not replayed yet.")
    ] = None,
    edit_body: Annotated[Path | None, typer.Option(help="Read the repaired body of one ID from this file.")] = None,
    body: Annotated[str | None, typer.Option(help="Use this text as the repaired body of one ID.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also send messages that would be refused again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
) -> None:
    """Put refused messages back on their input queue, unchanged or repaired.

    Messages that would be refused again are not sent, except with --force.
    """
    from surveillance_pipelines.services.dead_letters import replay
    from surveillance_pipelines.services.platform import open_platform

    if edit_body is not None and body is not None:
        raise InvalidInputError("expected --edit-body or --body, got both")
    repaired = body if edit_body is None else edit_body.read_text(encoding="utf-8").strip()
    done = replay(open_platform(), ids or [], code=code, body=repaired, force=force, dry_run=dry_run)
    verdicts, sent = done.verdicts, done.sent
    if not verdicts:
        echo(f"nothing to replay: there is no dead letter with code {code} that was not replayed yet")
        return
    rows = [(verdict.letter.message_id, mark(_MARKS[verdict.action]), _summary(verdict, sent)) for verdict in verdicts]
    table("dry run: nothing is sent" if dry_run else "", ("id", "", "result"), rows)
    if unsent := len(done.unsent):
        raise OperationFailedError(
            f"expected to replay {counted(len(verdicts), 'dead letter')}, {unsent:,} cannot be sent: see above",
            remedy="remove the cause that the table states, then repeat the command; or repair the body of one message "
            "(--edit-body or --body); --force sends messages although they would be refused again",
        )


@app.command("redrive")
def redrive_dead_letter_queues() -> None:
    """Return the messages that SQS has moved to the dead-letter queues of the input queues.

    Each one gets an outcome in the ledger as a dead letter and is then replayed. Messages that the decoder refuses stay
    dead letters.
    """
    from surveillance_pipelines.services.platform import open_platform
    from surveillance_pipelines.services.redrive import redrive

    done = redrive(open_platform())
    if not done.recorded and not done.known:
        echo("nothing to redrive: SQS has set no message aside")
        return
    echo(
        f"{counted(done.recorded, 'message')} recorded in the ledger, {done.known:,} already had an outcome, "
        f"{len(done.replayed.sent):,} sent to their queues again"
    )
    unsent = [(row.letter.message_id, mark(_MARKS[row.action]), row.summary) for row in done.replayed.unsent]
    if unsent:
        table("not sent", ("id", "", "reason"), unsent)


def _summary(verdict: "Verdict", sent: Mapping[str, str]) -> str:
    if verdict.action != "send":
        return verdict.summary
    message_id = sent.get(verdict.letter.message_id)
    return f"would be sent: {verdict.summary}" if message_id is None else f"sent as {message_id}: {verdict.summary}"


def _newest(replays: "Sequence[Replay]") -> str | None:
    return replays[-1].summary if replays else None
