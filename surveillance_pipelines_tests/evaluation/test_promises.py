"""Tests of a bundle's promises on held-out days."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.evaluation.promises import alert_rate_bound, found_less_than_rules
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.warmup import WarmupRules

DAYS, BARS = 10, 390


START = datetime(2024, 3, 1, 14, 30, tzinfo=UTC)


def bars() -> pl.DataFrame:
    """Return ten days of 390 minutes of one symbol."""
    starts = [START + timedelta(days=day, minutes=minute) for day in range(DAYS) for minute in range(BARS)]
    frame = pl.DataFrame({"bar_start": starts, "symbol": "AAPL"})
    return frame.with_columns(date=pl.col("bar_start").dt.date())


def alerts_at(*minutes: int) -> np.ndarray:
    """Return alerts in the given minutes of every day."""
    return np.isin(np.arange(DAYS * BARS) % BARS, minutes)


def bound(alerts: np.ndarray) -> float:
    return alert_rate_bound(bars(), np.ones(DAYS * BARS, dtype=bool), alerts, seed=1)


def test_lower_bound_of_the_alert_rate_counts_episodes_not_bars():
    assert bound(alerts_at()) == 0.0
    assert bound(alerts_at(100)) == pytest.approx(1.0)
    assert bound(alerts_at(*range(100, 140))) == pytest.approx(1.0), "one event of forty minutes"
    assert bound(alerts_at(100, 130)) == pytest.approx(1.0)
    assert bound(alerts_at(100, 131)) == pytest.approx(2.0)


@pytest.mark.parametrize(("per_day", "exceeds"), [(0.5, False), (1.0, False), (4.4, True)])
def test_lower_bound_exceeds_the_budget_only_if_it_is_clearly_broken(per_day, exceeds):
    low = bound(np.random.default_rng(1).random(DAYS * BARS) < per_day / BARS)
    assert (low > 1.0) == exceeds


def test_alerts_of_different_symbols_are_different_episodes():
    two = pl.concat([bars(), bars().with_columns(symbol=pl.lit("SPY"))])
    found = alert_rate_bound(two, np.ones(len(two), dtype=bool), np.tile(alerts_at(100), 2), seed=1)
    assert found == pytest.approx(1.0)


def test_alerts_on_planted_bars_do_not_count_against_the_budget():
    original = np.arange(DAYS * BARS) % 2 == 0
    assert alert_rate_bound(bars(), original, ~original, seed=1) == 0.0


def events(found_by_bundle: int, found_by_rules: int, planted: int = 40):
    """Return planted single bars of which the bundle finds the first ones and the rules the last ones."""
    frame = pl.DataFrame(
        {"label": ["volume_spike"] * planted, "replica": [1] * planted, "anomaly_id": [str(n) for n in range(planted)]}
    )
    features = np.zeros((planted, len(CORE_V1.columns)))
    features[planted - found_by_rules :, CORE_V1.columns.index("volume_z")] = 6.0
    score = np.where(np.arange(planted) < found_by_bundle, 0.9, 0.1)
    return frame, replace(WarmupRules().predict(features), anomaly_score=score), features


@pytest.mark.parametrize(
    ("bundle", "rules", "is_worse"), [(40, 40, False), (0, 0, False), (36, 38, False), (0, 20, True)]
)
def test_kind_that_the_rules_find_clearly_more_often_has_a_small_p_value(bundle, rules, is_worse):
    found = found_less_than_rules(*events(bundle, rules))
    assert found.keys() == {"volume_spike"}
    assert (found["volume_spike"] < 0.01) == is_worse


def test_p_value_is_that_of_the_exact_sign_test():
    # The rules alone find 8 events, the bundle alone 2: P(X >= 8) of 10 fair coins.
    assert found_less_than_rules(*events(2, 8, planted=40))["volume_spike"] == pytest.approx(56 / 1024)
