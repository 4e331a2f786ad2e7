"""How dbt models appear in Dagster: keys, group, owners, tags and when they are rebuilt."""

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


def rebuild_when_news() -> dg.AutomationCondition:
    """Return the condition of every model: something upstream is new since the model was last built, or it never was.

    ``eager()`` would also wait until every upstream table exists and none is being written: with a live lane that
    writes all day, and a champion that may not exist yet, that is never.
    """
    upstream = dg.AutomationCondition.any_deps_updated()
    conditions = [upstream, _reported("anomalies"), _reported("signals"), _hourly()]
    news = [_never_built(), *(condition.since_last_handled() for condition in conditions)]
    return (reduce(or_, news) & ~dg.AutomationCondition.in_progress()).with_label("something is new, or an hour old")


def _never_built() -> dg.AutomationCondition:
    # On a fresh database the first news is of one table, and the models that read it read others too: those would be
    # absent. Asked for once; if that build fails, the hour asks again.
    handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return dg.AutomationCondition.missing().newly_true().since(handled)


def _reported(asset: str) -> dg.AutomationCondition:
    # The ledger and the dead letters hang below the queue, which is no asset of ours and never materializes; their
    # news comes with what the same drain run reports.
    return dg.AutomationCondition.asset_matches(dg.AssetKey(asset), dg.AutomationCondition.newly_updated())


def _hourly() -> dg.AutomationCondition:
    # A feed of which every message is refused or ordinary reports nothing, and its books should show all the same.
    return dg.AutomationCondition.cron_tick_passed(HOURLY)


class MartsTranslator(DagsterDbtTranslator):
    """Models live under the key prefix ``marts``; sources keep the keys of the assets that write them."""

    def __init__(self) -> None:
        # Several tables of the live lane's books come from one asset, the queue.
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
            automation_condition=rebuild_when_news(),
            # The manifest also names the database that it was prepared with, which need not be the one in use.
            metadata={**spec.metadata, "dagster/table_name": f"{props['schema']}.{props['alias']}"},
        )
