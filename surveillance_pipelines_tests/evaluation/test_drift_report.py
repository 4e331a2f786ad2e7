"""Drift of recent days relative to the training data."""

from datetime import date

import polars as pl
import pytest

from surveillance_pipelines.evaluation.drift_report import MIN_ROWS, drift_report, window_before
from surveillance_pipelines.features.finiteness import ALWAYS_DEFINED
from surveillance_pipelines.models.bundle import Bundle, load_bundle
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle, tiny_training_set

FIRST, LAST = date(2024, 3, 4), date(2024, 3, 8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("drift") / "v1"
    build_tiny_bundle(path)
    return load_bundle(path)


@pytest.fixture(scope="module")
def training_rows() -> pl.DataFrame:
    return tiny_training_set().rows("train", labelled=True, original=True)


def test_drift_report_of_the_training_rows_raises_no_alert(bundle: Bundle, training_rows: pl.DataFrame):
    report = drift_report(training_rows, bundle, FIRST, LAST)
    assert report.drifted == []
    assert not report.is_alert
    assert not ALWAYS_DEFINED & set(report.indices)


def test_drift_report_of_another_market_raises_an_alert(bundle: Bundle, training_rows: pl.DataFrame):
    moved = training_rows.with_columns((pl.col(bundle.model_columns) * 5.0 + 3.0).name.keep())
    report = drift_report(pl.concat([moved] * (1 + MIN_ROWS // moved.height)), bundle, FIRST, LAST)
    assert report.is_alert
    assert report.summary.startswith(f"{len(report.drifted)} of {len(report.indices)} features drifted")


def test_drift_report_of_few_rows_is_not_judged(bundle: Bundle, training_rows: pl.DataFrame):
    report = drift_report(training_rows.head(10), bundle, FIRST, LAST)
    assert not report.has_enough_rows
    assert not report.is_alert
    assert "drift is evaluated from" in report.summary


def test_window_before_today_excludes_today():
    assert window_before(date(2024, 3, 11)) == (date(2024, 3, 4), date(2024, 3, 10))
