"""Checks of canary runs."""

from typing import TYPE_CHECKING, Final

import dagster as dg

from surveillance_pipelines.defs.metadata import counts_table

if TYPE_CHECKING:
    from surveillance_pipelines.services.canaries import CanaryRun

DETECTED: Final = "canaries_are_detected"
SERVED: Final = "canary_symbols_are_served"
QUIET: Final = "canary_control_is_quiet"
SHOWN: Final = 5

CHECKS: Final = [
    dg.AssetCheckSpec(
        DETECTED,
        asset="canaries",
        blocking=True,
        description="Planted manipulations are detected and named as often as in the evaluation of the bundle.",
    ),
    dg.AssetCheckSpec(
        SERVED,
        asset="canaries",
        description="Every served symbol is fed, and its canary messages give the bars, scores and alerts of batch "
        "scoring.",
    ),
    dg.AssetCheckSpec(
        QUIET,
        asset="canaries",
        description="The same day without manipulations raises at most three times the alert budget.",
    ),
]


def canary_results(run: "CanaryRun") -> list[dg.AssetCheckResult]:
    """Return the results of all checks of a run."""
    return [_detected(run), _served(run), _quiet(run)]


def absent_results(reason: str) -> list[dg.AssetCheckResult]:
    """Return the results of a run that had no bars to send: nothing is shown to be wrong, and nothing to be right."""
    return [
        dg.AssetCheckResult(check_name=spec.name, passed=False, severity=dg.AssetCheckSeverity.WARN, description=reason)
        for spec in CHECKS
    ]


def _detected(run: "CanaryRun") -> dg.AssetCheckResult:
    found, broken = int(run.events["detected"].sum()), run.broken
    if not run.promised.kinds:
        return dg.AssetCheckResult(
            check_name=DETECTED,
            passed=found > 0,
            description=f"{found} of {run.events.height} detected. Nothing is promised: the warm-up rules, or a bundle "
            "of an earlier release, have no evaluation with canaries; `surveillance train` makes one",
        )
    kept = f"{found} of {run.events.height} manipulations detected, no promise broken"
    return dg.AssetCheckResult(
        check_name=DETECTED,
        passed=not broken and found > 0,
        description="; ".join(map(str, broken[:SHOWN])) or (kept if found else "no manipulation was detected"),
        metadata={"broken_promises": len(broken), "promises": len(run.verdicts)},
    )


def _served(run: "CanaryRun") -> dg.AssetCheckResult:
    rows = [{"symbol": symbol or "all", "problem": problem} for symbol, problem in sorted(run.problems.items())]
    shown = "; ".join(f"{row['symbol']}: {row['problem']}" for row in rows[:SHOWN])
    return dg.AssetCheckResult(
        check_name=SERVED,
        passed=not rows,
        description=shown or "every symbol is served as in batch scoring",
        metadata={"symbols_with_problems": len(rows)} | ({"problems": counts_table(rows)} if rows else {}),
    )


def _quiet(run: "CanaryRun") -> dg.AssetCheckResult:
    control = run.control
    return dg.AssetCheckResult(
        check_name=QUIET,
        passed=control.is_quiet,
        description=f"{control.episodes} alert episodes in {control.bars:,} unchanged bars, at least {control.low:.2f} "
        f"per symbol and 390 bars (99% interval); accepted are {control.limit:g}",
    )
