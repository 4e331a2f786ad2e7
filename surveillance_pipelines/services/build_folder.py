"""Folder for the files that the steps of a training run exchange, without pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Registration:
    """Identifiers of a registered bundle in MLflow, in the database and on disk."""

    version: int  # number of the frozen folder v{version}
    mlflow_version: int
    mlflow_run_id: str
    bundle_hash: str
    path: str
    model_version_id: str


@dataclass(frozen=True, slots=True)
class BuildFolder:
    """``<models>/build/<run>/``: training set, bundle before it is frozen, plots, and facts as small JSON files."""

    path: Path

    @classmethod
    def of_run(cls, models_path: Path, run_id: str) -> "BuildFolder":
        """Return the folder of a run."""
        return cls(models_path / "build" / run_id)

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
        """Save plots for the registry."""
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
        """Return a path written by an earlier step of the run.

        Raises:
            FileNotFoundError: if it does not exist, for example because an asset was materialized alone.
        """
        if not path.exists():
            raise FileNotFoundError(
                f"expected {path.name} in {self.path}, found none: the assets of a training exchange files within one "
                "run, so run training_job as a whole"
            )
        return path
