"""A delivery run: waits for the lease of a channel, then delivers the outbox to it for a window of time."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.endpoints import Endpoints
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.runtime.delivery_loop import DeliveryLoop, DeliveryOptions
from surveillance_pipelines.runtime.drain import (
    OUTAGE_SECONDS_PAST_WINDOW,
    REPORT_SECONDS,
    STOP_CHECK_SECONDS,
    stop_on_signals,
)
from surveillance_pipelines.runtime.meter import Latency, Meter, StopReason
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.retrying_stores import RetryingDeliveryStore
from surveillance_pipelines.runtime.standby import Contender, contend
from surveillance_pipelines.runtime.tasks import ThreadTasks
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores import lease as leases
from surveillance_pipelines.stores.database import OUTAGE_ERRORS, Reconnector, connect, is_outage
from surveillance_pipelines.stores.delivery_store import PostgresDeliveryStore
from surveillance_pipelines.stores.lease import Lease, LeaseLostError, delivery_lease
from surveillance_pipelines.telemetry import bind_correlation, configure_logging, get_logger
from surveillance_pipelines.transports.channels import open_channel
from surveillance_pipelines.transports.publisher import Publisher

OnReport = Callable[["DeliveryReport"], None]

_LOG = get_logger("delivery")


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """Progress of a delivery run. Counts and latencies of ``interval`` are since the previous report.

    Attributes:
        totals: count by name: delivered, refused, unanswered (calls to the channel without a response).
        latency: percentiles of send, record and outbox_to_channel.
        pending: rows that were read and are not delivered.
        stopped_by: why the run ended; None while it delivers.
    """

    channel: str
    run_id: str | None
    seconds: float
    totals: dict[str, int]
    interval: dict[str, int]
    latency: dict[str, Latency]
    interval_latency: dict[str, Latency]
    pending: int = 0
    stopped_by: StopReason | None = None


@dataclass(frozen=True, kw_only=True)
class DeliveryPlan:
    """The task of one delivery run."""

    channel: str
    run_id: str | None
    window_seconds: float
    options: DeliveryOptions
    on_report: OnReport
    on_status: Callable[[str], None]


def deliver(
    endpoints: Endpoints,
    settings: Settings,
    channel: str,
    *,
    run_id: str | None = None,
    window_seconds: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
    options: DeliveryOptions | None = None,
    publisher: Publisher | None = None,
    on_report: OnReport = lambda _: None,
    on_status: Callable[[str], None] = lambda _: None,
) -> DeliveryReport:
    """Deliver the outbox to a channel until the window ends, nothing is left, the lease is lost, or a signal arrives.

    A channel that does not respond does not end the run: it is retried until the window ends. While another run
    delivers, this one stands by (``DRAIN_STANDBY``), as drain runs do.

    Args:
        endpoints: addresses of the stores.
        settings: the platform's configuration.
        channel: one of ``OUTPUT_CHANNELS`` other than sqs.
        run_id: id of the Dagster run.
        window_seconds: None means ``DRAIN_WINDOW_SECONDS``.
        clock: source of time.
        options: None means the defaults.
        publisher: None opens the channel configured in the settings.
        on_report: called every few seconds and once at the end.
        on_status: called with a sentence when the run begins to stand by or to deliver.

    Raises:
        InvalidInputError: if ``OUTPUT_CHANNELS`` does not list the channel, or drain runs publish to it.
    """
    _require_side_channel(settings, channel)
    configure_logging(settings)
    plan = DeliveryPlan(
        channel=channel,
        run_id=run_id,
        window_seconds=settings.drain_window_seconds if window_seconds is None else window_seconds,
        options=options or DeliveryOptions(),
        on_report=on_report,
        on_status=on_status,
    )
    with ExitStack() as stack:
        stack.enter_context(bind_correlation(run_id or "local", channel=channel))
        stop = stack.enter_context(stop_on_signals())
        link, heartbeat = (
            stack.enter_context(Reconnector(partial(connect, endpoints.database_url, autocommit=True)))
            for _ in range(2)
        )
        publisher = publisher or stack.enter_context(closing(open_channel(settings, channel)))
        return _DeliveryRun(settings, plan, clock, stop).run(link, heartbeat, publisher)


def _require_side_channel(settings: Settings, channel: str) -> None:
    if channel not in settings.side_channels:
        raise InvalidInputError(
            f"expected a channel of OUTPUT_CHANNELS other than sqs, got {channel!r}: "
            f"OUTPUT_CHANNELS is {','.join(settings.output_channels)}",
            remedy="name a listed channel other than sqs, to which drain runs publish, or list it in OUTPUT_CHANNELS",
        )


def _contender(settings: Settings, plan: DeliveryPlan, clock: Clock, stop: threading.Event) -> Contender:
    return Contender(
        lease_name=delivery_lease(plan.channel),
        run_id=plan.run_id,
        lease_seconds=settings.lease_seconds,
        stands_by=settings.drain_standby,
        clock=clock,
        stop=stop,
        on_status=plan.on_status,
    )


@dataclass(frozen=True)
class _DeliveryRun:
    """A delivery run: it contends for the lease, and serves while it holds it."""

    settings: Settings
    plan: DeliveryPlan
    clock: Clock
    stop: threading.Event

    def run(self, link: Reconnector, heartbeat: Reconnector, publisher: Publisher) -> DeliveryReport:
        lease = contend(link, _contender(self.settings, self.plan, self.clock, self.stop))
        if not isinstance(lease, Lease):
            return _report(Meter(), self.plan, 0.0, stopped_by=lease)
        ended: StopReason | None = None
        try:
            report = self._serve(link, heartbeat, lease, publisher)
            ended = report.stopped_by
            return report
        finally:
            with suppress(*OUTAGE_ERRORS):  # the lease expires
                leases.release(link.get(), lease, ended=ended)

    def _serve(self, link: Reconnector, heartbeat: Reconnector, lease: Lease, publisher: Publisher) -> DeliveryReport:
        plan, begin, meter = self.plan, self.clock.now_us(), Meter()
        give_up = begin + round((plan.window_seconds + OUTAGE_SECONDS_PAST_WINDOW) * MICROSECONDS)
        outages = Outages(
            self.clock,
            is_outage=is_outage,
            gives_up=lambda: self.stop.is_set() or self.clock.now_us() >= give_up,
            on_status=plan.on_status,
        )
        store = RetryingDeliveryStore(PostgresDeliveryStore(link, heartbeat, lease, plan.channel), outages)
        loop = DeliveryLoop(publisher=publisher, store=store, meter=meter, clock=self.clock, options=plan.options)
        _LOG.info("delivering", channel=plan.channel, fencing=lease.fencing)
        plan.on_status(f"delivers from now on, fencing number {lease.fencing}")
        tasks = ThreadTasks()
        tasks.every("heartbeat", self.settings.lease_seconds / leases.HEARTBEATS_PER_LEASE, store.renew)

        def report(stopped_by: StopReason | None = None) -> DeliveryReport:
            seconds = (self.clock.now_us() - begin) / MICROSECONDS
            return _report(meter, plan, seconds, pending=loop.pending, stopped_by=stopped_by)

        try:
            stopped_by = self._loop(loop, tasks, begin, report)
        except LeaseLostError as error:
            _LOG.warning("lease lost", error=str(error))
            stopped_by = "lease_lost"
        finally:
            tasks.abort()
        return report(stopped_by)

    def _loop(
        self, loop: DeliveryLoop, tasks: ThreadTasks, begin: int, report: Callable[[], DeliveryReport]
    ) -> StopReason:
        end = begin + round(self.plan.window_seconds * MICROSECONDS)
        idle = round(self.settings.drain_idle_seconds * MICROSECONDS)
        last_row = last_report = begin
        while True:
            tasks.check()
            now = self.clock.now_us()
            if self.stop.is_set():
                return "signal"
            if now >= end:
                return "window"
            if not loop.pending and now - last_row >= idle:
                return "idle"
            delivered = loop.run_once()
            if delivered or loop.pending:
                last_row = self.clock.now_us()
            if not delivered:
                self.clock.sleep(min(loop.pause_seconds(), STOP_CHECK_SECONDS))
            if self.clock.now_us() - last_report >= REPORT_SECONDS * MICROSECONDS:
                self.plan.on_report(report())
                last_report = self.clock.now_us()


def _report(
    meter: Meter,
    plan: DeliveryPlan,
    seconds: float,
    *,
    pending: int = 0,
    stopped_by: StopReason | None = None,
) -> DeliveryReport:
    figures = meter.figures()
    report = DeliveryReport(
        channel=plan.channel,
        run_id=plan.run_id,
        seconds=seconds,
        totals=figures.totals,
        interval=figures.interval,
        latency=figures.latency,
        interval_latency=figures.interval_latency,
        pending=pending,
        stopped_by=stopped_by,
    )
    if stopped_by is not None:
        plan.on_report(report)
        _LOG.info("delivery run ended", stopped_by=stopped_by, **report.totals)
    return report
