"""Every column of every table says what it means."""

import polars as pl
import pytest

from surveillance_pipelines.batch.scoring import SCORES_SCHEMA
from surveillance_pipelines.contracts.frames import BAR_SCHEMA, TICK_SCHEMA
from surveillance_pipelines.defs.metadata import column_schema, stored_schema
from surveillance_pipelines.features.batch import feature_schema
from surveillance_pipelines.features.views import CORE_V1, CORE_V2
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.training.training_data import ROW_COLUMNS

LAKE = {
    "bars": BAR_SCHEMA,
    "ticks": TICK_SCHEMA,
    "scores": SCORES_SCHEMA,
    "features_core_v1": feature_schema(),
    "features_core_v2": feature_schema(CORE_V2),
    "training_set": pl.Schema(ROW_COLUMNS),
}
POSTGRES = (
    "instruments",
    "sessions",
    "anomalies",
    "signals",
    "predictions",
    "model_versions",
    "model_metrics",
    "canaries",
    "data_incidents",
)


@pytest.mark.parametrize("table", LAKE)
def test_columns_of_a_lake_table_have_a_meaning(table: str):
    columns = column_schema(LAKE[table], CORE_V1.descriptions).columns
    assert [column.name for column in columns if not column.description] == []


@pytest.mark.parametrize("table", POSTGRES)
def test_columns_of_a_postgresql_table_have_a_meaning(table: str, settings):
    with connect(provision(settings).database_url) as connection:
        columns = stored_schema(connection, table).columns
    assert len(columns) >= 4
    assert all(column.type for column in columns)
    assert [column.name for column in columns if not column.description] == []
