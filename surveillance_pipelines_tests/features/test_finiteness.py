"""Features that may not be missing."""

import polars as pl

from surveillance_pipelines.features.batch import feature_schema
from surveillance_pipelines.features.finiteness import ALWAYS_DEFINED, finiteness
from surveillance_pipelines.features.views import CORE_V1


def table(**values: list[float]) -> pl.DataFrame:
    filled = {name: pl.lit(0.5) for name in CORE_V1.columns} | {name: pl.Series(v) for name, v in values.items()}
    empty = feature_schema().to_frame()
    return empty.clear(n=2).with_columns(**filled)


def test_always_defined_features_are_features_of_the_view():
    assert set(CORE_V1.columns) >= ALWAYS_DEFINED


def test_finiteness_of_numbers_holds():
    assert finiteness(table(), CORE_V1).holds


def test_finiteness_with_a_documented_nan_holds_and_counts_it():
    found = finiteness(table(volume_z=[float("nan"), 1.0]), CORE_V1)
    assert found.holds
    assert found.nan_share == {"volume_z": 0.5}


def test_finiteness_with_an_infinity_or_a_missing_clock_feature_fails():
    assert finiteness(table(gap=[float("inf"), 1.0]), CORE_V1).infinite == {"gap": 1}
    found = finiteness(table(minute_sin=[float("nan"), 1.0]), CORE_V1)
    assert found.undefined == {"minute_sin": 1}
    assert not found.holds
