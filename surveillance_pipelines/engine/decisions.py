"""Decisions on predictions: alerts that open, are confirmed or are retracted, their incidents, and signals. No I/O.

Predictions are shared; decisions belong to one tenant and strategy. Decision state is kept per tenant, strategy and
symbol, so tenants with different budgets or cooldowns get different alerts from the same predictions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.outputs import OutputRow
from surveillance_pipelines.engine.alerts import OpenAlerts
from surveillance_pipelines.engine.incidents import Incidents, OpenIncident, gap_of
from surveillance_pipelines.engine.scoring_rows import (
    Candidate,
    RowConfig,
    anomaly_kind,
    anomaly_row,
    paced_signal,
    score_row,
)
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.strategies.pacing import SignalGate

EARLIEST_ALERT: Final = 15 * MICROSECONDS
"""Time of the bar that must have been seen before an alert opens on it; less says little about the whole bar."""

CERTAIN_SCORE: Final = 0.99
"""Score with which an alert opens at once."""

DecisionKey = tuple[str, str]
"""Tenant and strategy."""

PRIMARY: Final[DecisionKey] = ("", "")
"""Key of a process's first tenant and strategy, whatever their names. Older snapshots hold only this state."""


@dataclass
class DecisionState:
    """State of one tenant, strategy and symbol: alerts open on the bar in progress, open incident, last signal."""

    alerts: OpenAlerts = field(default_factory=OpenAlerts)
    gate: SignalGate = field(default_factory=SignalGate)
    incidents: Incidents = field(default_factory=Incidents)

    @classmethod
    def of(
        cls, alerts: tuple[str, ...], last_signal: int | None, incident: OpenIncident | None = None
    ) -> "DecisionState":
        """Return the state stored in a snapshot."""
        return cls(OpenAlerts(alerts), SignalGate(last_signal), Incidents(incident))


def open_incidents(decisions: Mapping[DecisionKey, DecisionState]) -> dict[DecisionKey, OpenIncident]:
    """Return the open incidents of a symbol, by tenant and strategy."""
    found = {key: state.incidents.open_incident for key, state in decisions.items()}
    return {key: incident for key, incident in found.items() if incident is not None}


def decide(
    predictions: BundlePredictions,
    i: int,
    bar: Candidate,
    config: RowConfig,
    state: DecisionState,
    *,
    provisional_scores: bool = True,
) -> list[OutputRow]:
    """Return the output rows of one bar for one tenant and strategy, and advance its state.

    Args:
        predictions: predictions for a batch of bars.
        i: the bar's row in the batch.
        bar: the bar.
        config: tenant, strategy, signal cooldown and the other fields that all rows share.
        state: updated in place.
        provisional_scores: whether a bar in progress also gets a score row.
    """
    kind = anomaly_kind(predictions, i)
    final = bar.bar_status == "final"
    if final:
        events = state.alerts.on_final(kind)
    else:
        events = state.alerts.on_provisional(kind if _may_open(predictions, i, bar) else None)
    outputs: list[OutputRow] = []
    if final or provisional_scores:
        outputs.append(score_row(config, bar, predictions, i))
    alerts = [anomaly_row(config, bar, predictions, i, kind=event.kind, status=event.status) for event in events]
    outputs += alerts
    outputs += state.incidents.on_bar(
        bar.bar_start, bar.bar_status, config.bundle_hash, alerts, gap=gap_of(config.incident_gap_minutes)
    )
    signal = paced_signal(config, bar, predictions, i, state.gate) if final else None
    return outputs if signal is None else [*outputs, signal]


def _may_open(predictions: BundlePredictions, i: int, bar: Candidate) -> bool:
    """Return whether enough of a bar in progress has been seen to open an alert."""
    return bar.event_time - bar.bar_start >= EARLIEST_ALERT or predictions.anomaly_score[i] >= CERTAIN_SCORE
