"""A serving state comes back from its bytes as it was."""

import pytest

from surveillance_pipelines.engine.bar_builder import OpenBar, Print
from surveillance_pipelines.engine.event_clock import Anchor
from surveillance_pipelines.engine.snapshots import ServingState, dump_serving_state, load_serving_state
from surveillance_pipelines.market.volume import VolumeTotal
from surveillance_pipelines_tests.engine.test_engine import tick


def test_state_survives_the_trip_bit_for_bit():
    bar = OpenBar.start(Print(tick("SPY", 3, 1.5, 0.1 + 0.2, 1e-9), 1e-9, "m1", 12345))
    state = ServingState(
        open_bar=bar, alerts=("price_gap", "ramping"), last_signal=7, volume_total=VolumeTotal(1, 0.3, 9),
        anchor=Anchor(3, 4), closed=65,
    )  # fmt: skip
    assert load_serving_state(dump_serving_state(state)) == state
    assert load_serving_state(dump_serving_state(ServingState())) == ServingState()


def test_bytes_of_another_format_are_refused():
    with pytest.raises(ValueError, match="serving_v1"):
        load_serving_state(b'{"format": "serving_v0"}')
