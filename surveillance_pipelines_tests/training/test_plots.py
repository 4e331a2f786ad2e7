from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from surveillance_pipelines.training.plots import drift, evaluation_figures, training_figures
from surveillance_pipelines.training.price_plot import prices_with_anomalies
from surveillance_pipelines_tests.training.tiny_bundle import tiny_models

PNG = b"\x89PNG\r\n\x1a\n"
START = datetime(2024, 3, 4, 14, 30, tzinfo=UTC)


def bars(count: int) -> pl.DataFrame:
    starts = [START + timedelta(minutes=n) for n in range(count)]
    schema = {"symbol": pl.String, "bar_start": pl.Datetime("us", "UTC"), "close": pl.Float64, "volume": pl.Float64}
    return pl.DataFrame(
        {
            "symbol": ["GME"] * count,
            "bar_start": starts,
            "close": [100.0 + n for n in range(count)],
            "volume": [5.0] * count,
        },
        schema,
    )


def marked(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("symbol", "bar_start", kind=pl.lit("price_gap"))


def test_evaluation_figures_are_images(evaluation):
    figures = evaluation_figures(evaluation)
    assert set(figures) == {"reconstruction_error", "roc_pr", "confusion", "event_recall"}
    assert all(png.startswith(PNG) and len(png) > 5_000 for png in figures.values())


def test_training_figures_are_images():
    figures = training_figures(tiny_models())
    assert set(figures) == {"losses", "classifier_importance", "direction_importance"}
    assert all(png.startswith(PNG) for png in figures.values())


def test_drift_figure_omits_unknown_columns():
    assert drift({"moved": 0.4, "still": 0.01, "unknown": float("nan")}).startswith(PNG)
    assert drift({}).startswith(PNG)


def test_prices_with_anomalies_differs_when_one_is_marked():
    marks = marked(bars(50).slice(20, 2))
    plain = prices_with_anomalies(bars(50), marks.head(0), title="GME")
    assert plain == prices_with_anomalies(bars(50), marks.head(0), title="GME")
    assert plain != prices_with_anomalies(bars(50), marks, title="GME")
    assert plain != prices_with_anomalies(bars(50), marks.head(0), title="GME", planted=marks.with_columns(bars=2))


def test_prices_with_anomalies_of_one_bar_is_an_image():
    marks = marked(bars(1))
    assert prices_with_anomalies(bars(1), marks, title="GME").startswith(PNG)


def test_prices_with_anomalies_without_bars_is_refused():
    marks = marked(bars(1))
    with pytest.raises(ValueError, match="expected bars to draw"):
        prices_with_anomalies(bars(0), marks, title="GME")
