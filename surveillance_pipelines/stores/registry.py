"""The model registry: MLflow runs, versions and aliases. Training and promotion use it; serving does not.

Aliases mirror ``surveillance.deployments`` and do not affect serving. MLflow is imported on the first call: the import
and the first query of its database take about two seconds each.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.urls import without_password
from surveillance_pipelines.hashing import canonical_json

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MODEL_NAME: Final = "market_surveillance"
EXPERIMENT: Final = "market_surveillance"
BUNDLE_FOLDER: Final = "bundle"
_PARAM_LIMIT: Final = 100
"""Maximum number of parameters per call of MLflow."""
_VALUE_LIMIT: Final = 6000
"""Maximum number of characters of a parameter's value in MLflow."""


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run while it is open."""

    client: "MlflowClient"
    run_id: str
    clock: Clock = SYSTEM_CLOCK

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; values that are not text are logged as JSON."""
        from mlflow.entities import Param

        listed = [Param(name, _as_text(value)) for name, value in params.items()]
        for start in range(0, len(listed), _PARAM_LIMIT):
            self.client.log_batch(self.run_id, params=listed[start : start + _PARAM_LIMIT])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics; ``step`` is the epoch of a training curve."""
        from mlflow.entities import Metric

        at = self.clock.now_us() // 1000
        self.client.log_batch(
            self.run_id, metrics=[Metric(name, float(value), at, step) for name, value in metrics.items()]
        )

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with its contents."""
        if path.is_dir():
            self.client.log_artifacts(self.run_id, str(path), folder or path.name)
        else:
            self.client.log_artifact(self.run_id, str(path), folder)


@dataclass(frozen=True)
class ModelRegistry:
    """Runs and versions of the registered model ``market_surveillance``.

    Attributes:
        tracking_uri: a database URL, or the ``http(s)://`` address of an MLflow server.
        artifact_root: folder or bucket for the files of runs; None if an MLflow server chooses it.
    """

    tracking_uri: str = field(repr=False)
    artifact_root: str | None = None

    @contextmanager
    def start_run(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Iterator[TrackedRun]:
        """Open a run for a ``with`` block; it ends as FINISHED, or as FAILED if the block raises."""
        run = self._client.create_run(self._experiment_id, clock.now_us() // 1000, dict(tags or {}), name)
        tracked = TrackedRun(self._client, run.info.run_id, clock)
        status = "FAILED"
        try:
            tracked.log_params(params or {})
            yield tracked
            status = "FINISHED"
        finally:
            self._client.set_terminated(tracked.run_id, status, clock.now_us() // 1000)

    def run(self, run_id: str) -> TrackedRun:
        """Return a finished run, to which metrics and plots of an evaluation can be added."""
        return TrackedRun(self._client, run_id)

    def register_bundle(self, bundle: Path, run_id: str, tags: Mapping[str, str] | None = None) -> int:
        """Log a bundle's files to its run, register it as the next model version, and return the version's number.

        A run has at most one version; registering it again returns the same number.
        """
        found = self._client.search_model_versions(f"name = '{MODEL_NAME}' and run_id = '{run_id}'")
        if found:
            return int(found[0].version)
        self._ensure_model()
        self._client.log_artifacts(run_id, str(bundle), BUNDLE_FOLDER)
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{BUNDLE_FOLDER}"
        version = self._client.create_model_version(MODEL_NAME, source, run_id, tags=dict(tags or {}))
        return int(version.version)

    def set_alias(self, alias: str, version: int) -> None:
        """Assign an alias to a version.

        Raises:
            mlflow.exceptions.MlflowException: if the version does not exist.
        """
        self._client.set_registered_model_alias(MODEL_NAME, alias, str(version))

    def delete_alias(self, alias: str) -> None:
        """Remove an alias, if it exists."""
        self._client.delete_registered_model_alias(MODEL_NAME, alias)

    def aliases(self) -> dict[str, int]:
        """Return the version of each alias."""
        if MODEL_NAME not in self._model_names():
            return {}
        found = self._client.get_registered_model(MODEL_NAME).aliases
        return {alias: int(version) for alias, version in found.items()}

    @cached_property
    def _client(self) -> "MlflowClient":
        # MLflow sends usage telemetry unless this is set before the import.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        uri, variables = split_credentials(self.tracking_uri)
        os.environ.update(variables)
        try:
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
        except MlflowException:  # it contains the URI
            raise InvalidInputError(
                f"expected a tracking URI that MLflow accepts, got {without_password(uri)}",
                remedy="set MLFLOW_TRACKING_URI to a database URL, or to the http:// address of an MLflow server",
            ) from None

    @cached_property
    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        if found := self._client.get_experiment_by_name(EXPERIMENT):
            return found.experiment_id
        try:
            return self._client.create_experiment(EXPERIMENT, self._artifact_location())
        except MlflowException:
            # Another process created it first.
            if (found := self._client.get_experiment_by_name(EXPERIMENT)) is None:
                raise
            return found.experiment_id

    def _artifact_location(self) -> str | None:
        if self.tracking_uri.startswith(("http://", "https://")):
            return self.artifact_root
        if self.artifact_root is None:
            raise ValueError(
                "expected a folder or bucket for the files of runs with an MLflow database, got none: "
                "pass artifact_root (Endpoints.mlflow_artifact_root)"
            )
        return self.artifact_root

    def _ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        if MODEL_NAME in self._model_names():
            return
        try:
            self._client.create_registered_model(MODEL_NAME)
        except MlflowException:
            if MODEL_NAME not in self._model_names():
                raise

    def _model_names(self) -> list[str]:
        return [model.name for model in self._client.search_registered_models(f"name = '{MODEL_NAME}'")]


def split_credentials(tracking_uri: str) -> tuple[str, dict[str, str]]:
    """Return the address of an MLflow server without user and password, and the variables that MLflow reads them from.

    MLflow's errors contain the address. A database URL is returned as it is.
    """
    scheme, _, rest = tracking_uri.partition("://")
    before, at, _ = rest.partition("/")[0].rpartition("@")
    if scheme not in ("http", "https") or not at:
        return tracking_uri, {}
    user, _, password = before.partition(":")
    names = {"MLFLOW_TRACKING_USERNAME": unquote(user), "MLFLOW_TRACKING_PASSWORD": unquote(password)}
    return f"{scheme}://{rest.removeprefix(before + at)}", names


def _as_text(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= _VALUE_LIMIT else f"{text[: _VALUE_LIMIT - 1]}…"
