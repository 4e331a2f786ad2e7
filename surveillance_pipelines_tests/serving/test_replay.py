"""Every output is made again from what is stored, and one wrong byte is named."""

import pytest

from surveillance_pipelines.serving.replay import Replayed
from surveillance_pipelines.serving.replayer import Replayer
from surveillance_pipelines.storage.lake import Lake
from surveillance_pipelines_tests.serving.conftest import LiveLane
from surveillance_pipelines_tests.serving.market import stream

_OUTPUTS = (
    "SELECT id FROM surveillance.anomalies UNION ALL SELECT id FROM surveillance.signals UNION ALL "
    "SELECT id FROM surveillance.predictions UNION ALL SELECT id FROM ops.outbox"
)


def replay(lane: LiveLane, ids: list[str]) -> list[Replayed]:
    with lane.connect() as connection:
        lake = Lake(lane.endpoints.lake_url, lane.endpoints.lake_storage_options)
        return list(Replayer(connection, lake, lane.settings).replay(ids))


def failures(results: list[Replayed]) -> list[str]:
    return [f"{r.kind} {r.bar_status} {r.symbol}: {r.said}" for r in results if r.outcome != "equal"]


@pytest.fixture
def served(live_lane: LiveLane) -> LiveLane:
    """Return a lane that has served three runs: the two restarts fall into the middle of bars."""
    messages = stream(90)
    for begin, end in ((0, 200), (200, 500), (500, len(messages))):
        live_lane.send(messages[begin:end])
        live_lane.drain(window_seconds=3)
    return live_lane


def test_every_output_of_three_runs_is_equal_byte_for_byte(served: LiveLane) -> None:
    results = replay(served, sorted(set(served.column(_OUTPUTS))))
    assert failures(results) == []
    assert {result.kind for result in results} == {"anomaly", "signal", "score", "prediction"}
    assert {result.bar_status for result in results} == {"provisional", "final"}
    assert len(results) > 900
