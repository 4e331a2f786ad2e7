"""dagster.yaml, workspace.yaml and docker-compose.yml say the same and load as they are."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
import yaml

from surveillance_pipelines.defs.serving.queues import QUEUE_TAG, queue_name, queue_tag


def read_yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def test_instance_of_dagster_yaml_keeps_runs_in_postgresql(
    repository: Path, dagster_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DAGSTER_DATABASE_URL", dagster_url)
    shutil.copy(repository / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run = dg.DagsterRun(job_name="drain_job", tags={QUEUE_TAG: str(tmp_path)})
        instance.add_run(run)
        found = instance.get_runs(dg.RunsFilter(tags={QUEUE_TAG: str(tmp_path)}))
        limits = instance.get_concurrency_config()
        monitoring = instance.run_monitoring_settings
    assert [one.run_id for one in found] == [run.run_id]
    assert limits.pool_config.default_pool_limit == 1
    assert monitoring["free_slots_after_run_end_seconds"], "a killed run would keep its place in a pool for ever"
    assert limits.run_queue_config is not None
    assert [limit["key"] for limit in limits.run_queue_config.tag_concurrency_limits] == [QUEUE_TAG]


def test_instance_of_dagster_yaml_without_a_database_keeps_runs_in_sqlite(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SURVEILLANCE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_DATABASE_URL", raising=False)
    shutil.copy(repository / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.add_run(dg.DagsterRun(job_name="drain_job"))
        assert instance.get_runs_count() == 1
    assert (tmp_path / "home" / "dagster" / "sqlite").is_dir()


def test_compose_serves_the_locations_of_the_workspace(repository: Path):
    compose = read_yaml(repository / "docker-compose.yml")
    workspace = read_yaml(repository / "workspace.yaml")
    modules = {
        row["python_module"]["location_name"]: row["python_module"]["module_name"] for row in workspace["load_from"]
    }
    served = yaml.safe_load(compose["configs"]["workspace"]["content"])
    for row in served["load_from"]:
        server = row["grpc_server"]
        command = compose["services"][server["host"]]["command"]
        assert modules[server["location_name"]] in command
        assert server["location_name"] in command
    assert len(served["load_from"]) == len(modules)


@pytest.mark.requirement("SEC-09")
def test_compose_holds_no_secret_and_watches_every_service(repository: Path):
    compose = read_yaml(repository / "docker-compose.yml")
    lasting = [service for service in compose["services"].values() if service.get("restart") != "no"]
    assert len(lasting) == len(compose["services"]) - 1
    assert all("healthcheck" in service for service in lasting)
    passwords = [
        line.strip() for line in (repository / "docker-compose.yml").read_text().splitlines() if "PASSWORD" in line
    ]
    assert all("${POSTGRES_PASSWORD" in line for line in passwords if not line.startswith("#"))


def test_queue_names_are_readable_and_unique_across_accounts():
    first = "https://sqs.us-east-1.amazonaws.com/000000000000/market_queue.fifo"
    second = "https://sqs.us-east-1.amazonaws.com/111111111111/market_queue.fifo"
    assert queue_name(first) == queue_name(second) == "market_queue.fifo"
    assert queue_tag(first) != queue_tag(second)
