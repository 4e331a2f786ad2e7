"""The bar in progress: which volume it is scored with."""

import math

import numpy as np
import pytest

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.engine.bar_builder import Print
from surveillance_pipelines.engine.provisional_volume import volume_to_score
from surveillance_pipelines.engine.scoring_rows import Candidate
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.engine.symbol_state import SymbolState
from surveillance_pipelines.features.market import MarketContext
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, sessions

VOLUMES = 100.0 + 10.0 * np.arange(80)
USUAL = float(VOLUMES[-20:].mean())


def tick_print(minute: int, second: float, volume: float, price: float = 10.0) -> Print:
    event_time = OPEN + minute * MINUTE + round(second * MICROSECONDS)
    return Print(Tick("SPY", price, volume, event_time), volume, f"m{event_time}", event_time)


@pytest.fixture
def lane() -> SymbolState:
    """Return a lane with 80 closed bars, each a bit dearer and heavier than the one before."""
    lane = SymbolState.from_seed("SPY", sessions(), Seed())
    for minute, volume in enumerate(VOLUMES.tolist()):
        lane.add(tick_print(minute, 1, volume, 10.0 + 0.01 * (minute % 7)))
        lane.close(MarketContext(), cause=None, t_received=0)
    return lane


def scored_after(lane: SymbolState, *prints: Print) -> Candidate:
    for print_ in prints:
        lane.add(print_)
    return lane.peek(MarketContext(), prints[-1])


def feature(candidate: Candidate, name: str) -> float:
    return float(candidate.features[CORE_V1.columns.index(name)])


@pytest.mark.parametrize(
    ("so_far", "usual", "scored"), [(1, 50, 50), (50, 50, 50), (80, 50, 80), (0, 50, 50), (3, math.nan, 3)]
)
def test_volume_below_the_usual_counts_as_the_usual(so_far, usual, scored):
    assert volume_to_score(so_far, usual) == scored


def test_first_tick_of_a_bar_is_scored_with_the_usual_volume_and_says_its_own(lane):
    first = scored_after(lane, tick_print(80, 1, 3.0))
    assert feature(first, "volume_ratio") == pytest.approx(1.0, abs=1e-12)
    assert first.volume == 3.0
    more = scored_after(lane, tick_print(80, 20, 2 * USUAL))
    assert feature(more, "volume_ratio") == pytest.approx((3.0 + 2 * USUAL) / USUAL)


def test_bar_in_progress_lacks_no_feature_that_the_closed_bar_has(lane):
    partial = scored_after(lane, tick_print(80, 1, 0.0))
    lane.add(tick_print(80, 2, 3.0))
    _, closed = lane.close(MarketContext(), cause=None, t_received=0)
    assert np.isnan(partial.features).tolist() == np.isnan(closed.features).tolist()


def test_usual_volume_enters_no_closed_bar(lane):
    scored_after(lane, tick_print(80, 1, 3.0))
    bar, closed = lane.close(MarketContext(), cause=None, t_received=0)
    assert bar.volume == 3.0
    assert feature(closed, "volume_ratio") == pytest.approx(3.0 / USUAL)
