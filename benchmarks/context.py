"""One minute of the cross-symbol context, live: each return arrives, then each bar asks for its peers' return."""

import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.features.market import MINUTE_US, MarketContext

SIZES: Final = (100, 1_000, 5_000)

Returns = Mapping[str, float]


def returns_of(symbols: int, seed: int = 5) -> Returns:
    """Return one minute's log returns by symbol, in random order of arrival."""
    rng = np.random.default_rng(seed)
    names = [f"S{number:05d}" for number in rng.permutation(symbols)]
    return dict(zip(names, (rng.standard_t(3, symbols) * 1e-3).tolist(), strict=True))


def live_minute(returns: Returns, centre: MarketCentre) -> dict[str, float]:
    """Return every symbol's peers' return, computed by the live lane's calls."""
    context = MarketContext(centre=centre)
    for symbol, value in returns.items():
        context.update(symbol, 0, value)
    return {symbol: context.value(symbol, MINUTE_US)[0] for symbol in returns}


def interleaved_minute(returns: Returns, centre: MarketCentre) -> None:
    """Let each symbol ask as soon as its return is known, as in a burst at the end of a minute."""
    context = MarketContext(centre=centre)
    for symbol, value in returns.items():
        context.update(symbol, 0, value)
        context.value(symbol, MINUTE_US)


def numpy_pass(returns: Returns) -> dict[str, float]:
    """Return every symbol's mean without its own return, from one pass over an array."""
    values = np.array(list(returns.values()))
    return dict(zip(returns, ((values.sum() - values) / (len(values) - 1)).tolist(), strict=True))


def seconds(work: object, *arguments: object, repeat: int = 5) -> float:
    """Return the smallest processor time of some repetitions, which other processes of the machine hardly change."""
    assert callable(work)
    costs = []
    for _ in range(repeat):
        begin = time.thread_time()
        work(*arguments)
        costs.append(time.thread_time() - begin)
    return min(costs)
