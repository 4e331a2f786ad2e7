import json
import os
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from surveillance_pipelines.defs.marts.project import MANIFEST, postgres_environment, require_manifest

MARTS = dg.AssetSelection.groups("marts")
PLATFORM_KEYS = {
    "anomalies", "signals", "prediction_outcomes", "champion", "model_evaluation", "instruments", "bars_landed",
    "market_queue",
}  # fmt: skip


@pytest.fixture(scope="module")
def manifest():
    return json.loads(require_manifest().read_text())


@pytest.fixture(scope="module")
def specs(marts_definitions):
    return {spec.key: spec for spec in marts_definitions.resolve_all_asset_specs() if spec.group_name == "marts"}


def test_manifest_every_model_and_column_is_described(manifest):
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert len(models) >= 19
    for model in models:
        assert model["description"], model["name"]
        assert model["columns"], model["name"]
        for column in model["columns"].values():
            assert column["description"], f"{model['name']}.{column['name']}"
            assert column["data_type"], f"{model['name']}.{column['name']}"


def test_manifest_every_mart_has_a_contract_and_a_test_of_its_grain(manifest):
    marts = [node for node in manifest["nodes"].values() if node["fqn"][1] == "marts" and "columns" in node]
    tested = {node.get("attached_node") for node in manifest["nodes"].values() if "unique" in node["name"]} | {
        node["attached_node"] for node in manifest["nodes"].values() if "one_row_per_group" in node["name"]
    }
    for mart in (node for node in marts if node["resource_type"] == "model"):
        assert mart["config"]["contract"]["enforced"], mart["name"]
        assert mart["unique_id"] in tested, mart["name"]


def test_lineage_sources_are_the_platform_assets(marts_definitions):
    graph = marts_definitions.resolve_asset_graph()
    sources = {key.to_user_string() for key in graph.get_all_asset_keys() if key.path[0] != "marts"}
    assert sources == PLATFORM_KEYS


def test_lineage_source_keys_exist_in_the_main_location(marts_definitions):
    from surveillance_pipelines.definitions import defs as platform

    known = {key.to_user_string() for key in platform.resolve_asset_graph().get_all_asset_keys()}
    assert known >= PLATFORM_KEYS


def test_specs_every_model_has_owner_kinds_description_code_version_and_columns(specs):
    assert len(specs) >= 19
    for spec in specs.values():
        assert spec.owners, spec.key
        assert {"dbt", "postgres"} <= spec.kinds, spec.key
        assert spec.description, spec.key
        assert spec.code_version, spec.key
        assert spec.tags["surveillance/lane"] == "warehouse"
        columns = spec.metadata["dagster/column_schema"].columns
        assert all(column.description and column.type != "?" for column in columns), spec.key


def test_checks_all_have_a_description(marts_definitions):
    graph = marts_definitions.resolve_asset_graph()
    said = {key.name: graph.get_check_spec(key).description for key in graph.asset_check_keys}
    assert len(said) >= 60
    assert [name for name, description in said.items() if not description] == []
    assert said["not_null_int_alerts_alert_id"] == "alert_id is never null."
    assert said["unique_int_alerts_alert_id"] == "No two rows have the same alert_id."
    assert said["dead_letters_by_day_has_one_row_per_group"] == "One row per day, source, code."
    assert said["stg_anomalies_symbol_is_known"] == "Every symbol is a symbol of stg_instruments."
    assert said["stg_anomalies_score_is_between_0_and_1"] == "score is between 0 and 1, or null."
    assert said["stg_anomalies_alert_status_is_known"] == "alert_status is one of opened, confirmed, retracted."
    assert said["message_outcomes_add_up"] == "Messages of a day equal scored + late + dead + duplicate."


class Evaluations:
    """Evaluations of the conditions by the daemon, each a few seconds after the previous one."""

    def __init__(self, definitions: dg.Definitions) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self._definitions = definitions
        self._now = datetime(2024, 1, 15, 12, 10, tzinfo=UTC)
        self._cursor = None

    def requested(self, after_seconds: int = 300) -> set[str]:
        self._now += timedelta(seconds=after_seconds)
        result = dg.evaluate_automation_conditions(
            self._definitions, self.instance, MARTS, evaluation_time=self._now, cursor=self._cursor
        )
        self._cursor = result.cursor
        return {found.key.path[-1] for found in result.results if found.true_subset.size}


@pytest.fixture
def evaluations(marts_definitions, specs) -> Evaluations:
    """Evaluations after the marts have been built."""
    started = Evaluations(marts_definitions)
    for key in specs:
        started.instance.report_runless_asset_event(dg.AssetMaterialization(key))
    assert started.requested() == set()
    return started


def test_automation_on_an_empty_database_builds_everything_once(marts_definitions, specs):
    fresh = Evaluations(marts_definitions)
    fresh.instance.report_runless_asset_event(dg.AssetMaterialization("model_evaluation"))
    assert len(fresh.requested()) == len(specs), "expected the tables beside it too: a build of one reads the others"
    assert fresh.requested() == set()
    assert len(fresh.requested(after_seconds=3600)) == len(specs)


def test_automation_update_of_one_table_rebuilds_its_readers(evaluations):
    evaluations.instance.report_runless_asset_event(dg.AssetMaterialization("model_evaluation"))
    assert evaluations.requested() == {"stg_model_metrics", "model_metrics_series"}


@pytest.mark.parametrize(
    "event", [dg.AssetMaterialization("anomalies", partition="2024-01-15"), dg.AssetMaterialization("signals")]
)
def test_automation_report_of_the_live_lane_rebuilds_everything_once(evaluations, specs, event):
    evaluations.instance.report_runless_asset_event(event)
    assert len(evaluations.requested()) == len(specs)
    assert evaluations.requested() == set()


def test_automation_without_updates_rebuilds_everything_once_an_hour(evaluations, specs):
    assert evaluations.requested(after_seconds=40 * 60) == set()
    assert len(evaluations.requested(after_seconds=20 * 60)) == len(specs)
    assert evaluations.requested(after_seconds=30 * 60) == set()


def test_require_manifest_of_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"make install.*dbt parse --project-dir dbt_project"):
        require_manifest(tmp_path / "manifest.json")


def test_manifest_is_newer_than_its_sources():
    sources = [path for path in MANIFEST.parents[1].rglob("*") if path.suffix in {".sql", ".yml", ".md"}]
    project = [path for path in sources if "target" not in path.parts and "logs" not in path.parts]
    stale = [path.name for path in project if path.stat().st_mtime > MANIFEST.stat().st_mtime]
    assert not stale, "run `make install`: the dbt manifest is older than its sources"


def test_postgres_environment_only_postgres_variables_for_the_block_only(monkeypatch):
    monkeypatch.setenv("PGHOST", "before")
    monkeypatch.delenv("PGPORT", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    with postgres_environment({"PGHOST": "/run/pg", "PGPORT": "5433", "AWS_REGION": "us-east-1"}):
        assert (os.environ["PGHOST"], os.environ["PGPORT"]) == ("/run/pg", "5433")
        assert "AWS_REGION" not in os.environ
    assert os.environ["PGHOST"] == "before"
    assert "PGPORT" not in os.environ


def test_location_executes_dbt_models_only(marts_definitions: dg.Definitions):
    # No asset here needs a code version derived from imports: dbt hashes its own files.
    assets = marts_definitions.get_repository_def().assets_defs_by_key.values()
    specs = [spec for one in assets if one.is_executable for spec in one.specs]
    assert specs
    assert [spec.key for spec in specs if "dbt" not in spec.kinds] == []
