"""The bars in progress, in the order in which they are due."""

import random

from surveillance_pipelines.engine.event_clock import Anchor, DueBars


def nobody(_: str) -> bool:
    return False


def test_anchor_converts_an_event_time_to_the_queues_clock():
    assert Anchor(sent_at=1_000, event_time=300).queue_clock_at(360) == 1_060


def test_bars_are_due_in_any_order_of_changes():
    rng, due, expected = random.Random(5), DueBars(), dict[str, int]()
    for _ in range(3_000):
        symbol, now = f"S{rng.randrange(40)}", rng.randrange(1_000)
        if rng.random() < 0.6:
            due.set(symbol, now)
            expected[symbol] = now
        elif rng.random() < 0.3:
            due.discard(symbol)
            expected.pop(symbol, None)
        assert due.earliest() == min(expected.values(), default=None)
        assert sorted(due.passed(now, nobody)) == sorted(name for name, at in expected.items() if at <= now)


def test_blocked_bar_stays_due():
    due = DueBars()
    due.set("SPY", 10)
    assert due.passed(20, lambda _: True) == []
    assert due.passed(20, nobody) == ["SPY"]
    due.discard("SPY")
    assert (due.passed(20, nobody), due.earliest()) == ([], None)
