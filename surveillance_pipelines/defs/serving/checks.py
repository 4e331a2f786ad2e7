"""Checks of the live lane, based on the ledger tables."""

from typing import TYPE_CHECKING, Final

import dagster as dg

from surveillance_pipelines.channels import SIDE_CHANNELS
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.channels import channel_delivery
from surveillance_pipelines.defs.serving.publication import publication
from surveillance_pipelines.defs.serving.queues import input_queues, queue_name
from surveillance_pipelines.defs.serving.replays import replay_metadata, replay_sentence

if TYPE_CHECKING:
    from surveillance_pipelines.services.queue_watch import DeadLetterQueueState

_DEAD_SHARE: Final = 0.01
"""A larger share of refused messages indicates a faulty producer."""

_REPLAYED: Final = 50
"""Outputs replayed per day, in one or two seconds."""


@dg.asset_check(
    asset="market_queue",
    description="Every received message has exactly one outcome: received = scored + late + dead + duplicate.",
)
def every_message_is_accounted_for(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.check_queries import balance

    with platform.connect() as connection:
        found = balance(connection)
    return dg.AssetCheckResult(
        passed=found.holds,
        description=(
            f"{found.taken:,} messages received: "
            + ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(found.outcomes.items()))
            + ("" if found.holds else "; compare ops.inbox with ops.ledger by message_id")
        ),
        metadata={
            "taken": found.taken,
            "outcomes": found.outcomes,
            "without_outcome": found.without_outcome,
            "without_message": found.without_message,
        },
    )


@dg.asset_check(asset="market_queue", description="At most one message in a hundred is refused.")
def dead_letters_are_few(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.check_queries import balance, dead_letter_codes

    with platform.connect() as connection:
        totals, codes = balance(connection), dead_letter_codes(connection, source="sqs")
    return dg.AssetCheckResult(
        passed=totals.dead_share <= _DEAD_SHARE,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{totals.dead_share:.2%} of {totals.taken} messages are in ops.dead_letters",
        metadata={"codes": codes},
    )


@dg.asset_check(
    asset="market_queue",
    description="No producer gives the deduplication id of one message to another one.",
)
def deduplication_ids_do_not_repeat(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.check_queries import unreplayed_conflicts

    with platform.connect() as connection:
        found = unreplayed_conflicts(connection)
    return dg.AssetCheckResult(
        passed=found == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{found:,} messages have the deduplication id of an earlier message with another content; they are in "
            "ops.dead_letters with the code conflict. Correct the producer's ids, then run "
            "`surveillance dead-letters replay --code conflict`"
            if found
            else "no message has the deduplication id of an earlier one with another content"
        ),
        metadata={"conflicts": found},
    )


@dg.asset_check(
    asset="market_queue",
    description="SQS has moved no message to a dead-letter queue, which no run reads.",
)
def sqs_sets_no_message_aside(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.services.queue_watch import dead_letter_queue_state

    if not platform.settings.use_sqs_data_source:
        return dg.AssetCheckResult(passed=True, description="the queue is not read: USE_SQS_DATA_SOURCE is false")
    found = {queue_name(queue.queue_url): dead_letter_queue_state(queue) for queue in input_queues(platform)}
    lost = any(state.messages for state in found.values())
    return dg.AssetCheckResult(
        passed=not lost and all(state.problem is None for state in found.values()),
        severity=dg.AssetCheckSeverity.ERROR if lost else dg.AssetCheckSeverity.WARN,
        description="; ".join(_dead_letter_queue_sentence(name, state) for name, state in found.items()),
        metadata={
            "messages": sum(state.messages or 0 for state in found.values()),
            "set_aside": {name: state.messages for name, state in found.items()},
        },
    )


def _dead_letter_queue_sentence(name: str, state: "DeadLetterQueueState") -> str:
    if state.problem is not None:
        return f"the dead-letter queue of {name} could not be read ({state.problem})"
    if state.messages is None:
        return f"{name} has no dead-letter queue"
    if state.messages == 0:
        return f"the dead-letter queue of {name} is empty"
    return (
        f"{state.messages:,} messages are in the dead-letter queue of {name}: runs received them repeatedly and failed "
        "or stalled before deleting them; fix the cause of the failed drain runs, then run `redrive_job` or "
        "`surveillance dead-letters redrive`"
    )


@dg.asset_check(asset="bar_files", description="At most one row in a hundred of the files is refused.")
def file_rows_are_accepted(platform: PlatformResource) -> dg.AssetCheckResult:
    return _ingestion_result(platform, "file")


@dg.asset_check(asset="yahoo_finance", description="At most one row in a hundred from Yahoo is refused.")
def yahoo_rows_are_accepted(platform: PlatformResource) -> dg.AssetCheckResult:
    return _ingestion_result(platform, "yfinance")


@dg.asset_check(asset="output_queue", description="No alert waits longer than a minute for publication.")
def alerts_are_published(platform: PlatformResource) -> dg.AssetCheckResult:
    found = publication(platform)
    return dg.AssetCheckResult(passed=found.passed, description=found.summary, metadata=found.metadata)


def channel_check(channel: str) -> dg.AssetChecksDefinition:
    """Return the check of a channel with delivery runs."""

    @dg.asset_check(
        asset=SIDE_CHANNELS[channel].asset,
        name=SIDE_CHANNELS[channel].check,
        description=f"No message waits longer than a minute for delivery to {channel}, if the channel is configured.",
    )
    def gets_every_message(platform: PlatformResource) -> dg.AssetCheckResult:
        if channel not in platform.settings.side_channels:
            absent = f"not configured: OUTPUT_CHANNELS does not contain {channel}"
            return dg.AssetCheckResult(passed=True, description=absent)
        found = channel_delivery(platform, channel)
        return dg.AssetCheckResult(passed=found.passed, description=found.summary, metadata=found.metadata)

    return gets_every_message


channel_checks = [channel_check(channel) for channel in SIDE_CHANNELS]


@dg.asset_check(
    asset="market_queue",
    description=(
        "The 99th percentile of the time from the receipt of a message to its scores, over the last hour, is at most "
        "COMPUTE_LIMIT_MS."
    ),
)
def compute_is_within_limit(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.check_queries import compute_latency

    limit = platform.settings.compute_limit_ms
    with platform.connect() as connection:
        rows, p50, p99 = compute_latency(connection, hours=1.0, clock=platform.clock)
    return dg.AssetCheckResult(
        passed=p99 <= limit,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"p99 {p99:.1f} ms over {rows} rows, limit {limit:g} ms"
        if rows
        else "no message was scored in the last hour",
        metadata={"rows": rows, "p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "limit_ms": limit},
    )


@dg.asset_check(asset="anomalies", description="Each alert has each status at most once per model and configuration.")
def alerts_are_not_repeated(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.check_queries import repeated_alerts

    with platform.connect() as connection:
        repeated = repeated_alerts(connection)
    return dg.AssetCheckResult(
        passed=repeated == 0,
        description=(
            f"{repeated:,} alerts have a repeated status: group surveillance.anomalies by alert_id and alert_status"
            if repeated
            else "no alert has a repeated status"
        ),
        metadata={"repeated": repeated},
    )


@dg.asset_check(
    asset="anomalies",
    description=(
        "Recomputes a daily sample of the outputs of the newest two days from stored bars, settings and models: the "
        "results are byte-equal, or equal within 1e-6 if the processor or a library has changed."
    ),
)
def alerts_can_be_replayed(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.services.replays import replay_newest

    results = replay_newest(platform, _REPLAYED, days=2)
    differ = any(result.outcome == "different" for result in results)
    return dg.AssetCheckResult(
        passed=all(result.passed for result in results),
        severity=dg.AssetCheckSeverity.ERROR if differ else dg.AssetCheckSeverity.WARN,
        description=replay_sentence(results),
        metadata=replay_metadata(results),
    )


@dg.asset_check(
    asset="signals", description="The probabilities of every signal sum to one, and its kind is its action."
)
def signals_are_consistent(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.check_queries import inconsistent_signals

    with platform.connect() as connection:
        uneven = inconsistent_signals(connection)
    return dg.AssetCheckResult(
        passed=uneven == 0,
        description=(
            f"{uneven:,} rows of surveillance.signals have probabilities that do not sum to one, or a kind that is not "
            "their action: `surveillance replay` their ids"
            if uneven
            else "all signals are consistent"
        ),
        metadata={"uneven": uneven},
    )


def _ingestion_result(platform: PlatformResource, source: str) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.check_queries import refused_share

    with platform.connect() as connection:
        rows, share = refused_share(connection, source)
    return dg.AssetCheckResult(
        passed=share <= _DEAD_SHARE,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{share:.2%} of {rows} rows were refused",
        metadata={"rows": rows, "refused_share": round(share, 4)},
    )
