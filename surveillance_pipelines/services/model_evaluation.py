"""Evaluates a registered bundle on held-out days, and records its metrics in PostgreSQL and MLflow."""

import math
import uuid
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from surveillance_pipelines.services.build_folder import BuildFolder, Registration
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.models.ensemble import Ensemble
    from surveillance_pipelines.stores.model_store import QualityMetric
    from surveillance_pipelines.training.report import Evaluation
    from surveillance_pipelines.training.training_data import TrainingSet


@dataclass(frozen=True, slots=True)
class EvaluatedBundle:
    """The evaluation of a registered version.

    Attributes:
        registration: the version.
        verdict: its metrics and the decisions of the gates.
        figures: plots of the evaluation, PNG bytes by name.
    """

    registration: Registration
    verdict: "Evaluation"
    figures: dict[str, bytes]


def evaluate_registered(stores: Stores, folder: BuildFolder) -> EvaluatedBundle:
    """Evaluate the registered bundle of a run with the serving code, and record metrics and plots.

    Args:
        stores: settings, database and model registry.
        folder: folder of the run, with its training set and registration.

    Raises:
        FileNotFoundError: if the folder has no training set or no registration.
        BundleError: if the frozen bundle is damaged or differs from the registered one.
        ValueError: if the test split has no labelled bars.
    """
    from surveillance_pipelines.models.bundle import load_bundle
    from surveillance_pipelines.models.ensemble import Ensemble
    from surveillance_pipelines.training.plots import evaluation_figures
    from surveillance_pipelines.training.report import evaluate
    from surveillance_pipelines.training.training_data import TrainingSet

    rows = TrainingSet.load(folder.require(folder.training_set))
    registration = folder.registration()
    ensemble = Ensemble(load_bundle(Path(registration.path), expected_hash=registration.bundle_hash))
    verdict = evaluate(
        rows,
        ensemble,
        min_rows=stores.settings.model_training_min_dataset_size,
        min_accuracy=stores.settings.model_quality_threshold_accuracy,
        seed=int(rows.params["seed"]),
    )
    figures = evaluation_figures(verdict)
    folder.save_figures(figures)
    _record(stores, folder, registration, verdict, _canary_metrics(stores, folder, rows, ensemble))
    return EvaluatedBundle(registration, verdict, figures)


def _canary_metrics(
    stores: Stores, folder: BuildFolder, rows: "TrainingSet", ensemble: "Ensemble"
) -> "list[QualityMetric]":
    """Return how many canaries the bundle detects on its test days, the promise of later canary runs."""
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.features.batch import with_history
    from surveillance_pipelines.services.canary_promises import measure_promise, promise_metrics

    days = sorted(rows.frame.filter(rows.frame["split"] == "test")["date"].unique())
    version = folder.facts("data")["bars_1m_delta_version"]

    def read(first: date, last: date) -> "pl.DataFrame":
        return stores.lake.read("bars_1m", days=(first, last), schema=BAR_SCHEMA, version=version)

    bars = with_history(read, days[0], days[-1])
    sessions = stores.session_table(min(bars["date"].to_list(), default=days[0]), days[-1])
    promise = measure_promise(bars, days, sessions, ensemble, stores.settings, seed=int(rows.params["seed"]))
    return promise_metrics(promise, "test")


def _record(
    stores: Stores,
    folder: BuildFolder,
    registration: Registration,
    verdict: "Evaluation",
    canaries: "list[QualityMetric]",
) -> None:
    from surveillance_pipelines.stores.model_store import QualityMetric, record_metrics

    measures = [measure for measure in verdict.measures if math.isfinite(measure.value)]
    metrics = [
        QualityMetric(
            name=measure.key, value=measure.value, model=measure.model, split=verdict.split, dataset_size=measure.rows
        )
        for measure in measures
    ]
    with stores.connect() as connection:
        record_metrics(connection, uuid.UUID(registration.model_version_id), [*metrics, *canaries], stores.clock)
    run = stores.registry.run(registration.mlflow_run_id)
    run.log_metrics({f"{verdict.split}_{measure.full_name}": measure.value for measure in measures})
    run.log_metrics({f"{metric.split}_{metric.model}_{metric.name}": metric.value for metric in canaries})
    run.log_artifact(folder.figures, "figures")
