"""The job that drops old weekly partitions of the live lane's tables and creates those of the coming weeks."""

from typing import TYPE_CHECKING

import dagster as dg

from surveillance_pipelines.defs.metadata import counts_table
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from surveillance_pipelines.services.retention import Retained


@dg.op(tags={"surveillance/lane": "live"}, out=dg.Out(dg.Nothing))
def drop_old_weeks(context: dg.OpExecutionContext, platform: PlatformResource) -> None:
    """Create the coming weeks of inbox, ledger, outbox and deliveries, and drop weeks past LEDGER_RETENTION_DAYS.

    A week is kept, with a warning, while one of its accepted messages is missing from the lake, or one of its outputs
    is not delivered to every channel of OUTPUT_CHANNELS. Event clock readings are deleted with the messages of their
    week, dead letters after a year.
    """
    from surveillance_pipelines.services.retention import retain
    from surveillance_pipelines.stores.database import connect

    settings = platform.settings
    days = settings.ledger_retention_days
    with connect(platform.endpoints.database_url, autocommit=True) as connection:
        done = retain(
            connection,
            platform.lake,
            today=platform.today(),
            retention_days=days,
            channels=settings.output_channels,
            clock=platform.clock,
        )
    for name, reason in done.kept.items():
        context.log.warning("ops.%s is older than %d days and was kept: %s", name, days, reason)
    context.log_event(dg.AssetObservation("market_queue", metadata=_metadata(done, days)))


@dg.job(
    executor_def=dg.in_process_executor,
    tags={"surveillance/lane": "live"},
    description=(
        "Drop the weeks of inbox, ledger, outbox and deliveries that are older than LEDGER_RETENTION_DAYS, with their "
        "event clock readings, and dead letters older than a year; create the partitions of the coming weeks."
    ),
)
def retention_job() -> None:
    drop_old_weeks()


def _metadata(done: "Retained", days: int) -> dict[str, dg.MetadataValue]:
    tables = sorted({partition.table for partition in done.now})
    sizes = [
        {
            "table": f"ops.{table}",
            "partitions": sum(partition.table == table for partition in done.now),
            "megabytes": round(sum(one.size_bytes for one in done.now if one.table == table) / 1e6, 1),
            "rows_estimated": sum(partition.rows for partition in done.now if partition.table == table),
        }
        for table in tables
    ]
    dropped = [{"partition": f"ops.{p.name}", "megabytes": round(p.size_bytes / 1e6, 1)} for p in done.dropped]
    kept = [{"partition": f"ops.{name}", "because": reason} for name, reason in done.kept.items()]
    return {
        "retention_days": dg.MetadataValue.int(days),
        "partitions_dropped": dg.MetadataValue.int(len(done.dropped)),
        "partitions_added": dg.MetadataValue.text(", ".join(f"ops.{p.name}" for p in done.added) or "none"),
        "dead_letters_deleted": dg.MetadataValue.int(done.dead_letters),
        "clock_rows_deleted": dg.MetadataValue.int(done.clock_rows),
        "tables": counts_table(sizes),
        **({"dropped": counts_table(dropped)} if dropped else {}),
        **({"kept": counts_table(kept)} if kept else {}),
    }
