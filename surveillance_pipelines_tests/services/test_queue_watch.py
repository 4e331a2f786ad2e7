"""What is seen of a queue from outside."""

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, ManualClock, to_datetime
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.services.queue_watch import QueueView, queue_state
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, SYMBOLS, received


class LaterClock:
    """The machine's clock, some seconds on."""

    def __init__(self, seconds: float) -> None:
        self._ahead = round(seconds * MICROSECONDS)

    def now_us(self) -> int:
        return SYSTEM_CLOCK.now_us() + self._ahead

    def sleep(self, seconds: float) -> None:
        SYSTEM_CLOCK.sleep(seconds)


def view_of(lane, clock) -> QueueView:
    with lane.connect() as connection:
        return queue_state(lane.inputs, connection, clock)


def test_bar_that_a_run_left_open_is_work_once_its_minute_is_over(live_lane):
    ticks = [Tick(symbol, 10.0, 5.0, OPEN + 57 * MICROSECONDS) for symbol in SYMBOLS]
    before = ManualClock(to_datetime(SYSTEM_CLOCK.now_us()))
    live_lane.send([received(tick, i) for i, tick in enumerate(ticks)])
    assert live_lane.drain(window_seconds=0.5).stopped_by == "window"

    seen = view_of(live_lane, before)  # a slow machine may take longer than the rest of the minute
    assert (seen.waiting, seen.unsent, seen.due_bars, seen.has_work) == (0, 0, 0, False)
    later = view_of(live_lane, LaterClock(60))
    assert (later.due_bars, later.has_work) == (len(SYMBOLS), True)

    live_lane.drain(window_seconds=30)
    assert live_lane.column("SELECT count(*) FROM ops.live_bars") == [len(SYMBOLS)]
    assert not view_of(live_lane, LaterClock(60)).has_work


def test_queue_that_was_never_served_has_no_due_bars(live_lane):
    seen = view_of(live_lane, ManualClock(to_datetime(OPEN + MINUTE)))
    assert (seen.due_bars, seen.last_message_at, seen.holder, seen.has_work) == (0, None, None, False)
