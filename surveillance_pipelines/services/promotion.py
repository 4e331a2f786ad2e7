"""Compares a registered bundle with the champion, and gives it its role: champion, or shadow with the reasons."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from surveillance_pipelines.contracts.feature_tables import TRAINING_VIEW
from surveillance_pipelines.lifecycle.deployments import Scope
from surveillance_pipelines.services.build_folder import BuildFolder
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.evaluation.paired_events import EventRows, PlantedDays
    from surveillance_pipelines.evaluation.paired_test import PairedTest
    from surveillance_pipelines.models.bundle import Bundle
    from surveillance_pipelines.models.ensemble import Ensemble
    from surveillance_pipelines.services.models import Deployed
    from surveillance_pipelines.stores.model_store import StoredBundle

DECIDED_BY: Final = "training_job"

Requirement = Literal["none", "better", "not_worse"]

_FACTS: Final = "comparison"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The comparison of a registered bundle with the champion.

    Attributes:
        champion: name of the champion, such as ``v3``; None if there is none.
        champion_hash: hash of its bundle.
        requirement: condition of a promotion: ``none``, ``better`` or ``not_worse``.
        passed: whether the condition holds.
        reasons: the requirement with its reason, then the rules, failed ones first.
        events: number of planted events; 0 without a paired test.
        challenger_recall: share of the events that the registered bundle finds within the budget.
        champion_recall: share that the champion finds.
        kinds: one row per kind: kind, events, gained, lost, both.
    """

    champion: str | None
    champion_hash: str | None
    requirement: Requirement
    passed: bool
    reasons: tuple[str, ...]
    events: int = 0
    challenger_recall: float = 0.0
    champion_recall: float = 0.0
    kinds: tuple[dict[str, Any], ...] = ()

    @classmethod
    def load(cls, folder: BuildFolder) -> Self:
        """Read the comparison of a run.

        Raises:
            FileNotFoundError: if the run has none.
        """
        facts = folder.facts(_FACTS)
        return cls(**{**facts, "reasons": tuple(facts["reasons"]), "kinds": tuple(facts["kinds"])})


@dataclass(frozen=True, slots=True)
class Assigned:
    """The role of a registered bundle after a training: ``champion`` or ``shadow``."""

    role: Literal["champion", "shadow"]
    deployed: "Deployed"
    reasons: tuple[str, ...]


def compare_registered(stores: Stores, folder: BuildFolder) -> Comparison:
    """Compare the registered bundle of a run with the champion, on the test days of the run, and save the result.

    Without a champion, or if it cannot be loaded or has the same content, nothing is compared. The bundle must be
    better, or only not worse if the champion should not stay: its feature view or bundle format is no longer trained,
    it broke its promises during its probation, or it clearly exceeds the alert budget on the test days. A champion that
    was trained on the test days has an advantage.

    Args:
        stores: settings, lake and database.
        folder: folder of the run, with its training set and registration.

    Raises:
        FileNotFoundError: if the folder has no training set or no registration.
        BundleError: if the registered bundle is damaged.
    """
    comparison = _compare(stores, folder)
    folder.save_facts(_FACTS, asdict(comparison))
    return comparison


def assign_role(stores: Stores, folder: BuildFolder, *, run_id: str) -> Assigned:
    """Make the registered bundle of a run the champion, or a shadow if the comparison does not allow it.

    If another version became the champion after the comparison, the bundle becomes a shadow. Earlier shadows of
    trainings are retired.

    Args:
        stores: database and registry.
        folder: folder of the run, with its registration and comparison.
        run_id: id of the run, recorded in the reasons.

    Raises:
        FileNotFoundError: if the folder has no comparison.
        BundleError: if the bundle cannot serve.
    """
    from surveillance_pipelines.services.models import activate, deploy

    compared, version = Comparison.load(folder), folder.registration().version
    scope = Scope(tenant=stores.settings.tenant)
    serving = _champion(stores)
    reasons = (f"passed the gate in run {run_id}", *compared.reasons)
    promoted_before = serving is not None and serving.version == version  # by this run, before a retry
    changed = (None if serving is None else serving.bundle_hash) != compared.champion_hash and not promoted_before
    if changed:
        reasons = (f"the champion changed after the comparison with {compared.champion or 'none'}", *reasons)
    if compared.passed and not changed:
        done = activate(stores, version, decided_by=DECIDED_BY, reasons=reasons, scope=scope)
        role: Literal["champion", "shadow"] = "champion"
    else:
        done = deploy(stores, version, role="shadow", decided_by=DECIDED_BY, reasons=reasons, scope=scope)
        role = "shadow"
    _retire_shadows(stores, scope, keep=f"v{version}")
    return Assigned(role, done, reasons)


def _retire_shadows(stores: Stores, scope: Scope, *, keep: str) -> None:
    """Retire the shadows of earlier trainings, because every shadow costs a scoring of the served bars."""
    from surveillance_pipelines.services.models import retire
    from surveillance_pipelines.stores.deployments import open_deployments

    with stores.connect() as connection:
        present = open_deployments(connection, scope)
    for row in present:
        if row.role == "shadow" and row.decided_by == DECIDED_BY and row.version not in (keep, None):
            number = int(str(row.version).removeprefix("v"))
            retire(stores, number, decided_by=DECIDED_BY, reasons=[f"{keep} was trained later"], scope=scope)


def _champion(stores: Stores) -> "StoredBundle | None":
    from surveillance_pipelines.stores.deployments import champion

    with stores.connect() as connection:
        return champion(connection, stores.settings.tenant)


def _compare(stores: Stores, folder: BuildFolder) -> Comparison:
    from surveillance_pipelines.models.ensemble import warmed_ensemble
    from surveillance_pipelines.models.members import BundleError
    from surveillance_pipelines.stores.predictors import load_stored

    serving, registered = _champion(stores), folder.registration()
    if serving is None:
        return _promoted(None, None, "there is no champion to compare with")
    name = f"v{serving.version}"
    if serving.bundle_hash == registered.bundle_hash:
        return _promoted(name, serving.bundle_hash, f"equal in content to the champion {name}")
    try:
        bundle = load_stored(stores.settings, serving)
        champion = warmed_ensemble(bundle)
    except BundleError as error:  # another error, such as an outage, says nothing about the champion and fails the run
        return _promoted(name, serving.bundle_hash, f"the champion {name} cannot be loaded: {error}")
    return _paired(stores, folder, name, bundle, champion)


def _promoted(champion: str | None, champion_hash: str | None, reason: str) -> Comparison:
    return Comparison(
        champion=champion, champion_hash=champion_hash, requirement="none", passed=True, reasons=(reason,)
    )


def _paired(stores: Stores, folder: BuildFolder, name: str, bundle: "Bundle", champion: "Ensemble") -> Comparison:
    from pathlib import Path

    from surveillance_pipelines.evaluation.paired_events import count_pairs, event_rows, found_events
    from surveillance_pipelines.evaluation.paired_test import compare
    from surveillance_pipelines.models.bundle import load_bundle
    from surveillance_pipelines.models.ensemble import Ensemble

    registered = folder.registration()
    challenger = Ensemble(load_bundle(Path(registered.path), expected_hash=registered.bundle_hash))
    planted, seed = _planted(stores, folder)
    ours = event_rows(planted, challenger.feature_view, challenger.window_length)
    shape = champion.feature_view, champion.window_length
    same = shape == (challenger.feature_view, challenger.window_length)
    theirs = ours if same else event_rows(planted, *shape)
    events = len(planted.kinds)
    found, found_before = found_events(ours, challenger, events), found_events(theirs, champion, events)
    tested = compare(
        count_pairs(planted.kinds, found.found, found_before.found),
        alerts=found.alerts_per_day,
        champion_alerts=found_before.alerts_per_day,
    )
    weakness = (
        _weakness(bundle)
        or _broken_promise(stores)
        or _flood(found_before.alerts_per_day, found.alerts_per_day)
        or _over_budget(theirs, champion, planted, seed)
    )
    return _result(name, bundle.bundle_hash, tested, weakness)


def _planted(stores: Stores, folder: BuildFolder) -> "tuple[PlantedDays, int]":
    """Return the test days of a run with planted events, and the seed of the run."""
    import polars as pl

    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.evaluation.paired_events import plant_days
    from surveillance_pipelines.features.batch import with_history
    from surveillance_pipelines.training.training_data import TrainingSet

    rows = TrainingSet.load(folder.require(folder.training_set))
    days, seed = tuple(rows.rows("test", original=True)["date"].unique().sort()), int(rows.params["seed"])
    lake, version = stores.lake, folder.facts("data")["bars_1m_delta_version"]
    bars = with_history(
        lambda first, last: lake.read("bars_1m", days=(first, last), schema=BAR_SCHEMA, version=version),
        days[0],
        days[-1],
    )
    first_revisions = bars.filter(pl.col("revision") == 0)  # as in the training set
    sessions = stores.session_table(min(bars["date"].to_list(), default=days[0]), days[-1])
    return plant_days(first_revisions, days, sessions, seed=seed), seed


def _weakness(champion: "Bundle") -> str | None:
    """Return why a champion should not stay, from its bundle alone."""
    from surveillance_pipelines.models.bundle import FORMAT

    if champion.view.name != TRAINING_VIEW:
        return f"it reads the feature view {champion.view.name}, which is no longer trained"
    if champion.format != FORMAT:
        return f"its bundle has format {champion.format}, which is no longer trained"
    return None


def _broken_promise(stores: Stores) -> str | None:
    """Return that the champion broke its promises; one without an earlier champion stays in spite of it."""
    from surveillance_pipelines.services.probation import judge_champion

    judged = judge_champion(stores, restore=False)
    return None if judged is None or judged.kept else judged.text


def _flood(champion_alerts: float, alerts: float) -> str | None:
    """Return that the champion floods the unchanged test days, compared with the registered bundle."""
    from surveillance_pipelines.evaluation.paired_test import alert_limit

    limit = alert_limit(alerts)
    if champion_alerts <= limit:
        return None
    return f"on the unchanged test days it raises {champion_alerts:.1f} alerts per symbol and day, limit {limit:.1f}"


def _over_budget(rows: "EventRows", champion: "Ensemble", planted: "PlantedDays", seed: int) -> str | None:
    """Return that the champion clearly exceeds the alert budget on the unchanged days, by the rule of the gate."""
    import numpy as np

    from surveillance_pipelines.evaluation.promises import alert_rate_bound
    from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY

    alerts = champion.predict(rows.clean).is_anomaly
    rate = alert_rate_bound(rows.clean_bars, np.ones(len(alerts), dtype=np.bool_), alerts, seed=seed)
    if rate <= ALERTS_PER_SYMBOL_DAY:
        return None
    return (
        f"on {len(planted.days)} test days it raises at least {rate:.2f} alert episodes per symbol and day, "
        f"the budget is {ALERTS_PER_SYMBOL_DAY:g}"
    )


def _result(name: str, champion_hash: str, tested: "PairedTest", weakness: str | None) -> Comparison:
    counts = tested.counts
    decision = tested.better if weakness is None else tested.not_worse
    need = (
        f"must be better than the champion {name}"
        if weakness is None
        else f"must not be worse than the champion {name}, which should not stay: {weakness}"
    )
    recalls = (
        f"of {counts.events:,} planted events, it finds {counts.challenger_recall:.1%} within the alert budget, "
        f"the champion {counts.champion_recall:.1%}"
    )
    return Comparison(
        champion=name,
        champion_hash=champion_hash,
        requirement="better" if weakness is None else "not_worse",
        passed=decision.passed,
        reasons=(need, recalls, *_told(decision.reasons)),
        events=counts.events,
        challenger_recall=counts.challenger_recall,
        champion_recall=counts.champion_recall,
        kinds=tuple({"kind": kind, **asdict(found)} for kind, found in sorted(tested.kinds.items())),
    )


def _told(reasons: Sequence[str]) -> tuple[str, ...]:
    """Return the rule of the gain and every rule that fails; the table of kinds has the others."""
    return tuple(reason for reason in reasons if " fails: " in reason or "_champion_p_value" in reason)
