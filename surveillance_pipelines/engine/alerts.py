"""The life of an alert: one per symbol, bar and kind; opened while the bar is in progress, then confirmed or retracted.

A bar that turns out anomalous only as it closes is confirmed without having been opened. Batch scoring, which sees
closed bars only, therefore writes exactly the confirmed rows of the live lane.
"""

from dataclasses import dataclass

from surveillance_pipelines.contracts.outputs import AlertStatus


@dataclass(frozen=True, slots=True)
class AlertEvent:
    kind: str
    status: AlertStatus


class OpenAlerts:
    """The kinds opened for the bar in progress of one symbol, in the order they were opened."""

    def __init__(self, kinds: tuple[str, ...] = ()) -> None:
        self._kinds = list(kinds)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    def on_provisional(self, kind: str | None) -> list[AlertEvent]:
        """Take the anomaly kind that a message's score shows, None for a normal one."""
        if kind is None or kind in self._kinds:
            return []
        self._kinds.append(kind)
        return [AlertEvent(kind, "opened")]

    def on_final(self, kind: str | None) -> list[AlertEvent]:
        """Take the kind that the closed bar shows; every other open alert of the bar is retracted."""
        events = [AlertEvent(opened, "retracted") for opened in self._kinds if opened != kind]
        self._kinds.clear()
        return events if kind is None else [AlertEvent(kind, "confirmed"), *events]
