"""Dagster properties of dbt models: keys, group, owners, tags and automation condition."""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Any, Final

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject

from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.marts.check_descriptions import check_description

GROUP: Final = "marts"

HOURLY: Final = "7 * * * *"


def rebuild_after_updates() -> dg.AutomationCondition:
    """Return the condition of every model: it was never built, or something upstream was updated since its last build.

    ``eager()`` would also wait until every upstream table exists and none is being written. That would never happen,
    because the live lane writes all day and the champion may not exist yet.
    """
    upstream = dg.AutomationCondition.any_deps_updated()
    conditions = [upstream, _reported("anomalies"), _reported("signals"), _hourly()]
    triggers = [_never_built(), *(condition.since_last_handled() for condition in conditions)]
    return (reduce(or_, triggers) & ~dg.AutomationCondition.in_progress()).with_label("upstream update, or hourly")


def _never_built() -> dg.AutomationCondition:
    # On an empty database, the first update concerns one table, but the models that read it also read tables that do
    # not exist yet. Therefore everything is built once; if that build fails, the hourly trigger repeats it.
    handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return dg.AutomationCondition.missing().newly_true().since(handled)


def _reported(asset: str) -> dg.AutomationCondition:
    # The ledger and the dead letters are downstream of the queue, an external asset that never materializes. Their
    # updates coincide with the materializations that the same drain run reports.
    return dg.AutomationCondition.asset_matches(dg.AssetKey(asset), dg.AutomationCondition.newly_updated())


def _hourly() -> dg.AutomationCondition:
    # If all messages of a feed are refused or ordinary, no asset is updated, but the marts must still be rebuilt.
    return dg.AutomationCondition.cron_tick_passed(HOURLY)


class MartsTranslator(DagsterDbtTranslator):
    """Models live under the key prefix ``marts``; sources keep the keys of the assets that write them."""

    def __init__(self) -> None:
        # Several ledger tables of the live lane have the same asset key, the queue's.
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        key = super().get_asset_key(dbt_resource_props)
        return key if dbt_resource_props["resource_type"] == "source" else key.with_prefix(GROUP)

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        return spec._replace(description=check_description(self.get_resource_props(manifest, unique_id)))

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        props = self.get_resource_props(manifest, unique_id)
        if props["resource_type"] == "source":
            return spec
        layer = {"surveillance/layer": props["fqn"][1]}
        return spec.replace_attributes(
            group_name=GROUP,
            owners=OWNERS,
            tags={**spec.tags, **tags("warehouse", "postgresql"), **layer},
            automation_condition=rebuild_after_updates(),
            # Omit the database name: the manifest has that of its preparation, which may differ from the one in use.
            metadata={**spec.metadata, "dagster/table_name": f"{props['schema']}.{props['alias']}"},
        )
