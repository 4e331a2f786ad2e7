"""The starting point of a symbol's live state."""

from dataclasses import dataclass, field
from typing import Literal

from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.engine.feature_history import BarColumns, BarInputs

LakeStatus = Literal["read", "absent", "unreadable"]
"""Whether the lake's bars could be read, do not exist, or could not be read."""


@dataclass(frozen=True, slots=True)
class Seed:
    """The starting point of a symbol's state: a snapshot and the bars since, or history.

    Attributes:
        features: ``FeatureState.snapshot`` bytes; None without a snapshot.
        serving: serving state bytes; None for a symbol that this queue has not served.
        bars: revision-0 bars after the snapshot (without a snapshot, the whole history), ascending.
        history: further bars of a history, ascending; ``bars`` replace those with the same start.
        revisable: the latest revisions of the last closed bars, ascending.
        seeded: history from which the features of the snapshot were last seeded; only for models that read windows.
        before: revision-0 bars after ``seeded`` and before the 512 of the snapshot, ascending; as far as windows need.
        lake: after ``unreadable``, the state asks for the bars again until they have been read.
    """

    features: bytes | None = None
    serving: bytes | None = None
    bars: tuple[Bar, ...] = ()
    revisable: tuple[Bar, ...] = ()
    seeded: BarInputs | None = None
    before: tuple[Bar, ...] = ()
    history: BarColumns | None = field(default=None, repr=False)
    lake: LakeStatus = "read"
