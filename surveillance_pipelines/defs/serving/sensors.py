"""Sensors of the live lane: start of drain runs, and the Yahoo fallback for silent queues."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS, utc_date
from surveillance_pipelines.defs.automation import REASON_TAG, SENSORS_START
from surveillance_pipelines.defs.bars.jobs import yahoo_fallback_job
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.jobs import drain_job
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG, input_queues, queue_name, queue_tag
from surveillance_pipelines.defs.serving.runs import pause_left, starting_runs

if TYPE_CHECKING:
    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.availability import SourceDecision
    from surveillance_pipelines.services.queue_watch import QueueView
    from surveillance_pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class Market:
    """Trading state of the markets of a set of symbols.

    Attributes:
        is_open: whether any market is open, or closed so recently that its last minutes may still be missing.
        opened_at: opening of the latest session, microseconds since the epoch.
    """

    is_open: bool
    opened_at: int | None


def queue_sensor(interval_seconds: float) -> dg.SensorDefinition:
    """Return the sensor that starts drain runs.

    Args:
        interval_seconds: interval between evaluations, `SQS_POLLING_INTERVAL`; Dagster evaluates at most every 5 s.
    """

    @dg.sensor(
        name="market_queue_sensor",
        job_name=drain_job.name,
        minimum_interval_seconds=max(1, round(interval_seconds)),
        default_status=SENSORS_START,
        description=(
            "Starts a drain run for each queue that has messages, unsent alerts, bars to close or receipts of a dead "
            "run, but no drain run; and a standby run while a drain run has work (`DRAIN_STANDBY`)."
        ),
    )
    def market_queue_sensor(
        context: dg.SensorEvaluationContext, platform: PlatformResource
    ) -> dg.SensorResult | dg.SkipReason:
        settings, now_us = platform.settings, platform.clock.now_us()
        if not settings.use_sqs_data_source:
            return dg.SkipReason("the queue is not read: USE_SQS_DATA_SOURCE is false")
        if isinstance(sessions := _sessions(platform), str):
            return dg.SkipReason(sessions)
        verdicts = [_judge(context, platform, view, now_us) for view in _views(platform)]
        text = "; ".join([*(sentence for sentence, _ in verdicts), *_damaged_champion(platform)])
        context.log.info(text)
        requests = [request for _, request in verdicts if request is not None]
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason(text)

    return market_queue_sensor


@dg.sensor(
    job_name=yahoo_fallback_job.name,
    minimum_interval_seconds=60,
    default_status=SENSORS_START,
    description=(
        "Requests the bars of the day from Yahoo, once per SQS_SILENCE_SECONDS, while the market of a watched symbol "
        "is open and its queue is silent, unreachable or disabled. The same run scores the new bars."
    ),
)
def yahoo_fallback_sensor(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    settings, now_us = platform.settings, platform.clock.now_us()
    if isinstance(sessions := _sessions(platform), str):
        return dg.SkipReason(sessions)
    decisions = _decisions(platform, sessions, now_us)
    if not decisions:
        return dg.SkipReason(f"no market of SYMBOLS is open ({', '.join(settings.symbols)})")
    reason = "; ".join(decision.reason for decision in decisions)
    context.log.info(reason)
    if not any(decision.is_fallback for decision in decisions):
        return dg.SkipReason(reason)
    span = int(now_us // (settings.sqs_silence_seconds * MICROSECONDS))
    # Just after midnight, the last minutes of the previous day may be missing.
    first = utc_date(now_us - round(settings.sqs_silence_seconds * MICROSECONDS))
    tags = {**range_tags(first, platform.today()), REASON_TAG: reason}
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"yahoo:{span}", tags=tags)])


def _decisions(platform: PlatformResource, sessions: "SessionTable", now_us: int) -> list["SourceDecision"]:
    """Return the source to use for each queue, except for queues without a watched symbol in an open market."""
    from surveillance_pipelines.market.availability import decide_source
    from surveillance_pipelines.transports.queue_routing import queue_for_symbol

    settings, queue_urls = platform.settings, platform.endpoints.queue_urls
    if not settings.use_sqs_data_source:
        if not _market(sessions, settings.symbols, now_us, settings.sqs_silence_seconds).is_open:
            return []
        return [decide_source(use_queue=False, fall_back=settings.fallback_to_yfinance, reachable=False, silent=True)]
    decisions: list[SourceDecision] = []
    for view in _views(platform):
        symbols = [name for name in settings.symbols if queue_for_symbol(name, queue_urls) == view.queue_url]
        market = _market(sessions, symbols, now_us, settings.sqs_silence_seconds)
        if market.is_open:
            decisions.append(_decide(settings, view, market, now_us))
    return decisions


def _decide(settings: "Settings", view: "QueueView", market: Market, now_us: int) -> "SourceDecision":
    from surveillance_pipelines.market.availability import decide_source, queue_is_silent

    silent = queue_is_silent(
        view.last_message_at, now_us, settings.sqs_silence_seconds, market.is_open, opened_at=market.opened_at
    )
    return decide_source(
        use_queue=True,
        fall_back=settings.fallback_to_yfinance,
        reachable=view.unreachable is None,
        silent=silent and not view.has_input,
        queue=queue_name(view.queue_url),
    )


def _views(platform: PlatformResource) -> list["QueueView"]:
    from surveillance_pipelines.services.queue_watch import queue_state

    with platform.connect() as connection:
        return [queue_state(client, connection, platform.clock) for client in input_queues(platform)]


def _sessions(platform: PlatformResource) -> "SessionTable | str":
    """Return today's trading sessions, or the reason why they are not available."""
    try:
        return platform.session_table(platform.today(), platform.today())
    except ValueError as error:
        return f"no trading sessions yet; reference_job creates them: {error}"


def _market(sessions: "SessionTable", symbols: Sequence[str], now_us: int, grace_seconds: float) -> Market:
    grace = round(grace_seconds * MICROSECONDS)
    tables = [sessions.for_symbol(symbol) for symbol in symbols]
    minutes = [table.position(now_us)[1] for table in tables if table.is_open(now_us) or table.is_open(now_us - grace)]
    opened_at = None if not minutes else now_us - round(min(minutes) * 60 * MICROSECONDS)
    return Market(is_open=bool(minutes), opened_at=opened_at)


def _judge(
    context: dg.SensorEvaluationContext, platform: PlatformResource, view: "QueueView", now_us: int
) -> tuple[str, dg.RunRequest | None]:
    """Return a description of a queue's state, and a run request if it needs a drain run."""
    name, settings = queue_name(view.queue_url), platform.settings
    if view.unreachable is not None:
        problem = f"{name} does not answer ({view.unreachable}): check SQS_QUEUE_URL, SQS_ENDPOINT_URL and AWS_REGION"
        return problem, None
    starting = starting_runs(context.instance, queue_tag(view.queue_url), view.run_ids, now_us)
    coming = starting or view.standby is not None
    if view.holder is None and not coming and not view.has_work:
        return f"{name} is empty{_last_message(view, now_us)}; {_fallback(settings)}", None
    if view.holder is None and not coming:
        state, wanted = f"{name} has {view.work}", "a drain run"
    elif view.holder is not None and not (view.standby or starting) and _wants_standby(settings, view, now_us):
        state, wanted = f"{name} is served by {view.holder} without a standby", "a standby run"
    else:
        return f"{name} is served by {_servers(view, starting)}; {view.waiting} messages wait", None
    pause = pause_left(context.instance, queue_tag(view.queue_url), now_us)
    if pause > 0:
        return f"{state}; its last drain run failed{_cause(platform, view)}, the next attempt is in {pause:.0f} s", None
    return f"{state}: {wanted} is requested", _drain_request(view)


def _cause(platform: PlatformResource, view: "QueueView") -> str:
    """Return the error of the newest failed run of a queue, once run_failure_sensor has recorded it."""
    from surveillance_pipelines.stores.run_failures import last_error

    with platform.connect() as connection:
        error = last_error(connection, queue_tag(view.queue_url))
    return "" if error is None else f" ({error.splitlines()[-1]})"


def _damaged_champion(platform: PlatformResource) -> list[str]:
    """Return a sentence if the champion cannot be loaded: what serves instead, and what to do."""
    from surveillance_pipelines.services.serving_models import serving_models

    with platform.connect() as connection:
        models = serving_models(platform, connection)
    return [f"champion {models.sentence}. {models.remedy}"] if models.is_damaged else []


def _wants_standby(settings: "Settings", view: "QueueView", now_us: int) -> bool:
    """Return whether the holder is busy; an idle one ends soon and needs no standby."""
    idle_since = 0 if view.last_message_at is None else view.last_message_at
    busy = view.has_work or now_us - idle_since < settings.drain_idle_seconds * MICROSECONDS
    return settings.drain_standby and busy


def _servers(view: "QueueView", starting: int) -> str:
    if view.holder is None:
        return "a starting run" if view.standby is None else f"the standby {view.standby}, which is taking over"
    if view.standby is not None:
        return f"{view.holder}, with {view.standby} as standby"
    return f"{view.holder}, and another run is starting" if starting else view.holder


def _drain_request(view: "QueueView") -> dg.RunRequest:
    # Without a run_key, because Dagster starts at most one run per key, even if that run fails.
    return dg.RunRequest(
        run_config=dg.RunConfig(ops={"drain_queue": {"config": {"queue_url": view.queue_url}}}),
        tags={QUEUE_TAG: queue_tag(view.queue_url)},
    )


def _last_message(view: "QueueView", now_us: int) -> str:
    held = f", {view.in_flight} messages are in flight" if view.in_flight else ""
    if view.last_message_at is None:
        return f"{held}; no message yet"
    return f"{held}; last message {max(0, now_us - view.last_message_at) // MICROSECONDS} s ago"


def _fallback(settings: "Settings") -> str:
    if not settings.fallback_to_yfinance:
        return "no fallback (FALLBACK_TO_YFINANCE is false)"
    return f"Yahoo fallback after {settings.sqs_silence_seconds:.0f} s of silence while the market is open"
