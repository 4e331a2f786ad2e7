"""Messages with planned outcomes: ticks in order, late ticks, and malformed messages of every code of refusal."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Final

import numpy as np

from benchmarks.live_lane import random_ticks
from benchmarks.queue_depth import LARGE_BYTES
from surveillance_pipelines.clock import to_iso
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.engine.bar_builder import MINUTE_US, bar_start_of
from surveillance_pipelines.engine.effects import OutcomeName
from surveillance_pipelines.market.messages import encode_tick

BAD_SHARE: Final = 0.1
LATE_SHARE: Final = 0.01
LATE_BY_US: Final = 10 * MINUTE_US
TICKS_PER_BAR: Final = 10
"""The same for every load, so that a message costs the same work in each."""
CALL_BYTES: Final = 262_144
"""Limit of SQS for the bodies of one call."""
CALL_ENTRIES: Final = 10

Bar = tuple[str, str]
"""Symbol, and the start of the minute as in the output messages."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A message with its planned outcome.

    Attributes:
        entry: what is sent.
        outcome: how the message must end.
        code: of the dead letter; None unless the outcome is ``dead``.
        bar: the bar that a scored tick belongs to.
    """

    entry: SendEntry
    outcome: OutcomeName
    code: str | None = None
    bar: Bar | None = None


def _changed(body: str, **fields: object) -> str:
    return json.dumps(json.loads(body) | fields)


MALFORMATIONS: Final[dict[str, Callable[[str], str]]] = {
    "too_large": lambda body: f'{body[:-1]},"venue":"{"x" * LARGE_BYTES}"}}',
    "not_json": lambda body: body[:-5],
    "not_object": lambda body: f"[{body}]",
    "duplicate_key": lambda body: f'{body[:-1]},"price":1}}',
    "missing_field": lambda body: _changed(body, volume=None),
    "wrong_type": lambda body: _changed(body, price="100,25"),
    "non_finite": lambda body: _changed(body, price=math.nan),
    "out_of_bounds": lambda body: _changed(body, price=0),
    "bad_symbol": lambda body: _changed(body, symbol="sim0"),
    "bad_timestamp": lambda body: _changed(body, timestamp="2024-01-15T10:30:00"),
    "future_timestamp": lambda body: _changed(body, timestamp="2100-01-01T00:00:00Z"),
    "wrapped": lambda body: json.dumps({"Type": "SubscriptionConfirmation", "TopicArn": "ticks", "Message": body}),
    "unknown_symbol": lambda body: _changed(body, symbol="UNKNOWN"),
}
"""Code of the refusal → the malformed message made of a good one. A body of ``LARGE_BYTES`` is always refused."""


def plan_backlog(count: int, symbols: Sequence[str], *, end_us: int, name: str, seed: int) -> list[Planned]:
    """Return messages of the symbols in turn, ``BAD_SHARE`` of them malformed and ``LATE_SHARE`` late.

    Args:
        count: of messages.
        symbols: served symbols.
        end_us: event time of the end of the last minute.
        name: start of the deduplication ids, unique to the queue.
        seed: of the selection of malformed and late messages.
    """
    step_us = MINUTE_US // (TICKS_PER_BAR * len(symbols))
    ticks = random_ticks(count, begin_us=end_us - count * step_us, step_us=step_us, symbols=symbols)
    order = np.random.default_rng(seed).permutation(count).tolist()
    bad = round(BAD_SHARE * count)
    codes = dict(zip(order[:bad], cycle(MALFORMATIONS)))
    late = set(order[bad : bad + round(LATE_SHARE * count)])
    newest: dict[str, int] = {}
    planned: list[Planned] = []
    for i, tick in enumerate(ticks):
        if i in codes:
            planned.append(_bad(tick, codes[i], f"{name}-{i}"))
        else:
            shifted = replace(tick, event_time=tick.event_time - LATE_BY_US) if i in late else tick
            planned.append(plan_tick(shifted, f"{name}-{i}", newest))
    return planned


def plan_tick(tick: Tick, dedup_id: str, newest: dict[str, int]) -> Planned:
    """Return a tick with its outcome: late if a later minute of its symbol has begun.

    Args:
        tick: the next of its symbol.
        dedup_id: of its message.
        newest: symbol → start of its newest minute; updated.
    """
    entry, minute = SendEntry(encode_tick(tick), tick.symbol, dedup_id), bar_start_of(tick.event_time)
    if minute < newest.get(tick.symbol, minute):
        return Planned(entry, "late")
    newest[tick.symbol] = minute
    return Planned(entry, "scored", bar=(tick.symbol, to_iso(minute)))


def _bad(tick: Tick, code: str, dedup_id: str) -> Planned:
    return Planned(SendEntry(MALFORMATIONS[code](encode_tick(tick)), tick.symbol, dedup_id), "dead", code)


def calls(planned: Sequence[Planned]) -> Iterator[list[Planned]]:
    """Split messages into calls within the limits of SQS, in their order."""
    call: list[Planned] = []
    size = 0
    for message in planned:
        length = len(message.entry.body)
        if call and (len(call) == CALL_ENTRIES or size + length > CALL_BYTES):
            yield call
            call, size = [], 0
        call.append(message)
        size += length
    if call:
        yield call
