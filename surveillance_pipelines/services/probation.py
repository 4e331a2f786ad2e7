"""Judges the champion on its first served bars, and restores the previous one if it breaks its promise."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.errors import SurveillanceError
from surveillance_pipelines.lifecycle.deployments import Deployment, earlier_champions
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.services.promotion import DECIDED_BY as BY_TRAINING
from surveillance_pipelines.telemetry import get_logger

if TYPE_CHECKING:
    from surveillance_pipelines.evaluation.gate import GateDecision
    from surveillance_pipelines.evaluation.probation import Promise
    from surveillance_pipelines.stores.probation import ServedCounts

DECIDED_BY: Final = "champion_probation_sensor"

_LOG = get_logger("models")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """Progress of the champion's probation.

    Attributes:
        champion: its deployment.
        look: number of the newest look that its served bars allow; 0 before the first.
        bars: served bars so far.
    """

    champion: Deployment
    look: int
    bars: int

    @property
    def key(self) -> str:
        """Identifies the look: equal for equal keys."""
        return f"{self.champion.model_id[:12]}:{self.champion.since.isoformat()}:{self.look}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The judgement of one look.

    Attributes:
        probation: the progress.
        decision: the rules; None before the first look.
        restored: name of the version that serves instead; None if nothing was changed.
        text: the result in a sentence.
    """

    probation: Probation
    decision: "GateDecision | None"
    restored: str | None
    text: str

    @property
    def kept(self) -> bool:
        """Whether no promise is broken so far."""
        return self.decision is None or self.decision.passed


def champion_probation(stores: Stores) -> Probation | None:
    """Return the progress of the champion's probation; None if there is no champion, or it has none.

    A champion that this use case restored has no probation, so that a market that breaks every promise does not make
    versions alternate.
    """
    found = _served(stores)
    return None if found is None else found[0]


def judge_champion(stores: Stores, *, restore: bool = True) -> Judgement | None:
    """Judge the champion and, if it breaks a promise, restore the previous one; None without a probation.

    Only a champion that a training promoted is replaced. A version that a person activated is judged, and stays.

    Args:
        stores: database and registry.
        restore: whether to restore the previous champion.
    """
    from surveillance_pipelines.evaluation.probation import ServedBlock, judge

    found = _served(stores)
    if found is None:
        return None
    probation, counts = found
    name = probation.champion.name
    if probation.look == 0:
        text = f"champion {name} has {probation.bars:,} served bars, too few to judge"
        return Judgement(probation=probation, decision=None, restored=None, text=text)
    blocks = [
        ServedBlock(bars=row.bars, alerts=row.alerts, half_threshold=row.half_threshold, fallback=row.fallback)
        for row in counts
    ]
    decision = judge(blocks, _promise(stores, probation.champion))
    if decision.passed:
        text = f"champion {name} keeps its promises on {probation.bars:,} served bars"
        return Judgement(probation=probation, decision=decision, restored=None, text=text)
    broken = tuple(reason for reason in decision.reasons if " fails: " in reason)
    restored, outcome = _restore(stores, probation, broken) if restore else (None, "nothing was changed")
    text = f"champion {name} breaks its promises on {probation.bars:,} served bars ({'; '.join(broken)}): {outcome}"
    if restore:
        _LOG.error("the champion broke its promises", champion=name, reasons=list(broken), outcome=outcome)
    return Judgement(probation=probation, decision=decision, restored=restored, text=text)


def _served(stores: Stores) -> "tuple[Probation, list[ServedCounts]] | None":
    """Return the progress of the probation, and the counts of its served bars."""
    from surveillance_pipelines.evaluation.probation import BLOCK_MINUTES, HALF_THRESHOLD, LOOKS, look_of
    from surveillance_pipelines.models.calibration import THRESHOLD
    from surveillance_pipelines.stores.deployments import champion_deployment
    from surveillance_pipelines.stores.probation import served_blocks

    with stores.connect() as connection:
        champion = champion_deployment(connection, stores.settings.tenant)
        if champion is None or champion.decided_by == DECIDED_BY:
            return None
        counts = served_blocks(
            connection,
            champion.model_id,
            champion.since,
            block=timedelta(minutes=BLOCK_MINUTES),
            threshold=THRESHOLD,
            half=HALF_THRESHOLD,
        )
    bars = minutes = look = 0
    judged: list[ServedCounts] = []
    for row in counts:  # the bars after the probation do not count
        judged.append(row)
        bars, minutes = bars + row.bars, minutes + row.minutes
        look = look_of(bars, minutes)
        if look == LOOKS:
            break
    return Probation(champion=champion, look=look, bars=bars), judged


def _promise(stores: Stores, champion: Deployment) -> "Promise":
    from surveillance_pipelines.evaluation.probation import Promise
    from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY
    from surveillance_pipelines.stores.probation import anomaly_metrics

    names = ["alerts_per_390_bars", "half_threshold_share"]
    with stores.connect() as connection:
        measured = anomaly_metrics(connection, champion.version or "", champion.scope.strategy, names)
    return Promise(
        alerts_per_day=max(ALERTS_PER_SYMBOL_DAY, measured.get(names[0], 0.0)),
        half_threshold_share=measured.get(names[1]),
    )


def _restore(stores: Stores, probation: Probation, broken: tuple[str, ...]) -> tuple[str | None, str]:
    """Restore the newest earlier champion that can serve; return its name, and the outcome in words."""
    from surveillance_pipelines.services.models import activate, deployment_history
    from surveillance_pipelines.stores.deployments import champion_deployment

    champion = probation.champion
    if champion.decided_by != BY_TRAINING:
        return None, f"it stays, because {champion.decided_by} activated it; `surveillance models activate` changes it"
    with stores.connect() as connection:
        if champion_deployment(connection, stores.settings.tenant) != champion:
            return None, "another version has become the champion meanwhile"
    problems = list[str]()
    for earlier in earlier_champions(deployment_history(stores, champion.scope), champion):
        number = int(str(earlier.version).removeprefix("v"))
        reasons = [f"the champion {champion.name} broke its promises on {probation.bars} served bars", *broken]
        try:
            activate(stores, number, decided_by=DECIDED_BY, reasons=reasons, scope=champion.scope)
        except SurveillanceError as error:
            problems.append(f"{earlier.name} cannot serve ({error})")
            continue
        return earlier.name, f"{earlier.name} serves again"
    return None, "; ".join([*problems, "there is no earlier champion to restore, it stays"])
