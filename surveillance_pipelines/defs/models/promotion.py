"""Assets of the promotion: registered bundle, evaluation, comparison with the champion, and champion."""

from collections.abc import Mapping

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import WEEKLY, tags
from surveillance_pipelines.defs.metadata import counts_table, inline_image
from surveillance_pipelines.defs.models.assets import COMMON, POOL
from surveillance_pipelines.defs.models.checks import GATE_CHECKS, gate_results, model_asset
from surveillance_pipelines.defs.models.folder_of_run import build_folder
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.models.kinds import KINDS


@dg.asset(
    **COMMON,
    kinds={"mlflow", "onnx"},
    deps=[model_asset(kind) for kind in KINDS],
    pool=POOL,
    tags=tags("training", "models"),
    code_version=code_version("services.registration", "models.kinds", "stores.registry"),
    check_specs=[
        dg.AssetCheckSpec(
            "bundle_is_intact",
            asset="model_bundle",
            blocking=True,
            description="The frozen folder contains exactly the files of the manifest, with the same hashes.",
        )
    ],
)
def model_bundle(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Frozen and registered version: models, scaler, features and config as ONNX and JSON, with a manifest."""
    from surveillance_pipelines.services.registration import freeze_and_register

    folder = build_folder(context, platform.settings)
    done = freeze_and_register(platform, folder, dagster_run_id=context.run.run_id)
    registered = done.registration
    files = [{"file": name, **facts} for name, facts in done.bundle.manifest["files"].items()]
    return dg.MaterializeResult(
        metadata={
            "version": registered.version,
            "bundle_hash": registered.bundle_hash,
            "path": dg.MetadataValue.path(registered.path),
            "mlflow_run_id": registered.mlflow_run_id,
            "files": dg.MetadataValue.json(files),
        },
        check_results=[dg.AssetCheckResult(check_name="bundle_is_intact", passed=True)],
        data_version=dg.DataVersion(registered.bundle_hash[:16]),
    )


@dg.asset(
    **COMMON,
    kinds={"scikitlearn", "mlflow"},
    deps=["model_bundle", "training_set"],
    pool=POOL,
    tags=tags("training", "postgresql"),
    code_version=code_version("services.model_evaluation"),
    check_specs=GATE_CHECKS,
)
def model_evaluation(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Evaluation of the bundle on held-out days with the serving code, compared with baselines."""
    from surveillance_pipelines.services.model_evaluation import evaluate_registered

    done = evaluate_registered(platform, build_folder(context, platform.settings))
    return dg.MaterializeResult(
        metadata={
            "version": done.registration.version,
            # Plots first: the UI keeps this order, and about forty metrics follow.
            **{name: inline_image(png, name) for name, png in done.figures.items()},
            "by_label": counts_table([_rounded(row) for row in done.verdict.by_label]),
            "kinds_left_out": dict(done.verdict.left_out),
            "kinds_not_tested": list(done.verdict.untested),
            **{name: round(value, 4) for name, value in done.verdict.overall.items()},
        },
        check_results=gate_results(done.verdict),
    )


@dg.asset(
    **COMMON,
    kinds={"onnx"},
    deps=["model_evaluation", "bars_1m"],
    pool=POOL,
    tags=tags("training", "postgresql"),
    code_version=code_version("services.promotion", "evaluation.paired_events", "evaluation.paired_test"),
    check_specs=[
        dg.AssetCheckSpec(
            "challenger_may_replace_the_champion",
            asset="model_comparison",
            description="The bundle finds more planted events than the champion within the alert budget, or there is "
            "no champion that should stay. If not, the bundle becomes a shadow.",
        )
    ],
)
def model_comparison(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Paired test of the bundle against the champion, on independent anomalies planted into the test days."""
    from surveillance_pipelines.services.promotion import compare_registered

    compared = compare_registered(platform, build_folder(context, platform.settings))
    return dg.MaterializeResult(
        metadata={
            "champion": compared.champion or "none",
            "requirement": compared.requirement,
            "events": compared.events,
            "challenger_recall": round(compared.challenger_recall, 4),
            "champion_recall": round(compared.champion_recall, 4),
            **({"by_kind": counts_table(list(compared.kinds))} if compared.kinds else {}),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="challenger_may_replace_the_champion",
                passed=compared.passed,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(compared.reasons),
            )
        ],
    )


@dg.asset(
    **COMMON,
    kinds={"mlflow", "postgresql"},
    deps=["model_comparison"],
    pool=POOL,
    freshness_policy=WEEKLY,
    tags=tags("training", "postgresql"),
    code_version=code_version("services.models", "services.promotion", "stores.deployments"),
    check_specs=[
        dg.AssetCheckSpec(
            "registered_version_has_its_role",
            asset="champion",
            description="The version registered by this run is the champion in the deployments or, if it may not "
            "replace the champion, a shadow.",
        )
    ],
)
def champion(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """The serving version: the newest bundle that passed the gate and the comparison, or was activated manually.

    Drain runs load it within seconds. A bundle that may not replace the champion becomes a shadow.
    """
    from surveillance_pipelines.lifecycle.deployments import Scope
    from surveillance_pipelines.services.promotion import assign_role
    from surveillance_pipelines.stores.deployments import champion as serving_champion
    from surveillance_pipelines.stores.deployments import open_deployments

    folder = build_folder(context, platform.settings)
    registered = folder.registration()
    assigned = assign_role(platform, folder, run_id=context.run.run_id)
    done, scope = assigned.deployed, Scope(tenant=platform.settings.tenant)
    if done.alias_problem is not None:
        context.log.warning("aliases of the model registry were not updated: %s", done.alias_problem)
    with platform.connect() as connection:
        serving = serving_champion(connection, scope.tenant, scope.strategy)
        roles = {row.version: row.role for row in open_deployments(connection, scope)}
    replaced = "warm-up rules" if done.replaced is None else done.replaced.name
    return dg.MaterializeResult(
        metadata={
            "version": registered.version,
            "bundle_hash": registered.bundle_hash,
            "role": assigned.role,
            "replaces": replaced if assigned.role == "champion" else "nothing",
            "champion": "none" if serving is None else f"v{serving.version}",
            "reasons": "; ".join(assigned.reasons),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="registered_version_has_its_role",
                passed=roles.get(f"v{registered.version}") == assigned.role,
                metadata={"alias_problem": done.alias_problem or "none"},
            )
        ],
    )


def _rounded(row: Mapping[str, str | float | None]) -> dict[str, str | int | float | bool | None]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
