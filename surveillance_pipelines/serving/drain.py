"""A drain run: hold one queue's lease for a window of time, and serve the queue while there is work.

``python -m surveillance_pipelines.serving.drain --queue-url …`` runs one without Dagster.
"""

import argparse
import json
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Final

import psycopg

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.queue import QueueClient
from surveillance_pipelines.models.scoring import AnomalyScorer
from surveillance_pipelines.serving import lease as leases
from surveillance_pipelines.serving.engine import Engine, engine_config
from surveillance_pipelines.serving.lease import Lease, LeaseLostError
from surveillance_pipelines.serving.meter import DrainReport, Meter, StopReason
from surveillance_pipelines.serving.models import load_scorer
from surveillance_pipelines.serving.shell import AfterStep, Shell, ShellOptions
from surveillance_pipelines.serving.store import PostgresStore
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.storage.database import connect
from surveillance_pipelines.storage.endpoints import Endpoints, resolve_endpoints
from surveillance_pipelines.storage.instruments import load_instruments
from surveillance_pipelines.storage.lake import Lake
from surveillance_pipelines.storage.sessions import load_sessions
from surveillance_pipelines.telemetry import bind_correlation, configure_logging, get_logger

REPORT_SECONDS: Final = 5.0
"""Between two reports: an event per message would drown Dagster's log."""

OnReport = Callable[[DrainReport], None]

_LOG = get_logger("drain")


@dataclass(frozen=True)
class DrainPlan:
    """What one drain run is asked to do."""

    queue_url: str
    run_id: str | None
    window_seconds: float
    on_report: OnReport
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
    after_step: AfterStep = lambda _: None,
) -> DrainReport:
    """Serve a queue until the window ends, the queue stays idle, the lease is lost, or a signal asks to stop.

    The process's structured log goes to standard error from here on, at ``LOG_LEVEL`` and without secrets.

    Args:
        endpoints: where the stores and queues are.
        settings: the platform's knobs.
        queue_url: one of the input queues.
        run_id: of the Dagster run, written on every row.
        window_seconds: None means ``DRAIN_WINDOW_SECONDS``.
        clock: the seam for time.
        on_report: called every few seconds and once at the end.
        after_step: called after each step of the shell.

    Raises:
        NoModelError: if nothing may score.
        QueueError: if SQS did not accept what was sent or deleted; the next run goes on from what is committed.
    """
    configure_logging(settings)
    window = settings.drain_window_seconds if window_seconds is None else window_seconds
    plan = DrainPlan(queue_url, run_id, window, on_report, after_step)
    with ExitStack() as stack:
        stack.enter_context(bind_correlation(run_id or "local", queue_url=queue_url))
        stopping = stack.enter_context(_stop_on_signals())
        connection = stack.enter_context(connect(endpoints.database_url, autocommit=True))
        begin = clock.now_us()
        lease = _wait_for_lease(connection, settings, plan, clock)
        if lease is None:
            _LOG.info("another run holds the queue")
            return _report(Meter(), plan, None, 0.0, "lease_held")
        try:
            return _serve(connection, endpoints, settings, plan, lease=lease, clock=clock, begin=begin, stop=stopping)
        finally:
            leases.release(connection, lease)


def _serve(
    connection: psycopg.Connection,
    endpoints: Endpoints,
    settings: Settings,
    plan: DrainPlan,
    *,
    lease: Lease,
    clock: Clock,
    begin: int,
    stop: threading.Event,
) -> DrainReport:
    scorer = load_scorer(connection, settings)
    inputs, outputs = (
        QueueClient(endpoints.sqs_endpoint_url, settings.aws_region, endpoints.aws, url, clock=clock)
        for url in (plan.queue_url, endpoints.output_queue_url)
    )
    engine = build_engine(connection, settings, scorer, plan, content_based_dedup=inputs.content_based_dedup)
    _warm_up(engine)
    lake = Lake(endpoints.lake_url, endpoints.lake_storage_options)
    meter = Meter()
    shell = Shell(
        inputs=inputs,
        outputs=outputs,
        store=PostgresStore(connection, lake, lease, feature_view=scorer.feature_view, run_id=plan.run_id),
        engine=engine,
        meter=meter,
        clock=clock,
        options=ShellOptions(settings.sqs_max_messages, settings.sqs_visibility_timeout, settings.publish_scores),
        after_step=plan.after_step,
    )
    _LOG.info("serving", bundle_hash=scorer.bundle_hash, warmup=scorer.warmup, fencing=lease.fencing)

    def report(stopped_by: StopReason | None = None) -> DrainReport:
        seconds = (clock.now_us() - begin) / MICROSECONDS
        return _report(meter, plan, scorer, seconds, stopped_by)

    try:
        shell.start()
        stopped_by = _loop(shell, engine, settings, plan, clock=clock, begin=begin, stop=stop, report=report)
    except LeaseLostError as error:
        _LOG.warning("lease lost", error=str(error))
        stopped_by = "lease_lost"
    return report(stopped_by)


def _warm_up(engine: Engine) -> None:
    """Warm the engine up; a failure is a warning only, because the first real bar says more about it (INF-05)."""
    try:
        engine.warm_up()
    except Exception as error:  # noqa: BLE001 (whatever the models raise; on record, and raised again by real bars)
        _LOG.warning("warm-up failed", error=repr(error))


def build_engine(
    connection: psycopg.Connection,
    settings: Settings,
    scorer: AnomalyScorer,
    plan: DrainPlan,
    *,
    content_based_dedup: bool,
) -> Engine:
    """Return an engine over the instruments and sessions in the database; ``SYMBOLS`` are known without a row."""
    calendar_of = {row.symbol: row.calendar for row in load_instruments(connection)}
    config = engine_config(settings, scorer, run_id=plan.run_id, content_based_dedup=content_based_dedup)
    sessions = load_calendars(connection, settings, calendar_of)
    return Engine(config, scorer, sessions, {*calendar_of, *settings.symbols})


def load_calendars(connection: psycopg.Connection, settings: Settings, calendar_of: dict[str, str]) -> SessionTable:
    """Return every session on record, of the default calendar and of those that instruments trade on."""
    others = sorted(set(calendar_of.values()) - {settings.default_calendar})
    sessions = load_sessions(connection, [settings.default_calendar, *others], date.min, date.max)
    return sessions.with_calendars(calendar_of)


def _loop(
    shell: Shell,
    engine: Engine,
    settings: Settings,
    plan: DrainPlan,
    *,
    clock: Clock,
    begin: int,
    stop: threading.Event,
    report: Callable[[], DrainReport],
) -> StopReason:
    end = begin + round(plan.window_seconds * MICROSECONDS)
    idle = round(settings.drain_idle_seconds * MICROSECONDS)
    last_message = last_report = clock.now_us()
    while True:
        instant = clock.now_us()
        next_close = engine.next_close_us(instant)
        if stop.is_set():
            return "signal"
        if instant >= end:
            return "window"
        if instant - last_message >= idle and next_close is None:
            return "idle"
        limits = [end, last_message + idle] if next_close is None else [end, next_close]
        if shell.turn(poll_seconds(settings, instant, min(limits))):
            last_message = clock.now_us()
        if clock.now_us() - last_report >= REPORT_SECONDS * MICROSECONDS:
            plan.on_report(report())
            last_report = clock.now_us()


def poll_seconds(settings: Settings, now_us: int, until_us: int) -> int:
    """Return how long to long-poll: ``SQS_WAIT_TIME``, less near an instant that must not be missed.

    A poll lasts a second at least, which costs less than asking again and again, and a third of the lease at most.
    """
    longest = min(settings.sqs_wait_time, max(1, int(settings.lease_seconds / 3)))
    return max(1, min(longest, math.ceil((until_us - now_us) / MICROSECONDS)))


def _wait_for_lease(connection: psycopg.Connection, settings: Settings, plan: DrainPlan, clock: Clock) -> Lease | None:
    """Take the lease, waiting as long as a dead run's may last; None if it is kept alive by a living one."""
    holder = f"{socket.gethostname()}:{os.getpid()}"
    patience = min(plan.window_seconds, settings.lease_seconds * 1.5)
    until = clock.now_us() + round(patience * MICROSECONDS)
    while True:
        lease = leases.acquire(
            connection, plan.queue_url, holder=holder, seconds=settings.lease_seconds, run_id=plan.run_id
        )
        if lease is not None or clock.now_us() >= until:
            return lease
        clock.sleep(0.1)


def _report(
    meter: Meter, plan: DrainPlan, scorer: AnomalyScorer | None, seconds: float, stopped_by: StopReason | None
) -> DrainReport:
    report = meter.report(
        queue_url=plan.queue_url,
        run_id=plan.run_id,
        bundle_hash="" if scorer is None else scorer.bundle_hash,
        warmup=scorer is not None and scorer.warmup,
        seconds=seconds,
        stopped_by=stopped_by,
    )
    if stopped_by is not None:
        plan.on_report(report)
        _LOG.info("drain run ended", stopped_by=stopped_by, **report.totals)
    return report


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Turn SIGTERM and SIGINT into an event while the block runs: the batch in hand is finished first."""
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


def main(arguments: list[str] | None = None) -> int:
    """Run one drain from the command line; the report is printed as JSON."""
    parser = argparse.ArgumentParser(description="Serve one input queue for a while, without Dagster.")
    parser.add_argument("--queue-url", help="default: the first of SQS_QUEUE_URL")
    parser.add_argument("--run-id")
    parser.add_argument("--window-seconds", type=float)
    options = parser.parse_args(arguments)
    settings = Settings()
    endpoints = resolve_endpoints(settings)
    report = drain(
        endpoints,
        settings,
        options.queue_url or endpoints.queue_urls[0],
        run_id=options.run_id,
        window_seconds=options.window_seconds,
    )
    sys.stdout.write(json.dumps(_as_json(report)) + "\n")
    return 0


def _as_json(report: DrainReport) -> dict[str, Any]:
    return {**asdict(report), "messages_per_second": report.messages_per_second}


if __name__ == "__main__":
    sys.exit(main())
