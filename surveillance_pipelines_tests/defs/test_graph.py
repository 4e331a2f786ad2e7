"""Every asset says what it is, and every change of the graph shows."""

import difflib
import json
from pathlib import Path

import dagster as dg
import pytest

from surveillance_pipelines.definitions import defs

SNAPSHOT = Path(__file__).with_name("asset_graph.json")
UPDATE = "python -m surveillance_pipelines_tests.defs.test_graph"

GRAPH = defs.resolve_asset_graph()
KEYS = sorted(GRAPH.get_all_asset_keys())


def described(key: dg.AssetKey) -> dict:
    """What a reviewer should see change: lineage, grouping, promises."""
    node = GRAPH.get(key)
    return {
        "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
        "group": node.group_name,
        "kinds": sorted(node.kinds),
        "materializable": node.is_materializable,
        "partitioned": node.partitions_def is not None,
        "tags": {name: value for name, value in node.tags.items() if name.startswith("surveillance/")},
        "pools": sorted(node.pools or ()),
        "checks": {
            check.name: "blocking" if GRAPH.get_check_spec(check).blocking else "advisory"
            for check in sorted(node.check_keys, key=lambda check: check.name)
        },
    }


def graph_text() -> str:
    assets = {key.to_user_string(): described(key) for key in KEYS}
    jobs = {
        job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
        for job in defs.resolve_all_job_defs()
        if not job.name.startswith("__")
    }
    repository = defs.get_repository_def()
    automations = {
        "schedules": {schedule.name: schedule.cron_schedule for schedule in repository.schedule_defs},
        "sensors": {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs},
    }
    return json.dumps({"assets": assets, "jobs": jobs, **automations}, indent=2, sort_keys=True) + "\n"


def test_env_example_names_the_asset_of_the_check_of_compute_limit(repository: Path):
    (check,) = [key for key in GRAPH.asset_check_keys if key.name == "compute_is_within_limit"]
    before_setting, *_ = (repository / ".env.example").read_text().partition("# COMPUTE_LIMIT_MS")
    comment = before_setting.split("\n\n")[-1].replace("\n# ", " ")
    assert f"a check on `{check.asset_key.to_user_string()}` warns" in comment


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.to_user_string())
def test_asset_is_described(key: dg.AssetKey):
    node = GRAPH.get(key)
    assert node.group_name != "default", "expected a group_name"
    assert node.kinds, "expected kinds"
    assert node.owners, "expected owners"
    assert len(node.description or "") > 20, "expected a description"
    assert node.code_version, "expected a code_version"
    assert node.check_keys, "expected at least one check"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.to_user_string())
def test_asset_parents_are_defined(key: dg.AssetKey):
    assert {parent for parent in GRAPH.get(key).parent_keys if parent not in KEYS} == set()


def test_check_names_are_promises_and_described():
    checks = [GRAPH.get_check_spec(key) for key in GRAPH.asset_check_keys]
    assert [spec.name for spec in checks if not spec.description] == []
    assert [spec.name for spec in checks if "_" not in spec.name] == []


def test_runbook_says_what_to_do_about_every_check(repository: Path):
    # `status` and `doctor` send the reader of a red check there.
    runbook = (repository / "docs" / "runbook.md").read_text()
    assert [name for name in sorted({key.name for key in GRAPH.asset_check_keys}) if name not in runbook] == []


def test_graph_equals_the_committed_snapshot():
    committed, current = SNAPSHOT.read_text(), graph_text()
    difference = "\n".join(difflib.unified_diff(committed.splitlines(), current.splitlines(), "committed", "now"))
    assert not difference, f"the asset graph changed; if that is meant, run: {UPDATE}\n{difference}"


if __name__ == "__main__":
    SNAPSHOT.write_text(graph_text())
