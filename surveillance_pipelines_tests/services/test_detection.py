"""Detection with windows of several bars: a bar has the same window whatever the scope is."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.market.calendar_choice import CalendarChoice
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.contract import FeatureWindow
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.services.detection import Scope, find_anomalies
from surveillance_pipelines_tests.engine.market import plain_settings, stream
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine
from surveillance_pipelines_tests.engine.test_feature_history import LENGTH, WideRules, frame_of


class EveryBarRules(WideRules):
    """Rules for which every bar is anomalous, so that the anomalies show the hash of every window."""

    def predict(self, window: FeatureWindow) -> BundlePredictions:
        predictions = super().predict(window)
        ones = np.ones(len(predictions))
        return replace(predictions, anomaly_score=ones, kind_codes=ones.astype(np.int64))


def two_days() -> list[Bar]:
    first = [replace(bar, source="file") for bar in feed(make_engine(), [stream(40)]).bars]
    second = feed(make_engine(), [stream(30, seed=3)]).bars
    return [
        *first,
        *(replace(bar, bar_start=bar.bar_start + DAY_US, event_time=bar.event_time + DAY_US) for bar in second),
    ]


def hashes(scope: Scope) -> dict[tuple, str]:
    bars = frame_of(two_days())
    calendars = dict.fromkeys(bars["symbol"].unique(), CalendarChoice("XNYS", "stated"))
    found = find_anomalies(plain_settings(), bars, EveryBarRules(), scope=scope, calendars=calendars)
    assert found.anomalies.height == found.bars.height
    return {(symbol, start): digest for symbol, start, digest in found.anomalies.select(
        "symbol", "bar_start", "input_hash").iter_rows()}  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "bars"),
    [
        (Scope(first=date(2024, 3, 6)), 3 * 29),
        (Scope(first=date(2024, 3, 6), symbols=("SPY",)), 29),
        (Scope(lookback=5), 3 * 5),
        (Scope(lookback=25, symbols=("AAPL",)), 25),
        (Scope(lookback=40), 3 * 40),
        (Scope(lookback=40, first=date(2024, 3, 6)), 3 * 29),
    ],
)
def test_windows_of_the_first_bars_in_scope_reach_before_it(scope, bars):
    whole, scoped = hashes(Scope()), hashes(scope)
    assert len(whole) == 3 * (39 + 29) > 3 * LENGTH
    assert len(scoped) == bars
    assert scoped == {key: whole[key] for key in scoped}


@pytest.mark.parametrize(
    ("scope", "bars"), [(Scope(first=date(2024, 3, 6)), 3 * 29), (Scope(lookback=40, first=date(2024, 3, 6)), 3 * 29)]
)
def test_models_with_windows_of_one_bar_score_the_days_in_scope(scope, bars):
    frame = frame_of(two_days())
    calendars = dict.fromkeys(frame["symbol"].unique(), CalendarChoice("XNYS", "stated"))
    found = find_anomalies(plain_settings(), frame, WarmupRules(), scope=scope, calendars=calendars)
    assert found.bars.height == bars
