"""Events in the platform's database: incidents of the live lane, and queues that no run serves."""

import json
from typing import TYPE_CHECKING, Any

from surveillance_pipelines.services.notifications import Event, NotificationState
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.services.queue_watch import QueueView


def new_alerts(state: NotificationState, stores: Stores) -> list[Event]:
    """Return the incidents of the live lane that have begun, or become highly severe, since the last call."""
    from surveillance_pipelines.stores.outbox import incidents_after, newest_position

    positions, alerts = {}, {}
    with stores.connect() as connection:
        for url in stores.endpoints.queue_urls:
            after = state.positions.get(url)
            positions[url] = newest_position(connection, url) if after is None else after
            for position, body in [] if after is None else incidents_after(connection, url, after):
                positions[url] = position
                row = json.loads(body)
                if row["incident_status"] in ("opened", "confirmed"):
                    alerts.setdefault(row["incident_id"], _alert(row))
                elif row["incident_status"] == "updated" and row["severity"] == "high":
                    alerts.setdefault(f"{row['incident_id']}:high", _alert(row))
    state.positions |= positions  # at the end, so that a failure loses no alert
    new = state.unseen("alert", alerts)
    return [alert for alert_id, alert in alerts.items() if alert_id in new]


def new_unserved(state: NotificationState, stores: Stores) -> list[Event]:
    """Return an event for each input queue that needs a run and has had none for ``UNSERVED_SECONDS``."""
    from surveillance_pipelines.services.queue_watch import queue_state

    if not stores.settings.use_sqs_data_source:
        return []
    with stores.connect() as connection:
        views = [queue_state(stores.queue(url), connection, stores.clock) for url in stores.endpoints.queue_urls]
    needs = {view.queue_url.rsplit("/", 1)[-1]: need for view in views if (need := _need(view))}
    return state.unserved_events(needs, stores.clock.now_us())


def _alert(row: dict[str, Any]) -> Event:
    found = f"{row['kind']} {row['symbol']} at {row['bar_start']}, price {row['price']:g}, score {row['score']:.3g}"
    shown = f"`surveillance incidents show {row['incident_id'][:12]}`"
    return Event(kind="alert", text=f"incident ({row['severity']}): {found}; {shown}")


def _need(view: "QueueView") -> str:
    """Return what a queue needs; empty if nothing, or if a run serves it or is taking over."""
    if view.unreachable is not None:
        return "it does not answer"
    return f"{view.work} wait" if view.has_work and view.holder is None and view.standby is None else ""
