"""Snapshots for restarts and replays: a symbol's serving state as versioned JSON, and histories of bars.

Floats are written by ``repr`` and read back bit for bit. The feature state has a separate snapshot
(``FeatureState.snapshot``), and closed bars are rows of ``ops.live_bars``.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.engine.bar_builder import OpenBar
from surveillance_pipelines.engine.event_clock import Anchor
from surveillance_pipelines.engine.incidents import OpenIncident, dump_incident, load_incident
from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.market.volume import VolumeTotal

SERVING_STATE: Final = "serving_v1"
"""Format, and value of ``ops.feature_state.feature_view`` in its rows."""

HISTORY: Final = "lane_history_v1"
"""Format of ``ops.lane_seeds.history``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingState:
    """The serving state of one symbol between two messages.

    Attributes:
        open_bar: the bar in progress.
        alerts: kinds of the alerts open on it, in order, for the first tenant and strategy.
        last_signal: start of the bar of the last signal, for the first tenant and strategy.
        others: (tenant, strategy, alerts, last signal) of further tenants and strategies.
        volume_total: the last running total, if the feed sends running totals.
        anchor: the symbol's newest scored message.
        closed: number of bars closed since the features were last seeded from history.
        returns_before: ``(bar start, log return)`` of bars closed before that, which peers may still need.
        lacks_history: whether the symbol began without the lake's bars, because the lake could not be read.
        incidents: (tenant, strategy) → open incident; empty names for the first tenant and strategy.
    """

    open_bar: OpenBar | None = None
    alerts: tuple[str, ...] = ()
    last_signal: int | None = None
    others: tuple[tuple[str, str, tuple[str, ...], int | None], ...] = ()
    volume_total: VolumeTotal | None = None
    anchor: Anchor | None = None
    closed: int = 0
    returns_before: tuple[tuple[int, float], ...] = ()
    lacks_history: bool = False
    incidents: Mapping[tuple[str, str], OpenIncident] = field(default_factory=dict)


def dump_serving_state(state: ServingState) -> bytes:
    """Return a serving state as canonical JSON, UTF-8."""
    bar, total = state.open_bar, state.volume_total
    record: dict[str, Any] = {
        "format": SERVING_STATE,
        "open_bar": None if bar is None else {name: getattr(bar, name) for name in OpenBar.__slots__},
        "alerts": state.alerts,
        "last_signal": state.last_signal,
        "volume_total": None if total is None else asdict(total),
        "anchor": state.anchor,
        "closed": state.closed,
        "returns_before": state.returns_before,
    }
    if state.others:  # older releases read snapshots without these keys
        record["others"] = state.others
    if state.lacks_history:
        record["lacks_history"] = True
    if state.incidents:
        record["incidents"] = [[*key, dump_incident(each)] for key, each in sorted(state.incidents.items())]
    return canonical_json(record).encode()


def load_serving_state(data: bytes) -> ServingState:
    """Return the serving state written by ``dump_serving_state``.

    Raises:
        ValueError: if the bytes are of another format.
    """
    record: dict[str, Any] = json.loads(data)
    if record.get("format") != SERVING_STATE:
        raise ValueError(
            f"expected a snapshot {SERVING_STATE}, got format {record.get('format')!r}: use the release that wrote it"
        )
    bar, total, anchor = record["open_bar"], record["volume_total"], record["anchor"]
    return ServingState(
        open_bar=None if bar is None else OpenBar(**bar),
        alerts=tuple(record["alerts"]),
        last_signal=record["last_signal"],
        others=tuple(
            (tenant, strategy, tuple(alerts), last) for tenant, strategy, alerts, last in record.get("others", ())
        ),
        volume_total=None if total is None else VolumeTotal(**total),
        anchor=None if anchor is None else Anchor(*anchor),
        closed=record["closed"],
        returns_before=tuple((start, step) for start, step in record.get("returns_before", ())),
        lacks_history=record.get("lacks_history", False),
        incidents={(tenant, strategy): load_incident(each) for tenant, strategy, each in record.get("incidents", ())},
    )


def dump_history(starts: npt.NDArray[np.int64], inputs: npt.NDArray[np.float64], columns: Sequence[str]) -> bytes:
    """Return bars as compressed bytes, in a format that does not depend on the kernel's code.

    Args:
        starts: int64[n] bar starts, microseconds since the epoch, ascending.
        inputs: f8[n, len(columns)] kernel inputs.
        columns: names of the inputs.
    """
    header = canonical_json({"format": HISTORY, "bars": len(starts), "columns": list(columns)}).encode()
    rows = np.ascontiguousarray(inputs, dtype="<f8").tobytes()
    body = b"".join((header, b"\n", np.ascontiguousarray(starts, dtype="<i8").tobytes(), rows))
    return zlib.compress(body, 1)  # a third of the size in a millisecond; higher levels take five times as long


class History:
    """Bars that are compressed by the first call of ``packed``: in the thread that writes them, not in the engine's.

    Args: as of ``dump_history``.
    """

    def __init__(self, starts: npt.NDArray[np.int64], inputs: npt.NDArray[np.float64], columns: Sequence[str]) -> None:
        self._bars: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], Sequence[str]] | None
        self._bars = starts, inputs, columns
        self._packed = b""

    def packed(self) -> bytes:
        """Return the bars in the format of ``dump_history``."""
        if self._bars is not None:
            self._packed, self._bars = dump_history(*self._bars), None
        return self._packed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.packed() == other.packed()

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def load_history(data: bytes, columns: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the starts, int64[n], and inputs, f8[n, len(columns)], written by ``dump_history``.

    Raises:
        ValueError: if the bytes are damaged, of another format, or of other columns.
    """
    try:
        header, _, body = zlib.decompress(data).partition(b"\n")
        record: dict[str, Any] = json.loads(header)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"expected a history of bars, got damaged bytes: {error}") from error
    if (record.get("format"), record.get("columns")) != (HISTORY, list(columns)):
        raise ValueError(f"expected a history {HISTORY} of the columns {list(columns)}, got {record!r:.300}")
    bars, width = record["bars"], len(columns)
    if len(body) != 8 * bars * (1 + width):
        raise ValueError(f"expected {8 * bars * (1 + width)} bytes of history, got {len(body)}: it is damaged")
    starts = np.frombuffer(body, "<i8", bars)
    return starts, np.frombuffer(body, "<f8", bars * width, 8 * bars).reshape(bars, width)
