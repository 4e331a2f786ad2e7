"""A drain run: waits for the lease of a queue, then serves the queue for a window of time."""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import psycopg

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.endpoints import Endpoints
from surveillance_pipelines.engine.engine import Engine
from surveillance_pipelines.features.state import warm_up as warm_up_features
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.runtime.bundle_watch import WATCH_SECONDS, BundleWatch
from surveillance_pipelines.runtime.meter import DrainReport, Meter, StopReason
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.service_outages import is_outage, start_deadline
from surveillance_pipelines.runtime.serving_engine import serving_engine
from surveillance_pipelines.runtime.shell import AfterStep, Shell, ShellOptions
from surveillance_pipelines.runtime.standby import Contender, contend
from surveillance_pipelines.runtime.tasks import ThreadTasks
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores import lease as leases
from surveillance_pipelines.stores.database import OUTAGE_ERRORS, Reconnector, connect
from surveillance_pipelines.stores.instruments import load_instruments
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.lease import Lease, LeaseLostError
from surveillance_pipelines.stores.live_store import Connections, PostgresStore
from surveillance_pipelines.stores.predictors import load_serving_predictor
from surveillance_pipelines.stores.provenance import ScoringRun, record_run
from surveillance_pipelines.stores.seeding import served_histories
from surveillance_pipelines.telemetry import bind_correlation, configure_logging, get_logger
from surveillance_pipelines.transports.sqs import QueueClient

REPORT_SECONDS: Final = 5.0
"""Interval between reports: an event per message would flood Dagster's log."""

LONGEST_POLL_SECONDS: Final = 3
"""Longest long poll: a run that must stop waits for its poll to end."""

STOP_CHECK_SECONDS: Final = 0.25
"""Interval between checks for a stop request."""

OUTAGE_SECONDS_PAST_WINDOW: Final = 5.0
"""Time after the end of its window for which a run with unfinished work waits for the end of an outage."""

QUEUE_ATTEMPTS: Final = 1
"""Botocore's attempts of a call: ``Outages`` repeats it sooner, and a repeated receive call counts as a receive."""

OnReport = Callable[[DrainReport], None]
OnStatus = Callable[[str], None]

_LOG = get_logger("drain")


@dataclass(frozen=True)
class DrainPlan:
    """The task of one drain run."""

    queue_url: str
    run_id: str | None
    window_seconds: float
    on_report: OnReport
    on_status: OnStatus
    after_step: AfterStep


def drain(
    endpoints: Endpoints,
    settings: Settings,
    queue_url: str,
    *,
    run_id: str | None = None,
    window_seconds: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
    on_report: OnReport = lambda _: None,
    on_status: OnStatus = lambda _: None,
    after_step: AfterStep = lambda _: None,
) -> DrainReport:
    """Serve a queue until the window ends, the queue stays idle, the lease is lost, or a signal asks to stop.

    While another run serves, this one stands by with models loaded (``DRAIN_STANDBY``): it takes over when the holder
    ends, or one lease after the holder's last heartbeat. When the holder ends because the queue is idle, it ends too.

    The function configures the process's structured log: to standard error, at ``LOG_LEVEL``, without secrets.

    Args:
        endpoints: addresses of the stores and queues.
        settings: the platform's configuration.
        queue_url: one of the input queues.
        run_id: id of the Dagster run, written to every row.
        window_seconds: None means ``DRAIN_WINDOW_SECONDS``.
        clock: source of time.
        on_report: called every few seconds and once at the end.
        on_status: called with a sentence when the run begins to stand by, begins to serve or swaps models.
        after_step: called after each step of the shell.

    Raises:
        NoModelError: if there is no model to score with.
        QueueError: if SQS refused messages repeatedly; the next run continues from the committed state.
    """
    configure_logging(settings)
    window = settings.drain_window_seconds if window_seconds is None else window_seconds
    plan = DrainPlan(queue_url, run_id, window, on_report, on_status, after_step)
    with ExitStack() as stack:
        stack.enter_context(bind_correlation(run_id or "local", queue_url=queue_url))
        stop = stack.enter_context(stop_on_signals())
        starting = _outages(plan, clock, stop, until=start_deadline(clock))
        resources = starting.repeat("database or queue", lambda: _prepared(stack, endpoints, settings, plan, clock))
        link = resources.connections.main
        lease = contend(link, _contender(resources, settings, plan, clock, stop))
        if not isinstance(lease, Lease):
            return _report(Meter(), plan, None, 0.0, lease)
        ended: StopReason | None = None
        try:
            report = _serve(resources, settings, plan, lease=lease, clock=clock, stop=stop)
            ended = report.stopped_by
            return report
        finally:
            with suppress(*OUTAGE_ERRORS):  # the lease expires
                leases.release(link.get(), lease, ended=ended)


@dataclass(frozen=True)
class _Resources:
    """Resources that a run prepares before it serves or stands by."""

    connections: Connections
    watch: BundleWatch
    watch_tasks: ThreadTasks
    lake: Lake
    inputs: QueueClient
    outputs: QueueClient


def _prepared(stack: ExitStack, endpoints: Endpoints, settings: Settings, plan: DrainPlan, clock: Clock) -> _Resources:
    """Return the resources of a run, which the stack closes; after a failure, nothing stays open."""
    with ExitStack() as attempt:
        resources = _prepare(attempt, endpoints, settings, plan, clock)
        stack.push(attempt.pop_all())
        return resources


def _prepare(stack: ExitStack, endpoints: Endpoints, settings: Settings, plan: DrainPlan, clock: Clock) -> _Resources:
    connections = Connections.open(stack, endpoints.database_url)
    watching = stack.enter_context(Reconnector(partial(connect, endpoints.database_url, autocommit=True)))
    lake = Lake(endpoints.lake_url, endpoints.lake_storage_options).quick()  # messages wait for it
    predictor = load_serving_predictor(connections.main.get(), settings, plan.queue_url)
    _warm_up(predictor)
    watch = BundleWatch(
        watching,
        settings,
        predictor,
        lambda length, view: served_histories(watching.get(), lake, plan.queue_url, length, view),
    )
    watch.poll()  # at once, to report a promoted bundle that cannot serve
    watch_tasks = ThreadTasks()  # separate from the serving threads, so that loading a model does not delay a handover
    stack.callback(watch_tasks.abort)
    watch_tasks.every("watch", WATCH_SECONDS, watch.poll)
    inputs, outputs = (
        QueueClient(
            endpoints.sqs_endpoint_url, settings.aws_region, endpoints.aws, url, clock=clock, attempts=QUEUE_ATTEMPTS
        )
        for url in (plan.queue_url, endpoints.output_queue_url)
    )
    for queue in (inputs, outputs):
        stack.callback(queue.close)
    _ = inputs.content_based_dedup, outputs.depth()  # opens a connection to each queue
    return _Resources(connections, watch, watch_tasks, lake, inputs, outputs)


def _contender(
    resources: _Resources, settings: Settings, plan: DrainPlan, clock: Clock, stop: threading.Event
) -> Contender:
    return Contender(
        lease_name=plan.queue_url,
        run_id=plan.run_id,
        lease_seconds=settings.lease_seconds,
        stands_by=settings.drain_standby,
        clock=clock,
        stop=stop,
        on_status=plan.on_status,
        check=lambda: _check_watch(resources, plan),
    )


def _check_watch(resources: _Resources, plan: DrainPlan) -> None:
    """Re-raise the watcher's failure, and report a promotion that it refused."""
    resources.watch_tasks.check()
    if (refusal := resources.watch.claim_refusal()) is not None:
        plan.on_status(refusal)


def _serve(
    resources: _Resources, settings: Settings, plan: DrainPlan, *, lease: Lease, clock: Clock, stop: threading.Event
) -> DrainReport:
    begin = clock.now_us()
    predictor = resources.watch.claim_newest()
    dedup = resources.inputs.content_based_dedup
    end = begin + round(plan.window_seconds * MICROSECONDS)
    outages = _outages(plan, clock, stop, until=end + round(OUTAGE_SECONDS_PAST_WINDOW * MICROSECONDS))
    engine = outages.repeat(
        "database",
        lambda: build_engine(resources.connections.main.get(), settings, predictor, plan, content_based_dedup=dedup),
    )
    meter = Meter()
    shell = Shell(
        inputs=resources.inputs,
        outputs=resources.outputs,
        store=PostgresStore(
            resources.connections,
            resources.lake,
            lease,
            feature_view=predictor.feature_view,
            window_length=predictor.window_length,
            run_id=plan.run_id,
            on_status=plan.on_status,
        ),
        engine=engine,
        bundles=resources.watch,
        meter=meter,
        clock=clock,
        options=shell_options(settings),
        tasks=ThreadTasks(),
        outages=outages,
        after_step=plan.after_step,
        on_status=plan.on_status,
    )
    _LOG.info("serving", bundle_hash=predictor.bundle_hash, warmup=predictor.warmup, fencing=lease.fencing)
    plan.on_status(f"serves from now on with bundle {predictor.bundle_hash[:12]}, fencing number {lease.fencing}")

    def report(stopped_by: StopReason | None = None) -> DrainReport:
        seconds = (clock.now_us() - begin) / MICROSECONDS
        return _report(meter, plan, resources.watch.newest, seconds, stopped_by)

    try:
        shell.start()
        stopped_by = _loop(
            shell, engine, settings, plan, resources=resources, outages=outages, clock=clock, end=end, stop=stop,
            report=report,
        )  # fmt: skip
        shell.finish()
    except LeaseLostError as error:
        shell.abort()
        _LOG.warning("lease lost", error=str(error))
        stopped_by = "lease_lost"
    except BaseException:  # the threads must end in every case
        shell.abort()
        raise
    return report(stopped_by)


def _outages(plan: DrainPlan, clock: Clock, stop: threading.Event, *, until: int) -> Outages:
    return Outages(
        clock,
        is_outage=is_outage,
        gives_up=lambda: stop.is_set() or clock.now_us() >= until,
        on_status=plan.on_status,
    )


def shell_options(settings: Settings) -> ShellOptions:
    """Return the shell's options from the platform's settings."""
    return ShellOptions(
        max_messages=settings.sqs_max_messages,
        hidden_seconds=_hidden_seconds(settings),
        visibility_seconds=settings.sqs_visibility_timeout,
        poll_seconds=max(1, min(settings.sqs_wait_time, LONGEST_POLL_SECONDS)),
        published=settings.published,
        heartbeat_seconds=settings.lease_seconds / leases.HEARTBEATS_PER_LEASE,
    )


def _hidden_seconds(settings: Settings) -> int:
    """Return the initial visibility timeout: one lease in whole seconds, at least one second.

    The receipts of messages received just before a crash are not recorded. With this timeout, the messages are visible
    again when the standby takes over.
    """
    return max(1, math.floor(min(settings.lease_seconds, settings.sqs_visibility_timeout)))


def _warm_up(predictor: Predictor) -> None:
    """Run features and models once. A failure is only logged, because the first bar raises it again (INF-05)."""
    try:
        warm_up_features(VIEWS[predictor.feature_view])
        predictor.warm_up()
    except Exception as error:  # noqa: BLE001 (models raise many types)
        _LOG.warning("warm-up failed", error=repr(error))


def build_engine(
    connection: psycopg.Connection,
    settings: Settings,
    predictor: Predictor,
    plan: DrainPlan,
    *,
    content_based_dedup: bool,
) -> Engine:
    """Return an engine for the instruments and sessions in the database, and record the run with their calendars."""
    calendar_of = {row.symbol: row.calendar for row in load_instruments(connection)}
    run = ScoringRun(lane="live", run_id=plan.run_id, calendar_of=calendar_of, queue_url=plan.queue_url)
    record_run(connection, settings, run)
    return serving_engine(connection, settings, predictor, run_id=plan.run_id, content_based_dedup=content_based_dedup)


def _loop(
    shell: Shell,
    engine: Engine,
    settings: Settings,
    plan: DrainPlan,
    *,
    resources: _Resources,
    outages: Outages,
    clock: Clock,
    end: int,
    stop: threading.Event,
    report: Callable[[], DrainReport],
) -> StopReason:
    idle = round(settings.drain_idle_seconds * MICROSECONDS)
    last_message = last_report = clock.now_us()
    while True:
        _check_watch(resources, plan)
        instant = clock.now_us()
        if stop.is_set():
            return "signal"
        if instant >= end:
            return "window"
        if instant - last_message >= idle and engine.next_close() is None:
            return "idle"
        if shell.run_once(min(STOP_CHECK_SECONDS, (end - instant) / MICROSECONDS)) or outages.is_ongoing:
            last_message = clock.now_us()
        if clock.now_us() - last_report >= REPORT_SECONDS * MICROSECONDS:
            plan.on_report(report())
            last_report = clock.now_us()


def _report(
    meter: Meter, plan: DrainPlan, predictor: Predictor | None, seconds: float, stopped_by: StopReason | None
) -> DrainReport:
    report = meter.report(
        queue_url=plan.queue_url,
        run_id=plan.run_id,
        bundle_hash="" if predictor is None else predictor.bundle_hash,
        warmup=predictor is not None and predictor.warmup,
        seconds=seconds,
        stopped_by=stopped_by,
    )
    if stopped_by is not None:
        plan.on_report(report)
        _LOG.info("drain run ended", stopped_by=stopped_by, **report.totals)
    return report


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Set an event on SIGTERM and SIGINT within the block, so that work in progress can finish."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
