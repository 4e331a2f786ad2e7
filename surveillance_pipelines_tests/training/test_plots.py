from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from surveillance_pipelines.training.plots import drift, evaluation_figures, training_figures
from surveillance_pipelines.training.price_plot import drawn_symbols, price_figure, prices_with_anomalies
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
    assert set(figures) == {"tail_surprise", "reconstruction_error", "roc_pr", "confusion", "event_recall"}
    assert all(png.startswith(PNG) and len(png) > 5_000 for png in figures.values())


def test_training_figures_are_images():
    figures = training_figures(tiny_models())
    assert set(figures) == {"losses", "tail_detector_tails", "classifier_importance", "direction_importance"}
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


def texts(figure) -> list[str]:
    """Return the entries of the legend of the first panel."""
    return [entry.get_text() for entry in figure.axes[0].get_legend().get_texts()]


def test_price_figure_legend_explains_every_mark():
    rows = bars(50)
    marks = pl.concat([marked(rows.slice(20, 2)), marked(rows.slice(30, 1)).with_columns(kind=pl.lit("volume_spike"))])
    planted = marked(rows.slice(20, 1)).with_columns(bars=2)
    assert texts(price_figure(rows, marks, title="GME", planted=planted)) == [
        "close (axis on the left)", "volume, largest 5", "planted: price gap", "alert: price gap (2)",
        "alert: volume spike (1)",
    ]  # fmt: skip
    assert texts(price_figure(rows, marks.head(0), title="GME"))[-1] == "no alert"
    two_days = pl.concat([rows, rows.with_columns(pl.col("bar_start").dt.offset_by("1d"))])
    assert texts(price_figure(two_days, marks.head(0), title="GME"))[2] == "new UTC day"


def test_price_figure_labels_small_prices_with_their_digits():
    cheap = bars(50).with_columns(close=pl.col("close") * 1e-8)
    figure = price_figure(cheap, marked(cheap).head(0), title="SHIB")
    labels = [figure.axes[0].yaxis.get_major_formatter()(price) for price in (1.52e-06, 1.25e-06)]
    assert labels == ["0.00000152", "0.00000125"]


def test_price_figure_of_many_symbols_says_how_many_are_drawn():
    many = pl.concat([bars(3).with_columns(symbol=pl.lit(f"S{n}")) for n in range(8)])
    marks = marked(many.filter(pl.col("symbol").is_in(["S6", "S7"])))
    assert drawn_symbols(many, marks) == ["S0", "S1", "S2", "S3", "S6", "S7"]
    title = price_figure(many, marks, title="A market").get_suptitle()
    assert title == "A market\n6 of 8 symbols: those with the most alerts"
