"""The lifecycle of an alert: opened while its bar is in progress, then confirmed or retracted.

There is one alert per symbol, bar and kind. A bar in progress opens at most one, because its kind often changes until
it closes. A bar that becomes anomalous only when it closes is confirmed without being opened first. Batch scoring sees
only closed bars, so it writes exactly the confirmed rows of the live lane.
"""

from dataclasses import dataclass

from surveillance_pipelines.contracts.outputs import AlertStatus


@dataclass(frozen=True, slots=True)
class AlertEvent:
    kind: str
    status: AlertStatus


class OpenAlerts:
    """The alert kinds open on one symbol's bar in progress; states of earlier releases may have several, in order."""

    def __init__(self, kinds: tuple[str, ...] = ()) -> None:
        self._kinds = list(kinds)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    def on_provisional(self, kind: str | None) -> list[AlertEvent]:
        """Return the events after a provisional score of this kind (None for a normal score), and record the kind."""
        if kind is None or self._kinds:
            return []
        self._kinds.append(kind)
        return [AlertEvent(kind, "opened")]

    def on_final(self, kind: str | None) -> list[AlertEvent]:
        """Confirm the kind of the closed bar (None for a normal bar) and retract every other open alert."""
        events = [AlertEvent(opened, "retracted") for opened in self._kinds if opened != kind]
        self._kinds.clear()
        return events if kind is None else [AlertEvent(kind, "confirmed"), *events]
