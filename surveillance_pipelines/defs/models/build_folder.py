"""The folder in which the assets of one training run pass files to one another, without pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from surveillance_pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class Registration:
    """Identifiers of a registered bundle in MLflow, in the database and on disk."""

    version: int  # of the frozen folder v{version}
    mlflow_version: int
    mlflow_run_id: str
    bundle_hash: str
    path: str
    model_version_id: str


@dataclass(frozen=True, slots=True)
class BuildFolder:
    """``<models>/build/<run>/``: training set, bundle before it is frozen, pictures, and facts as small JSON files."""

    path: Path

    @property
    def training_set(self) -> Path:
        return self.path / "training_set"

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def save_figures(self, pngs: Mapping[str, bytes]) -> None:
        """Save pictures for the registry."""
        self.figures.mkdir(parents=True, exist_ok=True)
        for name, png in pngs.items():
            (self.figures / f"{name}.png").write_bytes(png)

    def save_facts(self, name: str, facts: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / f"{name}.json").write_text(json.dumps(facts, indent=2))

    def facts(self, name: str) -> dict[str, Any]:
        return json.loads(self.require(self.path / f"{name}.json").read_text())

    def save_registration(self, registration: Registration) -> None:
        self.save_facts("registration", asdict(registration))

    def registration(self) -> Registration:
        return Registration(**self.facts("registration"))

    def require(self, path: Path) -> Path:
        """Return a path that an earlier asset of the run has written.

        Raises:
            FileNotFoundError: if it has not, for example because this asset was started alone.
        """
        if not path.exists():
            raise FileNotFoundError(
                f"expected {path.name} of this training in {self.path}, found none: run training_job, whose assets "
                "pass files to one another within one run"
            )
        return path


def build_folder(context: dg.AssetExecutionContext, settings: Settings) -> BuildFolder:
    """Return the folder of this run; a run that is retried from a failure uses the folder of the first run."""
    return BuildFolder(settings.models_path / "build" / (context.run.root_run_id or context.run.run_id))
