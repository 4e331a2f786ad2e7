"""The folder through which the assets of one training run hand their files on: no pickle, nothing in memory."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg

from surveillance_pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class Registration:
    """A bundle's place in the registry and on disk."""

    version: int
    mlflow_run_id: str
    bundle_hash: str
    path: str


@dataclass(frozen=True, slots=True)
class BuildFolder:
    """``<models>/build/<run>/``: the training set, the bundle before it is frozen, and where it was registered."""

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

    def save_figure(self, name: str, png: bytes) -> bytes:
        """Keep a picture for the registry, and return it."""
        self.figures.mkdir(parents=True, exist_ok=True)
        (self.figures / f"{name}.png").write_bytes(png)
        return png

    def save_registration(self, registration: Registration) -> None:
        (self.path / "registration.json").write_text(json.dumps(asdict(registration)))

    def registration(self) -> Registration:
        return Registration(**json.loads(self.require(self.path / "registration.json").read_text()))

    def require(self, path: Path) -> Path:
        """Return a path that an earlier asset of the run has filled.

        Raises:
            FileNotFoundError: if it has not, because the asset was started alone.
        """
        if not path.exists():
            raise FileNotFoundError(
                f"expected {path.name} of this training in {self.path}, found none: run training_job, whose assets "
                "hand their files on within one run"
            )
        return path


def build_folder(context: dg.AssetExecutionContext, settings: Settings) -> BuildFolder:
    """Return the folder of this run; a run started again from a failure goes on in the first one's."""
    return BuildFolder(settings.models_path / "build" / (context.run.root_run_id or context.run_id))
