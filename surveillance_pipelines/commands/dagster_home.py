"""The Dagster instance in SURVEILLANCE_HOME: a folder with the project's ``dagster.yaml``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.commands.children import Child, path_with_scripts, script
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.platform import Platform

if TYPE_CHECKING:
    import dagster as dg

PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]


def project_file(name: str) -> Path:
    """Return a file in the root folder of the project, such as ``workspace.yaml``."""
    path = PROJECT_ROOT / name
    if not path.is_file():
        raise InvalidInputError(
            f"expected {name} in {PROJECT_ROOT}, found none",
            remedy="install the project from a checkout (pip install --editable .), or use its container image",
        )
    return path


def prepare(platform: Platform) -> dict[str, str]:
    """Update ``dagster.yaml`` in DAGSTER_HOME and return the environment for Dagster's processes."""
    platform.dagster_home.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = project_file("dagster.yaml").read_text()
    copy = platform.dagster_home / "dagster.yaml"
    if not copy.is_file() or copy.read_text() != wanted:
        copy.write_text(wanted)
    return {**platform.environment(), "PATH": path_with_scripts()}


@contextmanager
def open_instance(platform: Platform) -> "Iterator[dg.DagsterInstance]":
    """Open the persistent instance; its environment variables are set in this process while it is open."""
    before = dict(os.environ)
    os.environ.update(prepare(platform))
    try:
        import dagster as dg

        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        os.environ.clear()
        os.environ.update(before)


def start_daemon(platform: Platform, environment: dict[str, str]) -> Child:
    """Start ``dagster-daemon`` (sensors, schedules, run queue) for both code locations."""
    arguments = [script("dagster-daemon"), "run", "-w", str(project_file("workspace.yaml"))]
    return Child("dagster-daemon", arguments, environment, platform.home / "logs" / "dagster-daemon.log")


def start_webserver(platform: Platform, environment: dict[str, str], *, host: str, port: int) -> Child:
    """Start the Dagster UI for both code locations."""
    arguments = [script("dagster-webserver"), "-w", str(project_file("workspace.yaml")), "-h", host, "-p", str(port)]
    return Child("dagster-webserver", arguments, environment, platform.home / "logs" / "dagster-webserver.log")
