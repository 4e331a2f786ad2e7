"""Location of the dbt project, and the connection of dbt to the platform's database."""

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PROJECT_DIR: Final = Path(__file__).resolve().parents[3] / "dbt_project"
MANIFEST: Final = PROJECT_DIR / "target" / "manifest.json"
DBT: Final = Path(sys.executable).with_name("dbt")
"""The dbt executable of this environment, whether or not the environment is activated."""

PARSE_COMMAND: Final = "dbt parse --project-dir dbt_project --profiles-dir dbt_project"
_POSTGRES_VARIABLES: Final = "PG"


def require_manifest(manifest: Path = MANIFEST) -> Path:
    """Return the path of the dbt manifest.

    Raises:
        FileNotFoundError: if it has not been prepared.
    """
    if not manifest.is_file():
        raise FileNotFoundError(
            f"expected the dbt manifest at {manifest}, found none; create it with `make install`, or with "
            f"`{PARSE_COMMAND}` in the root of the repository"
        )
    return manifest


@contextmanager
def postgres_environment(environment: Mapping[str, str]) -> Generator[None]:
    """Set the ``PG…`` variables of ``environment`` in this process for the duration of the block.

    dbt reads its connection from these variables, and dagster-dbt has no other way to pass it.
    """
    wanted = {name: value for name, value in environment.items() if name.startswith(_POSTGRES_VARIABLES)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
