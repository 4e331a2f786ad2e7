"""Drift of the features from the champion's training data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from surveillance_pipelines.contracts.feature_tables import feature_table_of
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.evaluation.drift_report import DriftReport


@dataclass(frozen=True, slots=True)
class DriftInputs:
    """The inputs of a comparison: a champion, and a version of the feature table that it reads.

    Attributes:
        version: number of the champion.
        bundle_hash: hash of its bundle.
        table_version: version of the feature table; None if the table does not exist.
    """

    version: int
    bundle_hash: str
    table_version: int | None


def drift_inputs(stores: Stores) -> DriftInputs | None:
    """Return the inputs of the next comparison, which determine its result; None without a champion."""
    from surveillance_pipelines.stores.deployments import champion, serving_view

    with stores.connect() as connection:
        serving = champion(connection, stores.settings.tenant)
        view = serving_view(connection, stores.settings.tenant)
    if serving is None:
        return None
    return DriftInputs(serving.version, serving.bundle_hash, stores.lake.version(feature_table_of(view)))


def champion_drift(stores: Stores) -> "DriftReport | None":
    """Compare the features of the newest full days with the champion's training data; None without a champion.

    The features are those of the champion's view. The period ends with the last full day that has features, so that
    data without a live feed is also compared.
    """
    from datetime import timedelta

    from surveillance_pipelines.evaluation.drift_report import drift_report, window_before
    from surveillance_pipelines.features.batch import feature_schema
    from surveillance_pipelines.stores.deployments import champion
    from surveillance_pipelines.stores.predictors import load_stored

    with stores.connect() as connection:
        serving = champion(connection, stores.settings.tenant)
    if serving is None:
        return None
    bundle = load_stored(stores.settings, serving)
    table = feature_table_of(bundle.view.name)
    days = [day for day in stores.lake.days(table) if day < stores.today()]
    first, last = window_before((days[-1] if days else stores.today()) + timedelta(days=1))
    features = stores.lake.read(table, days=(first, last), schema=feature_schema(bundle.view))
    return drift_report(features, bundle, first, last)
