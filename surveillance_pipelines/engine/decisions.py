"""From predictions to output rows: which alerts open or end, which signals go out. Pure, with a state of its own.

Predictions are shared; decisions belong to one tenant and strategy. Their state is kept per tenant, strategy and
symbol, so tenants with different budgets or paces get different alerts from the same predictions.
"""

from dataclasses import dataclass, field
from typing import Final

from surveillance_pipelines.contracts.outputs import OutputRow
from surveillance_pipelines.engine.alerts import OpenAlerts
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

DecisionKey = tuple[str, str]
"""Tenant and strategy."""

PRIMARY: Final[DecisionKey] = ("", "")
"""Key of the first tenant and strategy of a process, whatever their names: its state is the one that older snapshots
hold."""


@dataclass
class DecisionState:
    """What one tenant and strategy remembers of one symbol: the alerts open on the bar in progress, the last signal."""

    alerts: OpenAlerts = field(default_factory=OpenAlerts)
    gate: SignalGate = field(default_factory=SignalGate)

    @classmethod
    def of(cls, alerts: tuple[str, ...], last_signal: int | None) -> "DecisionState":
        """Return the state that a snapshot describes."""
        return cls(OpenAlerts(alerts), SignalGate(last_signal))


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
        predictions: of a batch of bars.
        i: the bar's row in it.
        bar: the bar.
        config: tenant, strategy, pace and the rest of what its rows share.
        state: changed here.
        provisional_scores: whether a bar in progress gets a score row, too.
    """
    kind = anomaly_kind(predictions, i)
    final = bar.bar_status == "final"
    events = state.alerts.on_final(kind) if final else state.alerts.on_provisional(kind)
    outputs: list[OutputRow] = []
    if final or provisional_scores:
        outputs.append(score_row(config, bar, predictions, i))
    outputs += [anomaly_row(config, bar, predictions, i, kind=event.kind, status=event.status) for event in events]
    signal = paced_signal(config, bar, predictions, i, state.gate) if final else None
    return outputs if signal is None else [*outputs, signal]
