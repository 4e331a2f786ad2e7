"""Symbols are distributed over the queues as the producer contract says."""

from collections import Counter

import pytest

from surveillance_pipelines.transports.queue_routing import queue_for_symbol


def test_queue_for_symbol_published_values_hold() -> None:
    numbers = ["0", "1", "2", "3"]
    published = {"AAPL": "113", "MSFT": "111", "BTC-USD": "111", "^GSPC": "010", "9988.HK": "000"}
    for symbol, places in published.items():
        assert [queue_for_symbol(symbol, numbers[:count]) for count in (2, 3, 4)] == list(places)


def test_queue_for_symbol_many_symbols_spread_over_the_queues() -> None:
    counts = Counter(queue_for_symbol(f"S{number}", ["a", "b", "c", "d"]) for number in range(1000))
    assert min(counts.values()) > 200


def test_queue_for_symbol_without_queues_raises() -> None:
    with pytest.raises(ValueError, match="SQS_QUEUE_URL"):
        queue_for_symbol("AAPL", [])
