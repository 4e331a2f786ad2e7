"""The last check before a row is built: a score that is no number is a defect, and is not stored."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surveillance_pipelines.engine.scoring_rows import Candidate, anomaly_row, score_row, signal_row
from surveillance_pipelines.features.views import CORE_V1
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
