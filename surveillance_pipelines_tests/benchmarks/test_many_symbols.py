"""Measures of many symbols: bursts and latencies from rows, and the picture."""

import numpy as np
import pytest

from benchmarks.conservation import ReceivedRow
from benchmarks.many_symbols import Load
from benchmarks.many_symbols_picture import draw
from benchmarks.minute_bursts import bursts, latencies, percentiles_ms
from surveillance_pipelines.clock import MICROSECONDS, to_iso
from surveillance_pipelines.engine.bar_builder import MINUTE_US

BEGIN = 28_000_000 * MINUTE_US
SENT = (5.0, 50.0, 65.0, 100.0)


def row(seconds: float, minute: int, answers: str | None = None) -> ReceivedRow:
    """Return a row committed ``seconds`` after the beginning, published 0.5 s and received 1 s later."""
    at, half = BEGIN + round(seconds * MICROSECONDS), MICROSECONDS // 2
    start = to_iso(BEGIN + minute * MINUTE_US)
    return ReceivedRow(f"{seconds}", "S", answers, answers is None, "S", start, at, at + half, at + 2 * half)


ROWS = [
    row(61.0, 0), row(63.0, 0), row(63.0, 0), row(122.0, 1),
    *(row(at, int(at // 60), f"m{number}") for number, at in enumerate(SENT)),
]  # fmt: skip
SENT_AT = {f"m{number}": BEGIN + round(at * MICROSECONDS) for number, at in enumerate(SENT)}


def test_burst_ends_with_the_last_bar_of_the_minute():
    first, second = bursts(ROWS, BEGIN, 2)
    assert (first.bars, first.largest_commit) == (3, 2)
    assert (first.last_committed, first.last_published, first.last_received) == (3.0, 3.5, 4.0)
    assert first.published == [1.5, 3.5, 3.5]
    assert second.last_committed == 2.0
    with pytest.raises(ValueError, match="expected closed bars of the minute"):
        bursts(ROWS, BEGIN, 3)


def test_steady_messages_are_warm_and_outside_the_bursts():
    slow = [row(70.0, 0), *ROWS]
    for rows, steady in ((ROWS, [False, False, True, True]), (slow, [False, False, False, True])):
        measured = latencies(rows, SENT_AT, BEGIN, bursts(rows, BEGIN, 2))
        assert measured.is_steady.tolist() == steady
        assert measured.received.tolist() == [1.0] * 4
        assert measured.published.tolist() == [0.5] * 4
        assert measured.is_cold.tolist() == [True, True, False, False]


def test_message_without_a_score_is_refused():
    with pytest.raises(ValueError, match="1 have none"):
        latencies(ROWS, SENT_AT | {"other": BEGIN}, BEGIN, bursts(ROWS, BEGIN, 2))


def test_percentiles_are_in_milliseconds_and_none_of_nothing():
    assert percentiles_ms(np.array([1.0, 2.0, 3.0]))["p50"] == 2_000.0
    assert percentiles_ms(np.array([])) == {"n": 0}


def test_load_has_a_tick_of_each_symbol_in_each_minute():
    assert Load(symbols=5_000, rate=250.0, minutes=3).messages == 45_000
    with pytest.raises(ValueError, match="at least 83 messages/s for 5,000 symbols, was 80"):
        Load(symbols=5_000, rate=80.0, minutes=3)
    with pytest.raises(ValueError, match="more than 1 minutes"):
        Load(symbols=10, rate=80.0, minutes=1)


def test_picture_is_drawn(tmp_path):
    found = bursts(ROWS, BEGIN, 2)
    draw([(0.0, 200.0), (60.0, 300.0)], latencies(ROWS, SENT_AT, BEGIN, found), found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
