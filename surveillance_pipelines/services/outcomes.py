"""Outcomes of predictions: the actual price move after each prediction, stored on its row."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta

from surveillance_pipelines.contracts.feature_tables import feature_table_of
from surveillance_pipelines.services.platform import Stores


@dataclass(frozen=True, slots=True)
class SettledOutcomes:
    """Result of settling a range of days.

    Attributes:
        settled: number of predictions that got their outcome.
        directions: direction of the move → number of bars.
        waiting: number of predictions of past days of the range without an outcome.
        predictions: number of predictions of past days of the range.
    """

    settled: int
    directions: Counter[str]
    waiting: int
    predictions: int


def settle_days(stores: Stores, first: date, last: date) -> SettledOutcomes:
    """Write the outcomes of all predictions of a range of days with an elapsed horizon, one transaction per day.

    Prices and volatility are read from the features of the serving view.
    """
    from surveillance_pipelines.evaluation.direction_labels import HORIZON_MINUTES
    from surveillance_pipelines.evaluation.outcomes import outcomes
    from surveillance_pipelines.features.batch import feature_schema
    from surveillance_pipelines.stores.deployments import serving_view
    from surveillance_pipelines.stores.predictions import open_predictions, settle

    columns = ["symbol", "date", "bar_start", "close", "realised_volatility"]
    settled, directions = 0, Counter[str]()
    with stores.connect() as connection:
        table = feature_table_of(serving_view(connection, stores.settings.tenant))
        for day in stores.lake.days(table):
            if not first <= day <= last:
                continue
            features = stores.lake.read(table, days=[day], columns=columns, schema=feature_schema())
            known = outcomes(features)
            settled += settle(connection, known, horizon_minutes=HORIZON_MINUTES)
            connection.commit()
            directions.update(known["outcome_direction"])
        waiting, total = open_predictions(connection, first, min(last, stores.today() - timedelta(days=1)))
    return SettledOutcomes(settled, directions, waiting, total)
