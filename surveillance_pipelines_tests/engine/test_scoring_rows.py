"""The last check before a row is built: a score that is no number is a defect, and is not stored."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surveillance_pipelines.engine.scoring_rows import Candidate, anomaly_row, score_row, signal_row
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.training_domain import TrainingDomain
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines_tests.engine.test_engine import make_config

FEATURES = np.zeros(len(CORE_V1.columns))
BAR = Candidate(
    symbol="AAPL", bar_start=0, bar_status="final", event_time=0, knowledge_time=0, source="file",
    source_message_id=None, price=1.0, volume=1.0, features=FEATURES,
)  # fmt: skip
BUILDERS: dict[str, Callable[..., Any]] = {
    "score": score_row,
    "signal": signal_row,
    "anomaly": lambda *parts: anomaly_row(*parts, kind="volume_spike", status="opened"),
}


@pytest.mark.parametrize("row", BUILDERS)
@pytest.mark.parametrize("score", [np.nan, np.inf, -0.1, 1.1])
def test_row_of_a_score_that_is_no_number_from_0_to_1_is_not_built(row: str, score: float) -> None:
    predictions = WarmupRules().predict(FEATURES[np.newaxis, :])
    assert BUILDERS[row](make_config().rows, BAR, predictions, 0).symbol == "AAPL"
    broken = replace(predictions, anomaly_score=np.array([score]))
    with pytest.raises(ValueError, match="expected an anomaly score from 0 to 1"):
        BUILDERS[row](make_config().rows, BAR, broken, 0)


@pytest.mark.parametrize("row", ["signal", "anomaly"])
def test_row_of_a_bar_outside_the_training_data_says_so(row: str) -> None:
    domain = TrainingDomain(
        symbols=frozenset({"AAPL"}), calendars=frozenset({"XNYS"}), asset_classes=frozenset({"equity"})
    )
    predictions = WarmupRules().predict(FEATURES[np.newaxis, :])
    coin, stock = replace(BAR, symbol="BTC-USD", calendar="24/7"), replace(BAR, calendar="XNYS")
    plain = make_config().rows
    recorded = replace(plain, training_domain=domain)
    outside = BUILDERS[row](recorded, coin, predictions, 0).explanation
    assert outside["outside_training"] == {"symbol": "BTC-USD", "calendar": "24/7", "asset_class": "crypto"}
    unchanged = BUILDERS[row](plain, coin, predictions, 0).explanation
    assert {name: value for name, value in outside.items() if name != "outside_training"} == unchanged
    assert BUILDERS[row](recorded, stock, predictions, 0).explanation == unchanged
    earlier = replace(plain, training_domain=TrainingDomain())  # a bundle that records no instruments
    assert BUILDERS[row](earlier, coin, predictions, 0).explanation == unchanged
