import pytest

from surveillance_pipelines.market.volume import VolumeTotal, size_of_total

HEARD = VolumeTotal(session_id=7, total=500.0, event_time=100)


@pytest.mark.parametrize(
    ("state", "total", "session_id", "event_time", "size"),
    [
        (None, 1_000_000.0, 7, 100, 0.0),
        (HEARD, 620.0, 7, 101, 120.0),
        (HEARD, 500.0, 7, 100, 0.0),
        (HEARD, 40.0, 8, 200, 40.0),
        (HEARD, 30.0, 7, 101, 30.0),
    ],
    ids=["first ever", "grows", "unchanged", "new session", "feed restarted"],
)
def test_size_of_total_returns_the_volume_since_the_previous_total(
    state: VolumeTotal | None, total: float, session_id: int, event_time: int, size: float
) -> None:
    step = size_of_total(state, total, session_id=session_id, event_time=event_time)
    assert step.size == size
    assert step.state == VolumeTotal(session_id, total, event_time)


def test_size_of_total_of_a_late_tick_is_zero_and_keeps_the_state() -> None:
    step = size_of_total(HEARD, 450.0, session_id=7, event_time=99)
    assert (step.size, step.state) == (0.0, HEARD)


def test_size_of_total_sizes_of_a_session_sum_to_its_last_total() -> None:
    state, sizes = VolumeTotal(6, 9.0, 0), []
    for moment, total in enumerate([10.0, 10.0, 35.0, 80.0], start=1):
        step = size_of_total(state, total, session_id=7, event_time=moment)
        state, sizes = step.state, [*sizes, step.size]
    assert sizes == [10.0, 0.0, 25.0, 45.0]
