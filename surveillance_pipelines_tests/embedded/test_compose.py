"""What the containers of ``docker-compose.yml`` need to serve and train: names, volumes and the MLflow server."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from surveillance_pipelines.embedded.postgres_server import preferred_port, wait_until

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OWN_IMAGE = "surveillance-pipelines:local"


def test_code_servers_have_the_host_names_by_which_the_daemon_reaches_them() -> None:
    """Runs are judged by the machine that the address of their code server names."""
    servers = [one["grpc_server"] for one in yaml.safe_load(COMPOSE["configs"]["workspace"]["content"])["load_from"]]
    assert {server["host"] for server in servers} == {"platform", "marts"}
    for server in servers:
        service = COMPOSE["services"][server["host"]]
        assert service["hostname"] == server["host"]
        assert ["--port", str(server["port"])] == service["command"][5:7]


def test_mount_points_exist_in_the_image_for_the_user_that_writes_there() -> None:
    """Docker gives a new volume the owner of the folder at its mount point, and root if there is none."""
    variables = dict(re.findall(r"(\w+)=(/\S+)", DOCKERFILE))
    text = DOCKERFILE
    for name, value in variables.items():
        text = text.replace(f"${name}", value)
    created = re.search(r"mkdir -p (.*) \\", text)
    assert created is not None
    folders = {folder.strip('"') for folder in created[1].split()}
    owned = re.search(r"chown --recursive surveillance (.*)\n", text)
    assert owned is not None
    mounted = {
        volume.split(":")[1]
        for service in COMPOSE["services"].values()
        if service["image"] == OWN_IMAGE
        for volume in service.get("volumes", ())
    }
    assert {"/models", "/mlflow", "/emulator"} < mounted <= folders
    roots = {folder.strip('"') for folder in owned[1].split()}
    assert all(any(Path(folder).is_relative_to(root) for root in roots) for folder in mounted)


def test_every_container_of_the_platform_can_train() -> None:
    assert "ARG EXTRAS=all" in DOCKERFILE
    environment = COMPOSE["services"]["platform"]["environment"]
    home = environment["SURVEILLANCE_HOME"]
    assert f"SURVEILLANCE_HOME={home}" in DOCKERFILE
    assert environment["MODEL_STORAGE_PATH"] == "/models"
    assert f"dagster:{home}/dagster/storage" in COMPOSE["services"]["platform"]["volumes"]
    assert "mem_limit" not in COMPOSE["services"]["platform"]


@pytest.mark.slow
def test_mlflow_answers_the_platform_under_its_name_and_keeps_its_files(tmp_path: Path, mlflow_uri: str) -> None:
    port = preferred_port(None)
    platform = COMPOSE["services"]["platform"]["environment"]["MLFLOW_TRACKING_URI"]
    _, *arguments = COMPOSE["services"]["mlflow"]["command"]
    replaced = {
        "--host": "127.0.0.1", "--port": str(port), "--backend-store-uri": mlflow_uri,
        "--artifacts-destination": str(tmp_path / "files"),
    }  # fmt: skip
    command = [f"{name}={replaced.get(name, value)}" if value else name
               for name, _, value in (argument.partition("=") for argument in arguments)]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command], cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or _status(port, "/health", "x") == 200, 120)
        search = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
        assert _status(port, search, platform.removeprefix("http://")) == 200
        assert _status(port, search, "localhost:5000") == 200
        assert _status(port, search, "attacker.example") == 403
        upload = "/api/2.0/mlflow-artifacts/artifacts/1/file.txt"
        assert _status(port, upload, platform.removeprefix("http://"), b"kept") == 200
        assert (tmp_path / "files" / "1" / "file.txt").read_bytes() == b"kept"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _status(port: int, path: str, host: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=body, method="GET" if body is None else "PUT", headers={"Host": host}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
