"""`surveillance up` with secrets of every shape: neither processes, logs, GraphQL nor commands show one."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
import pytest
from psycopg import sql

from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.embedded.postgres_server import HOST, ROLE
from surveillance_pipelines.embedded.services import hold, stop_services
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect, ensure_database
from surveillance_pipelines_tests.commands.waiting import wait_for
from surveillance_pipelines_tests.defs.test_secret_masking import everything_in
from surveillance_pipelines_tests.secret_shapes import PASS_FILE_PASSWORD, SESSION_TOKEN, shapes, shown
from surveillance_pipelines_tests.storage_fixtures import service_settings

PASSWORD = "Pw1@/:% #$'\"\u00e9&=?\\s3cr"
JOB = "replay_job"
_LAUNCH = """
mutation ($selector: JobOrPipelineSelector!, $config: RunConfigData, $tags: [ExecutionTag!]) {
  launchRun(executionParams: {selector: $selector, runConfigData: $config, executionMetadata: {tags: $tags}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
_SHOW = """
{
  instance { info daemonHealth { allDaemonStatuses { lastHeartbeatErrors { message stack } } } }
  runsOrError { ... on Runs { results {
    runId status runConfigYaml tags { key value } eventConnection { events {
      __typename ... on MessageEvent { message } ... on ExecutionStepFailureEvent { error { message stack } }
      ... on RunFailureEvent { error { message stack } }
    } } } } }
  workspaceOrError { ... on Workspace { locationEntries { displayMetadata { key value } locationOrLoadError {
    ... on PythonError { message }
    ... on RepositoryLocation { repositories {
      allTopLevelResourceDetails { name configuredValues { key value type } configFields { name defaultValueAsJson } }
      allTopLevelEnvVars: allTopLevelResourceDetails { name }
      sensors { name sensorState { ticks(limit: 5) { error { message stack } skipReason } } }
    } } } } } }
}
"""


def ask(address: str, query: str, variables: dict[str, Any] | None = None) -> str:
    body = json.dumps({"query": query, "variables": variables or {}}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def command_lines(pid: int) -> str:
    texts = []
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            texts.append(Path(f"/proc/{process.pid}/cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Host and port of a PostgreSQL server whose password has every character that URLs, JSON or shells escape."""
    own = service_settings(tmp_path / "services")
    with hold(own) as found:
        for name in ("surveillance", "dagster", "mlflow"):
            ensure_database(found.server_url, name)
        with connect(found.server_url, autocommit=True) as connection:
            change = sql.SQL("ALTER ROLE {} PASSWORD {}")
            connection.execute(change.format(sql.Identifier(ROLE), sql.Literal(PASSWORD)))
        yield f"{HOST}:{urlsplit(found.server_url).port}"
    stop_services(own)


@pytest.fixture
def environment(settings: Settings, server: str, tmp_path: Path) -> dict[str, str]:
    """Variables with secrets of every shape, for services that accept them."""
    found, password = shapes(tmp_path, server), quote(PASSWORD, safe="")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
        **{key: value for one in ("password file", "receiver", "Redis") for key, value in found[one].variables.items()},
        "DATABASE_URL": f"postgresql://{ROLE}:{password}@{server}/surveillance",
        "DAGSTER_DATABASE_URL": f"postgresql://{ROLE}@{server}/dagster?password={password}",
        "MLFLOW_TRACKING_URI": f"postgresql+psycopg2://{ROLE}:{password}@{server}/mlflow",
        "SURVEILLANCE_HOME": str(tmp_path / "home"),
        "LAKE_URL": str(settings.lake_url),
        "SQS_ENDPOINT_URL": str(settings.sqs_endpoint_url),
        "SQS_QUEUE_URL": ",".join(settings.sqs_queue_url),
        "OUTPUT_QUEUE_URL": str(settings.output_queue_url),
        "AWS_ACCESS_KEY_ID": _text(settings.aws_access_key_id),
        "AWS_SECRET_ACCESS_KEY": _text(settings.aws_secret_access_key),
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "FALLBACK_TO_YFINANCE": "false",
    }


def _text(value: Any) -> str:
    return value.get_secret_value()


@pytest.mark.slow
@pytest.mark.requirement("SEC-09")
def test_up_and_its_runs_show_no_secret(environment: dict[str, str], server: str, tmp_path: Path) -> None:
    secrets = (
        PASSWORD, SESSION_TOKEN, PASS_FILE_PASSWORD, "n0tify-Pw", "t0ken-of-receiver",
        "r3dis-Pw1", environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    surveillance = [sys.executable, "-c", "from surveillance_pipelines.cli import main; main()"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, seen = f"http://127.0.0.1:{port}", []
    log = (tmp_path / "up.log").open("w")
    up = [*surveillance, "up", "--port", str(port)]
    with log, subprocess.Popen(up, stdout=log, stderr=log, env=environment, cwd=tmp_path) as process:
        try:
            wait_for(lambda: process.poll() is not None or answers(address), seconds=200)
            assert process.poll() is None, (tmp_path / "up.log").read_text()
            selector = {
                "repositoryLocationName": "surveillance_pipelines", "repositoryName": "__repository__", "jobName": JOB,
            }  # fmt: skip
            config = {"ops": {"replay_outputs": {"config": {"ids": list(secrets)}}}}
            tags = [{"key": f"secret-{place}", "value": secret} for place, secret in enumerate(secrets)]
            launched = ask(address, _LAUNCH, {"selector": selector, "config": config, "tags": tags})
            assert "LaunchRunSuccess" in launched, launched

            def has_failed() -> bool:
                seen.append(command_lines(process.pid))
                return '"FAILURE"' in ask(address, _SHOW)

            wait_for(has_failed, seconds=120)
            graphql = ask(address, _SHOW)
            printed = [
                subprocess.run(
                    [*surveillance, *words], env=environment, cwd=tmp_path, text=True, capture_output=True, check=False
                )
                for words in (["status"], ["doctor"])
            ]
        finally:
            process.send_signal(signal.SIGTERM)
            exit_code = process.wait(60)
    assert exit_code == ExitCode.OK
    assert '"errors"' not in graphql, graphql[:2000]
    assert "[redacted]" in graphql, "the run has secrets in config and tags"
    assert shown(graphql, secrets) == []
    assert "dagster-daemon" in "".join(seen)
    assert shown("".join(seen), secrets) == []
    assert shown("".join(done.stdout + done.stderr for done in printed), secrets) == []
    password = quote(PASSWORD, safe="")
    for database in ("dagster", "mlflow"):
        stored = everything_in(f"postgresql+psycopg2://{ROLE}:{password}@{server}/{database}")
        assert shown(stored, secrets) == []
    files = [tmp_path / "up.log", *(path for path in (tmp_path / "home").rglob("*") if path.is_file())]
    leaks = {str(path): found for path in files if (found := shown(path.read_text(errors="replace"), secrets))}
    assert leaks == {}
