"""Start a training run from a command; read the evaluation metrics and the decision of the gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from surveillance_pipelines.commands.dagster_events import Check
from surveillance_pipelines.commands.dagster_runs import run_job
from surveillance_pipelines.services.platform import Platform

_GATE: Final = "model_evaluation"
_COMPARISON: Final = "model_comparison"


@dataclass(frozen=True, slots=True)
class Training:
    """Result of a training run.

    Attributes:
        run_id: id of the Dagster run.
        promoted: whether the bundle is the champion now.
        kept_as_shadow: whether it passed the gate and is not better than the champion.
        comparison: reasons of the comparison with the champion; empty if there was none.
        gate: checks of the evaluation, failed ones first.
        version: number of the bundle.
        metrics: name → value on the held-out days.
        by_label: one row of metrics per kind of anomaly, and one for ordinary bars.
        left_out: kinds that cannot exist in the training bars, with the reasons.
        untested: trained kinds of which the test days have no planted anomaly.
        seconds: duration of the run.
        days: first and last day of the training bars; None if the run failed before it selected them.
    """

    run_id: str
    promoted: bool
    kept_as_shadow: bool
    comparison: str
    gate: tuple[Check, ...]
    version: int | None
    metrics: dict[str, float]
    by_label: tuple[Mapping[str, str | float | None], ...]
    left_out: Mapping[str, str]
    untested: tuple[str, ...]
    seconds: float
    days: tuple[str, str] | None

    @property
    def refusals(self) -> list[str]:
        """The reasons why the gate refused the bundle."""
        return [f"{check.name}: {check.summary}" for check in self.gate if check.blocking and not check.passed]


def train_range(platform: Platform, first: date | None, last: date | None, *, seed: int) -> Training:
    """Train, evaluate and, if the gate passes, promote, in one run.

    Args:
        platform: platform with the services and the Dagster instance of the run.
        first: first day of bars; None means the oldest.
        last: last day of bars; None means the newest.
        seed: random seed.

    Raises:
        OperationFailedError: if the run failed for another reason than the gate.
    """
    days = {name: day.isoformat() for name, day in (("first_day", first), ("last_day", last)) if day is not None}
    config = {**days, "seed": seed}
    outcome = run_job(platform, "training_job", tags={}, run_config={"ops": {"training_set": {"config": config}}})
    gate = sorted((check for check in outcome.checks if check.asset == _GATE), key=lambda check: check.passed)
    refused = any(not check.passed and check.blocking for check in gate)
    if not refused:
        outcome.require_success("training_job")
    role = outcome.materialized.get("champion", {}).get("role")
    params = outcome.materialized.get("training_set", {}).get("params")
    measured = outcome.materialized.get(_GATE, {})
    return Training(
        run_id=outcome.run_id,
        promoted=role == "champion",
        kept_as_shadow=role == "shadow",
        comparison="; ".join(check.summary for check in outcome.checks if check.asset == _COMPARISON),
        gate=tuple(gate),
        version=measured.get("version"),
        metrics={name: value for name, value in measured.items() if isinstance(value, float)},
        by_label=tuple(record.data for record in getattr(measured.get("by_label"), "records", ())),
        left_out=measured.get("kinds_left_out", {}),
        untested=tuple(measured.get("kinds_not_tested", ())),
        seconds=outcome.seconds,
        days=(params["first"], params["last"]) if params else None,
    )
