"""Drift of the features from the champion's training data."""

from typing import TYPE_CHECKING

from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.evaluation.drift_report import DriftReport


def champion_drift(stores: Stores) -> "DriftReport | None":
    """Compare the features of the newest full days with the champion's training data; None without a champion.

    The period ends with the last full day that has features, so that data without a live feed is also compared.
    """
    from datetime import timedelta
    from pathlib import Path

    from surveillance_pipelines.evaluation.drift_report import drift_report, window_before
    from surveillance_pipelines.features.batch import feature_schema
    from surveillance_pipelines.models.bundle import load_bundle
    from surveillance_pipelines.stores.deployments import champion

    with stores.connect() as connection:
        serving = champion(connection, stores.settings.tenant)
    if serving is None:
        return None
    bundle = load_bundle(Path(serving.path), expected_hash=serving.bundle_hash)
    days = [day for day in stores.lake.days("features_core_v1") if day < stores.today()]
    first, last = window_before((days[-1] if days else stores.today()) + timedelta(days=1))
    table = f"features_{bundle.view.name}"
    features = stores.lake.read(table, days=(first, last), schema=feature_schema(bundle.view))
    return drift_report(features, bundle, first, last)
