"""Incidents: the alerts of one symbol that have one cause, from the first alert until none has come for some time.

A fold over alert rows. No I/O. A row of an incident depends only on the alert rows before it, so a replay repeats it
from them, and batch scoring, which sees only closed bars, writes the live lane's rows of closed bars.

An incident never spans two UTC days or two bundles: a day is a partition, and scores of two bundles are not comparable.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from surveillance_pipelines.clock import MICROSECONDS, utc_date
from surveillance_pipelines.contracts.market import BarStatus
from surveillance_pipelines.contracts.outputs import (
    SEVERITIES,
    Anomaly,
    Incident,
    IncidentStatus,
    Severity,
    column_names,
    incident_id,
    row_id,
    to_record,
)
from surveillance_pipelines.engine.scoring_rows import OUTSIDE_TRAINING

DEFAULT_GAP_MINUTES: Final = 15.0

EARLY_SCORE: Final = 0.9
"""Smallest score with which a bar in progress opens an incident; a weaker alert waits until its bar has closed."""

HIGH_SCORE: Final = 0.9
MEDIUM_SCORE: Final = 0.7
LONG_ALERTS: Final = 5
"""Alerts from which an incident is one level more severe than its strongest alert."""

KEPT_ALERT_IDS: Final = 20

_INHERITED: Final = tuple(
    name
    for name in column_names(Anomaly)
    if name in column_names(Incident)
    and name not in ("id", "score", "threshold", "kind", "confidence", "risk_score", "explanation")
)
"""Fields that an incident's row takes from its last alert."""


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An incident that is not closed.

    Attributes:
        first_bar_start: start of the bar of its first alert.
        first_price: price of that bar.
        last: row of its last alert.
        peak: row of its strongest alert.
        confirmed: whether a closed bar has confirmed it.
        severity: severity in its last row.
        kinds: kind → number of confirmed alerts.
        alert_ids: ids of its first alerts.
    """

    first_bar_start: int
    first_price: float
    last: Anomaly
    peak: Anomaly
    confirmed: bool
    severity: Severity
    kinds: dict[str, int]
    alert_ids: tuple[str, ...]

    @classmethod
    def of(cls, alert: Anomaly) -> "OpenIncident":
        """Return the incident that an alert begins."""
        confirmed = alert.alert_status == "confirmed"
        kinds = {alert.kind: 1} if confirmed else {}
        first, price = alert.bar_start, alert.price
        return cls(first, price, alert, alert, confirmed, severity_of(alert.score, 1), kinds, (alert.alert_id,))

    @property
    def alerts(self) -> int:
        return sum(self.kinds.values())

    def with_alert(self, alert: Anomaly) -> "OpenIncident":
        """Return the incident with one more confirmed alert."""
        kinds = self.kinds | {alert.kind: self.kinds.get(alert.kind, 0) + 1}
        is_peak = alert.score > self.peak.score
        peak, ids = alert if is_peak else self.peak, self.alert_ids
        if is_peak or len(ids) < KEPT_ALERT_IDS:
            ids = (*ids[: KEPT_ALERT_IDS - 1], alert.alert_id)
        severity = max(self.severity, severity_of(peak.score, sum(kinds.values())), key=SEVERITIES.index)
        return replace(self, last=alert, peak=peak, kinds=kinds, alert_ids=ids, severity=severity)

    def is_over(self, bar_start: int, bundle_hash: str, gap: int) -> bool:
        """Return whether a bar cannot belong to it.

        Outside the models' training data, alerts mean less: they form one incident per symbol and day.
        """
        if not self.confirmed or bar_start <= self.last.bar_start:
            return False
        if utc_date(bar_start) != utc_date(self.first_bar_start) or bundle_hash != self.last.bundle_hash:
            return True
        return bar_start - self.last.bar_start > gap and OUTSIDE_TRAINING not in self.last.explanation


def severity_of(score: float, alerts: int) -> Severity:
    """Return the severity of an incident from its highest score and its number of alerts."""
    level = 2 if score >= HIGH_SCORE else 1 if score >= MEDIUM_SCORE else 0
    return SEVERITIES[min(level + (alerts >= LONG_ALERTS), len(SEVERITIES) - 1)]


def gap_of(minutes: float | None) -> int:
    """Return ``INCIDENT_GAP_MINUTES`` in microseconds; None for the default."""
    return round((DEFAULT_GAP_MINUTES if minutes is None else minutes) * 60 * MICROSECONDS)


class Incidents:
    """The incidents of one tenant, strategy and symbol, of which at most one is open.

    Args:
        open_incident: the open one of a snapshot.
    """

    def __init__(self, open_incident: OpenIncident | None = None) -> None:
        self._open = open_incident

    @property
    def open_incident(self) -> OpenIncident | None:
        return self._open

    def on_bar(
        self, bar_start: int, bar_status: BarStatus, bundle_hash: str, alerts: Sequence[Anomaly], *, gap: int
    ) -> list[Incident]:
        """Return the rows after a bar was scored, and advance the state.

        Args:
            bar_start: start of the bar.
            bar_status: whether the bar is in progress or closed.
            bundle_hash: bundle that scored it.
            alerts: the rows that this score opened, confirmed or retracted.
            gap: microseconds without an alert after which an incident is over.
        """
        if self._open is None and not alerts:  # almost every bar
            return []
        rows: list[Incident] = []
        if self._open is not None and self._open.is_over(bar_start, bundle_hash, gap):
            rows += self.close()
        for alert in alerts:
            if alert.alert_status == "opened":
                rows += self._on_opened(alert)
            elif alert.alert_status == "confirmed":
                rows += self._on_confirmed(alert)
        if bar_status != "provisional" and self._open is not None and not self._open.confirmed:
            rows += self._retract(alerts)
        return rows

    def close(self) -> list[Incident]:
        """Close the open incident, if it is confirmed."""
        known, self._open = self._open, None
        return [] if known is None or not known.confirmed else [_row(known, "closed")]

    def _on_opened(self, alert: Anomaly) -> list[Incident]:
        if self._open is not None or alert.score < EARLY_SCORE:
            return []
        self._open = OpenIncident.of(alert)
        return [_row(self._open, "opened")]

    def _on_confirmed(self, alert: Anomaly) -> list[Incident]:
        before = self._open
        if before is None or not before.confirmed:  # what a bar in progress looked like no longer counts
            self._open = OpenIncident.of(alert)
            return [_row(self._open, "confirmed")]
        self._open = before.with_alert(alert)
        return [_row(self._open, "updated")] if self._open.severity != before.severity else []

    def _retract(self, alerts: Sequence[Anomaly]) -> list[Incident]:
        opened, self._open = self._open, None
        if opened is None:
            return []
        retracted = [alert for alert in alerts if alert.alert_id == opened.last.alert_id]
        return [_row(replace(opened, last=row, peak=row), "retracted") for row in retracted]


def incidents_of(alerts: Iterable[Anomaly], gap: int) -> list[Incident]:
    """Return the rows of the incidents of confirmed alerts, closed at the end.

    Args:
        alerts: confirmed alerts of one tenant, strategy and bundle; ascending by time within each symbol.
        gap: microseconds without an alert after which an incident is over.
    """
    open_of: dict[str, Incidents] = {}
    rows: list[Incident] = []
    for alert in alerts:
        incidents = open_of.setdefault(alert.symbol, Incidents())
        rows += incidents.on_bar(alert.bar_start, "final", alert.bundle_hash, [alert], gap=gap)
    for symbol in sorted(open_of):
        rows += open_of[symbol].close()
    return rows


def dump_incident(incident: OpenIncident) -> dict[str, Any]:
    """Return an open incident as a JSON object."""
    return {
        "first_bar_start": incident.first_bar_start,
        "first_price": incident.first_price,
        "last": to_record(incident.last),
        "peak": to_record(incident.peak),
        "confirmed": incident.confirmed,
        "severity": incident.severity,
        "kinds": incident.kinds,
        "alert_ids": incident.alert_ids,
    }


def load_incident(record: dict[str, Any]) -> OpenIncident:
    """Return the incident written by ``dump_incident``."""
    values: dict[str, Any] = dict(record)
    values |= {name: Anomaly(**record[name]) for name in ("last", "peak")}
    values["alert_ids"] = tuple(record["alert_ids"])
    return OpenIncident(**values)


def _row(incident: OpenIncident, status: IncidentStatus) -> Incident:
    last, peak = incident.last, incident.peak
    inherited: dict[str, Any] = {name: getattr(last, name) for name in _INHERITED}
    return Incident(
        **inherited,
        id=row_id(
            "incident", kind=status, tenant=last.tenant, strategy=last.strategy, symbol=last.symbol,
            timeframe=last.timeframe, bar_start=last.bar_start, revision=last.revision, bar_status=last.bar_status,
            trigger_message_id=last.correlation_id if last.bar_status == "provisional" else None,
            feature_view=last.feature_view, bundle_hash=last.bundle_hash, config_hash=last.config_hash,
        ),
        score=peak.score,
        threshold=peak.threshold,
        kind=peak.kind,
        confidence=peak.confidence,
        risk_score=peak.risk_score,
        explanation=_explanation(peak),
        incident_status=status,
        incident_id=incident_id(
            tenant=last.tenant, strategy=last.strategy, symbol=last.symbol, timeframe=last.timeframe,
            first_bar_start=incident.first_bar_start,
        ),
        severity=incident.severity,
        first_bar_start=incident.first_bar_start,
        last_bar_start=last.bar_start,
        alerts=incident.alerts,
        kinds=incident.kinds,
        alert_ids=incident.alert_ids,
        first_price=incident.first_price,
    )  # fmt: skip


def _explanation(peak: Anomaly) -> dict[str, Any]:
    """Return the part of the strongest alert's explanation that an incident's message repeats."""
    return {name: peak.explanation[name] for name in ("summary", OUTSIDE_TRAINING) if name in peak.explanation}
