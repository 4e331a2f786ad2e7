"""Secrets of every shape in the error of a run: neither stored by Dagster, nor in its logs, nor in MLflow's records."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from surveillance_pipelines.settings import Settings
from surveillance_pipelines.telemetry import mask, secret_values
from surveillance_pipelines_tests.secret_shapes import PASSWORDS, Shape, shapes, shown, spellings

NAMES = (*PASSWORDS, "query of a DSN", "password file", "AWS key", "AWS session", "receiver", "Redis", "MLflow")

_RUN = """
import json, logging, os, sys
import dagster as dg
from surveillance_pipelines.defs.secret_masking import console_log

secrets = json.loads(os.environ.pop("SECRETS_OF_TEST"))

@dg.op
def break_down(context):
    for secret in secrets:
        context.log.warning(f"log of {secret!r} {secret}")
        logging.getLogger("any.library").warning("record of %s", secret)
    try:
        raise KeyError(*secrets)
    except KeyError as cause:
        logging.getLogger("any.library").exception("failed")
        raise ValueError("expected no secret, got " + json.dumps(secrets) + " ".join(secrets)) from cause

@dg.job(logger_defs={"console": console_log})
def broken_job():
    break_down()

with dg.DagsterInstance.get() as instance:
    tags = {f"secret-{place}": secret for place, secret in enumerate(secrets)}
    result = broken_job.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
    assert not result.success
if os.environ.get("REGISTRY"):
    from surveillance_pipelines.stores.registry import ModelRegistry
    registry = ModelRegistry(os.environ["REGISTRY"], sys.argv[1])
    with registry.start_run("a", params={"p": secrets[0]}, tags={"t": secrets[1]}):
        pass
"""


def environment_of(all_shapes: dict[str, Shape]) -> dict[str, str]:
    variables = {name: value for shape in all_shapes.values() for name, value in shape.variables.items()}
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | variables


def everything_in(url: str) -> str:
    """Return all rows of all tables of a database as text."""
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = inspect(engine).get_table_names()
        rows = [row for table in tables for row in connection.execute(text(f'SELECT * FROM "{table}"'))]
    engine.dispose()
    return "\n".join(" ".join(str(value) for value in row) for row in rows)


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize("name", NAMES)
def test_every_spelling_of_a_secret_is_masked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = shapes(tmp_path)[name]
    for variable in ("PGPASSFILE", "DATABASE_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in shape.variables.items():
        monkeypatch.setenv(variable, value)
    known = secret_values(Settings(_env_file=None))  # pyright: ignore[reportCallIssue]
    for secret in shape.secrets:
        for spelling in (*spellings(secret), json.dumps(json.dumps(secret))[3:-3]):
            assert spelling not in mask(f"before {spelling} after {spelling}", known)
    assert mask("the market at 127.0.0.1:1, surveillance_pipelines", known).endswith("surveillance_pipelines")


@pytest.mark.requirement("SEC-09")
def test_failed_run_with_secrets_in_error_log_and_tags_stores_and_logs_none(
    dagster_url: str, mlflow_uri: str, repository: Path, tmp_path: Path
) -> None:
    found, secrets = shapes(tmp_path), list(PASSWORDS.values())
    # DATABASE_URL holds one password at a time, so all of them are in the file of libpq.
    lines = [f"*:*:*:*:{one.replace(chr(92), chr(92) * 2).replace(':', chr(92) + ':')}" for one in secrets]
    with (tmp_path / "pgpass").open("a") as file:
        file.write("\n".join(lines))
    for name in NAMES[len(PASSWORDS) :]:
        secrets += found[name].secrets
    environment = environment_of(found) | {
        "DAGSTER_DATABASE_URL": dagster_url, "DAGSTER_HOME": str(tmp_path), "SURVEILLANCE_HOME": str(tmp_path / "home"),
        "REGISTRY": mlflow_uri, "SECRETS_OF_TEST": json.dumps(secrets), "PYTHONPATH": str(repository),
    }  # fmt: skip
    query = found["query of a DSN"].secrets[0]
    environment["NOTIFY_URLS"] += f" json://127.0.0.1:1/?password={query.replace('&', '%26')}"
    (tmp_path / "dagster.yaml").write_text((repository / "dagster.yaml").read_text())
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path / "artifacts")], env=environment, cwd=tmp_path, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    stored = everything_in(dagster_url)
    assert "expected no secret, got" in stored
    assert shown(stored, tuple(secrets)) == []
    assert "expected no secret, got" in done.stderr
    assert shown(done.stdout + done.stderr, tuple(secrets)) == []
    records = everything_in(mlflow_uri)
    assert "[redacted]" in records
    assert shown(records, tuple(secrets)) == []
    logs = "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file() and path.name != "pgpass"
    )
    assert "expected no secret, got" in logs
    assert shown(logs, tuple(secrets)) == []
