"""The job that replays dead letters."""

import dagster as dg
from pydantic import Field

from surveillance_pipelines.defs.metadata import counts_table
from surveillance_pipelines.defs.resources import PlatformResource


class ReplayConfig(dg.Config):
    """Configuration of a replay of dead letters."""

    ids: list[str] = Field(default=[], description="Ids of dead letters, or unique prefixes.")
    code: str = Field(default="", description="Refusal code; replays all its dead letters that were not replayed yet.")
    body: str = Field(default="", description="Repaired body of a single id; empty to send the original body.")
    force: bool = Field(default=False, description="Also send messages that would be refused again.")
    dry_run: bool = Field(default=False, description="Show what would be sent, and send nothing.")


@dg.op(tags={"surveillance/lane": "live"}, out=dg.Out(dg.Nothing))
def replay_dead_letters(context: dg.OpExecutionContext, config: ReplayConfig, platform: PlatformResource) -> None:
    """Put dead letters back on their input queue. Fails after sending the others if one would be refused again."""
    from surveillance_pipelines.services.dead_letters import replay

    done = replay(
        platform, config.ids, code=config.code or None, body=config.body or None, force=config.force,
        dry_run=config.dry_run,
    )  # fmt: skip
    rows = [
        {"id": verdict.letter.message_id, "action": verdict.action, "summary": verdict.summary,
         "sent_as": done.sent.get(verdict.letter.message_id)}
        for verdict in done.verdicts
    ]  # fmt: skip
    metadata = {"sent": dg.MetadataValue.int(len(done.sent)), **({"letters": counts_table(rows)} if rows else {})}
    context.log_event(dg.AssetObservation("market_queue", metadata=metadata))
    if unsent := done.unsent:
        first = f"{unsent[0].letter.message_id}: {unsent[0].summary}"
        raise dg.Failure(
            f"expected to replay {len(done.verdicts)} dead letters, {len(unsent)} cannot be sent; {first}",
            allow_retries=False,
        )


@dg.op(tags={"surveillance/lane": "live"}, out=dg.Out(dg.Nothing))
def redrive_dead_letter_queues(context: dg.OpExecutionContext, platform: PlatformResource) -> None:
    """Record the messages that SQS has set aside as dead letters, and send them to their input queues again."""
    from surveillance_pipelines.services.redrive import redrive

    done = redrive(platform)
    metadata = {"recorded": done.recorded, "already_known": done.known, "sent": len(done.replayed.sent)}
    context.log_event(dg.AssetObservation("market_queue", metadata=metadata))
    context.log.info(
        "%s messages recorded, %s already had an outcome, %s sent again", done.recorded, done.known, metadata["sent"]
    )


@dg.job(
    executor_def=dg.in_process_executor,
    tags={"surveillance/lane": "live", "dagster/max_retries": "0"},
    description=(
        "Return the messages that SQS has moved to a dead-letter queue; the check sqs_sets_no_message_aside finds them."
    ),
)
def redrive_job() -> None:
    redrive_dead_letter_queues()


@dg.job(
    executor_def=dg.in_process_executor,
    tags={"surveillance/lane": "live", "dagster/max_retries": "0"},
    description="Put refused messages back on their input queue; select them in the run config.",
)
def dead_letter_job() -> None:
    replay_dead_letters()
