"""Runs of the platform's jobs inside the test's process."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from surveillance_pipelines.definitions import defs
from surveillance_pipelines.defs.resources import PlatformResource


def run_job(
    name: str,
    platform: PlatformResource,
    instance: dg.DagsterInstance,
    *,
    tags: Mapping[str, str] | None = None,
    run_config: Any = None,
    raise_on_error: bool = True,
) -> dg.ExecuteInProcessResult:
    """Execute a job of the main code location with the test's platform."""
    job = dg.Definitions(
        assets=defs.assets,
        asset_checks=defs.asset_checks,
        jobs=defs.jobs,
        resources={"platform": platform},
        executor=dg.in_process_executor,
    ).resolve_job_def(name)
    return job.execute_in_process(
        instance=instance, tags=dict(tags or {}), run_config=run_config, raise_on_error=raise_on_error
    )


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """Return the metadata of an asset's last materialization in a run."""
    events = result.get_asset_materialization_events()
    found = [event.materialization for event in events if event.asset_key == dg.AssetKey(asset)]
    return {name: value.value for name, value in found[-1].metadata.items()}


def check_of(result: dg.ExecuteInProcessResult, name: str, asset: str | None = None) -> dg.AssetCheckEvaluation:
    """Return the evaluation of a check in a run; if several assets have a check of this name, name one."""
    found = [
        check
        for check in result.get_asset_check_evaluations()
        if check.check_name == name and asset in (None, check.asset_key.to_user_string())
    ]
    assert len(found) == 1, f"expected one evaluation of {name}, was {len(found)}"
    return found[0]
