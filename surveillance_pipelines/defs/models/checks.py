"""Checks of models: blocking checks, which prevent a promotion, and warnings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import dagster as dg

from surveillance_pipelines.defs.metadata import counts_table, inline_plot
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.models.kinds import KINDS

if TYPE_CHECKING:
    from surveillance_pipelines.evaluation.drift_report import DriftReport
    from surveillance_pipelines.evaluation.gate import GateRule
    from surveillance_pipelines.settings import Settings
    from surveillance_pipelines.training.bundle_training import TrainedBundle
    from surveillance_pipelines.training.report import Evaluation
    from surveillance_pipelines.training.training_data import TrainingSet

_ACCURACY_RULES: Final = frozenset({"accuracy", "balanced_accuracy"})
_ROW_RULES: Final = frozenset({"training_rows"})

GATE_CHECKS: Final = [
    dg.AssetCheckSpec(
        "trained_on_enough_rows",
        asset="model_evaluation",
        blocking=True,
        description="The bundle was trained on at least MODEL_TRAINING_MIN_DATASET_SIZE rows.",
    ),
    dg.AssetCheckSpec(
        "accuracy_reaches_the_threshold",
        asset="model_evaluation",
        blocking=True,
        description="Accuracy and balanced accuracy reach MODEL_QUALITY_THRESHOLD_ACCURACY on held-out days.",
    ),
    dg.AssetCheckSpec(
        "bundle_beats_naive_rivals",
        asset="model_evaluation",
        blocking=True,
        description="The bundle beats baselines without training: majority class, warm-up rules, robust z-score.",
    ),
    dg.AssetCheckSpec(
        "direction_beats_a_constant_call",
        asset="model_evaluation",
        description="The direction model beats a constant prediction; if not, signals come from momentum (warm-up).",
    ),
]

_CHECK_DESCRIPTIONS: Final = {
    "has_learned": "Training lowered the loss on the validation days.",
    "export_is_exact": "The exported model computes the same values as the trained one.",
}
"""Check of a model kind → description."""


def model_asset(kind: str) -> str:
    """Return the asset key of a model kind."""
    return f"market_{kind}"


TRAINING_CHECKS: Final = [
    dg.AssetCheckSpec(
        f"{kind.name}_{check}",
        asset=model_asset(kind.name),
        blocking=True,
        description=_CHECK_DESCRIPTIONS.get(check, check.replace("_", " ")),
    )
    for kind in KINDS.values()
    for check in kind.checks
]


def training_set_result(built: "TrainingSet", settings: "Settings") -> dg.AssetCheckResult:
    """Check before the training that the training split has enough labelled rows."""
    rows, needed = built.rows("train", labelled=True).height, settings.model_training_min_dataset_size
    return dg.AssetCheckResult(
        check_name="training_rows_are_enough",
        passed=rows >= needed,
        description=f"{rows} labelled rows, MODEL_TRAINING_MIN_DATASET_SIZE is {needed}",
        metadata={"rows": rows, "needed": needed},
    )


def training_results(trained: "TrainedBundle") -> Iterator[dg.AssetCheckResult]:
    """Yield the results of the checks of each trained model."""
    for name, member in trained.members.items():
        for check in member.checks:
            yield dg.AssetCheckResult(
                asset_key=model_asset(name),
                check_name=f"{name}_{check.name}",
                passed=check.passed,
                # Significant digits, because differences of an export are far below the fourth decimal.
                metadata={fact: float(f"{value:.4g}") for fact, value in check.facts.items()},
            )


def gate_results(verdict: "Evaluation") -> list[dg.AssetCheckResult]:
    """Return the rules of the gate as check results; a failed blocking check prevents the promotion."""
    rules = verdict.anomaly_gate.rules
    rows = [rule for rule in rules if rule.name in _ROW_RULES]
    accuracy = [rule for rule in rules if rule.name in _ACCURACY_RULES]
    baselines = [rule for rule in rules if rule.name not in _ROW_RULES | _ACCURACY_RULES]
    return [
        _rules_result("trained_on_enough_rows", rows),
        _rules_result("accuracy_reaches_the_threshold", accuracy),
        _rules_result("bundle_beats_naive_rivals", baselines),
        _rules_result("direction_beats_a_constant_call", verdict.direction_gate.rules, dg.AssetCheckSeverity.WARN),
    ]


def _rules_result(
    name: str,
    rules: "tuple[GateRule, ...] | list[GateRule]",
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=bool(rules) and all(rule.passed for rule in rules),
        severity=severity,
        description="; ".join(str(rule) for rule in rules),
        metadata={rule.name: f"{rule.value:.4g}, limit {rule.limit:.4g}" for rule in rules},
    )


@dg.asset_check(
    asset="champion",
    description="The aliases in the model registry match the deployments of every tenant and strategy.",
)
def registry_aliases_follow_deployments(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.services.models import all_alias_differences

    differences = all_alias_differences(platform)
    found = "; ".join(str(difference) for difference in differences)
    return dg.AssetCheckResult(
        passed=not differences,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{found}. Serving uses the deployments and is not affected." if found else None,
        metadata={difference.alias: str(difference) for difference in differences},
    )


@dg.asset_check(
    asset="champion",
    description="The bundle of the champion can be loaded: every file matches its manifest, and its models predict.",
)
def champion_can_serve(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.services.serving_models import serving_models

    with platform.connect() as connection:
        models = serving_models(platform, connection, predict=True)
    served = models.serves or "nothing"
    return dg.AssetCheckResult(
        passed=not models.is_damaged,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{models.sentence}. {models.remedy}" if models.is_damaged else None,
        metadata={"champion": models.champion or "none", "serves": served},
    )


@dg.asset_check(
    asset="champion",
    description="On its first served bars, the champion keeps the alert budget, its distribution of scores and all "
    "members. If not, the previous champion is restored.",
)
def champion_keeps_its_promises(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.services.probation import judge_champion

    judged = judge_champion(platform)
    if judged is None:
        return dg.AssetCheckResult(passed=True, description="no champion on probation")
    rules = () if judged.decision is None else judged.decision.rules
    return dg.AssetCheckResult(
        passed=judged.kept,
        severity=dg.AssetCheckSeverity.ERROR,
        description=judged.text,
        metadata={
            "champion": judged.probation.champion.name,
            "served_bars": judged.probation.bars,
            "look": judged.probation.look,
            "restored": judged.restored or "none",
            **{rule.name: f"{rule.value:.4g}, limit {rule.limit:.4g}" for rule in rules},
        },
    )


@dg.asset_check(
    asset="features_core_v2",
    additional_deps=["features_core_v1"],
    description="The distributions of the features of the last days match those of the champion's training data.",
)
def features_do_not_drift(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.services.drift import champion_drift

    report = champion_drift(platform)
    if report is None:
        return dg.AssetCheckResult(
            passed=True, description="no champion yet, so there is no training data to compare with"
        )
    indices = [{"feature": name, "index": round(index, 4)} for name, index in report.indices.items()]
    return dg.AssetCheckResult(
        passed=not report.is_alert,
        severity=dg.AssetCheckSeverity.WARN,
        description=report.summary,
        metadata={
            "rows": report.rows,
            "moved": ", ".join(report.drifted),
            **({"indices": counts_table(indices)} if report.has_enough_rows else {}),
            **({"drift": inline_plot(lambda: _draw(report), "drift")} if report.is_alert else {}),
        },
    )


def _draw(report: "DriftReport") -> bytes:
    # Imported only here, because it loads the training libraries, which takes seconds in every run of market data.
    from surveillance_pipelines.training.plots import drift

    return drift(report.indices)
