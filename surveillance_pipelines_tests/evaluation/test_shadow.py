"""Alerts of a shadow beside those of the champion."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from surveillance_pipelines.evaluation.shadow import compare_alerts

START = datetime(2024, 3, 5, 15, tzinfo=UTC)


def scores(alerts: list[int], bars: int = 390, symbol: str = "AAPL") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": symbol,
            "bar_start": [START + timedelta(minutes=minute) for minute in range(bars)],
            "anomaly_score": [0.9 if minute in alerts else 0.1 for minute in range(bars)],
            "is_anomaly": [minute in alerts for minute in range(bars)],
            "kind": ["price_gap" if minute in alerts else "normal" for minute in range(bars)],
        }
    )


def test_compare_alerts_counts_agreement_and_lists_what_differs_newest_first():
    found = compare_alerts(scores([1, 2]), scores([2, 5, 9]))
    assert (found.bars, found.both, found.only_champion, found.only_shadow) == (390, 1, 1, 2)
    assert (found.champion_alerts_per_day, found.shadow_alerts_per_day) == (2.0, 3.0)
    assert found.agreement == pytest.approx(0.25)
    rows = found.disagreements.select("bar_start", "alert_of", "kind", "champion_score", "shadow_score").rows()
    assert rows == [
        (START + timedelta(minutes=9), "shadow", "price_gap", 0.1, 0.9),
        (START + timedelta(minutes=5), "shadow", "price_gap", 0.1, 0.9),
        (START + timedelta(minutes=1), "champion", "price_gap", 0.9, 0.1),
    ]


def test_compare_alerts_leaves_out_bars_that_only_one_has_scored():
    found = compare_alerts(scores([1]), scores([1], symbol="MSFT"))
    assert (found.bars, found.agreement, found.shadow_alerts_per_day) == (0, 1.0, 0.0)
