"""The sensor that sends notifications of failed runs, red checks, alerts and queues that no run serves."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import dagster as dg

from surveillance_pipelines.defs.automation import SENSORS_START
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.run_records import check_state, job_title, run_error

if TYPE_CHECKING:
    from surveillance_pipelines.services.notifications import Event, NotificationState
    from surveillance_pipelines.settings import NotificationKind

NAME: Final = "notification_sensor"

_EVENT_TYPES: Final = {
    "runs": dg.DagsterEventType.RUN_FAILURE,
    "checks": dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
_AT_ONCE: Final = 500
_OVERLAP: Final = 100
"""Events of Dagster that are read again, because transactions may commit in another order than their ids."""


@dg.sensor(
    name=NAME,
    minimum_interval_seconds=30,
    default_status=SENSORS_START,
    description=(
        "Sends failed runs, checks that begin to fail, alerts and queues that no run serves to the receivers of "
        "NOTIFY_URLS, at most one message per receiver and NOTIFY_MIN_INTERVAL_SECONDS. Off without NOTIFY_URLS."
    ),
)
def notification_sensor(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult:
    from surveillance_pipelines.services.notification_sending import send
    from surveillance_pipelines.services.notifications import NotificationState, deliver

    settings = platform.settings
    if not settings.notification_urls:
        return dg.SensorResult(skip_reason="notifications are off: NOTIFY_URLS is not set", cursor="")
    state = NotificationState.load(context.cursor)
    events, problems = _new_events(context.instance, platform, state)
    outcomes = deliver(state, events, settings, platform.clock.now_us(), send)
    text = "; ".join([*outcomes, *problems]) or f"no new event of {', '.join(settings.notify_on)}"
    context.log.info(text)
    return dg.SensorResult(skip_reason=text, cursor=state.model_dump_json())


def _new_events(
    instance: dg.DagsterInstance, platform: PlatformResource, state: "NotificationState"
) -> tuple[list["Event"], list[str]]:
    """Return the new events of ``NOTIFY_ON``, and why a source of events could not be read."""
    from surveillance_pipelines.services.failures import translate
    from surveillance_pipelines.services.notification_sources import new_alerts, new_unserved

    sources: dict[NotificationKind, Callable[[], list[Event]]] = {
        "failed_run": lambda: new_failed_runs(state, instance),
        "red_check": lambda: new_red_checks(state, instance),
        "alert": lambda: new_alerts(state, platform),
        "queue_not_served": lambda: new_unserved(state, platform),
    }
    events: list[Event] = []
    problems = []
    for kind, read in sources.items():
        if kind not in platform.settings.notify_on:
            _forget(state, kind)
            continue
        try:
            events += read()
        except Exception as error:  # noqa: BLE001 - the other sources are still notified
            problems.append(f"{kind} could not be read: {translate(error).message}")
    return events, problems


def new_failed_runs(state: "NotificationState", instance: dg.DagsterInstance) -> list["Event"]:
    """Return the runs that have failed since the last call."""
    from surveillance_pipelines.services.notifications import Event

    records = _records(state, "runs", "failed_run", instance)
    found = [(record, _failure(record, instance)) for record in records]
    _move(state, "runs", records)
    new = state.unseen("failed_run", map(_key, records))
    return [Event(kind="failed_run", text=f"failed run: {text}") for record, text in found if _key(record) in new]


def _failure(record: dg.EventLogRecord, instance: dg.DagsterInstance) -> str:
    job = job_title(record.event_log_entry.job_name or "")
    return f"{job} {record.run_id[:8]}: {run_error(instance, record.run_id)}"


def new_red_checks(state: "NotificationState", instance: dg.DagsterInstance) -> list["Event"]:
    """Return the checks that have failed since the last call, and did not fail before."""
    from surveillance_pipelines.services.notifications import Event

    records = _records(state, "checks", "red_check", instance)
    _move(state, "checks", records)
    new = state.unseen("red_check", map(_key, records))
    found = [check_state(record) for record in records if _key(record) in new]
    return [
        Event(kind="red_check", text=f"red check: {check.name}: {check.description or 'no description'}")
        for check in found
        if check is not None and state.turned_red(check.name, passed=check.passed)
    ]


def _records(
    state: "NotificationState", source: str, kind: "NotificationKind", instance: dg.DagsterInstance
) -> list[dg.EventLogRecord]:
    """Return the events after the position of a source, and some before it; nothing on the first call."""
    storage, event_type = instance.event_log_storage, _EVENT_TYPES[source]
    if source in state.positions:
        after = max(0, state.positions[source] - _OVERLAP)
        filters = dg.EventRecordsFilter(event_type, after_cursor=after)
        return list(storage.get_event_records(filters, limit=_AT_ONCE, ascending=True))
    past = storage.get_event_records(dg.EventRecordsFilter(event_type), limit=_OVERLAP)
    state.unseen(kind, map(_key, past))
    state.positions[source] = max((record.storage_id for record in past), default=0)
    return []


def _move(state: "NotificationState", source: str, records: list[dg.EventLogRecord]) -> None:
    """Move the position of a source behind what was read."""
    state.positions[source] = max([state.positions[source], *(record.storage_id for record in records)])


def _key(record: dg.EventLogRecord) -> str:
    return str(record.storage_id)


def _forget(state: "NotificationState", kind: "NotificationKind") -> None:
    """Forget the positions of a kind that is off, so that switching it on sends no past events."""
    match kind:
        case "failed_run":
            state.positions.pop("runs", None)
        case "red_check":
            state.positions.pop("checks", None)
            state.red.clear()
        case "alert":
            state.positions = {name: at for name, at in state.positions.items() if name in ("runs", "checks")}
        case "queue_not_served":
            state.unserved.clear()
