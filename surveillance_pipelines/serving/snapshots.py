"""What must survive a restart beside the features: one symbol's serving state as versioned JSON.

Floats are written by ``repr`` and read back bit for bit. The feature state has a snapshot of its own
(``SymbolState.snapshot``), and closed bars are rows of ``ops.live_bars``.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.market.volume import VolumeTotal
from surveillance_pipelines.serving.bar_builder import OpenBar
from surveillance_pipelines.serving.event_clock import Anchor

SERVING_STATE: Final = "serving_v1"
"""Stands in ``ops.feature_state.feature_view`` for rows of this format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingState:
    """One symbol between two messages.

    Attributes:
        open_bar: the bar in progress.
        alerts: kinds opened for it, in order.
        last_signal: start of the bar of the last signal.
        volume_total: the last running total, where the feed sends those.
        anchor: the symbol's newest scored message.
        closed: how many bars this symbol has closed since its features were last seeded from history.
        returns_before: ``(bar start, log return)`` of the bars it closed before that, which peers may still ask for.
    """

    open_bar: OpenBar | None = None
    alerts: tuple[str, ...] = ()
    last_signal: int | None = None
    volume_total: VolumeTotal | None = None
    anchor: Anchor | None = None
    closed: int = 0
    returns_before: tuple[tuple[int, float], ...] = ()


def dump_serving_state(state: ServingState) -> bytes:
    """Return a serving state as canonical JSON, UTF-8."""
    bar, total = state.open_bar, state.volume_total
    record = {
        "format": SERVING_STATE,
        "open_bar": None if bar is None else {name: getattr(bar, name) for name in OpenBar.__slots__},
        "alerts": state.alerts,
        "last_signal": state.last_signal,
        "volume_total": None if total is None else asdict(total),
        "anchor": state.anchor,
        "closed": state.closed,
        "returns_before": state.returns_before,
    }
    return canonical_json(record).encode()


def load_serving_state(data: bytes) -> ServingState:
    """Return the serving state that ``dump_serving_state`` wrote.

    Raises:
        ValueError: if the bytes are of another format.
    """
    record: dict[str, Any] = json.loads(data)
    if record.get("format") != SERVING_STATE:
        raise ValueError(f"expected a snapshot of format {SERVING_STATE}, was {record.get('format')!r}: drain it first")
    bar, total, anchor = record["open_bar"], record["volume_total"], record["anchor"]
    return ServingState(
        open_bar=None if bar is None else OpenBar(**bar),
        alerts=tuple(record["alerts"]),
        last_signal=record["last_signal"],
        volume_total=None if total is None else VolumeTotal(**total),
        anchor=None if anchor is None else Anchor(*anchor),
        closed=record["closed"],
        returns_before=tuple((start, step) for start, step in record.get("returns_before", ())),
    )
