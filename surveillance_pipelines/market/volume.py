"""Conversion of running daily volume totals to tick sizes (``SQS_VOLUME_IS_CUMULATIVE``)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VolumeTotal:
    """The last running total of one symbol. ``event_time`` is in microseconds since the epoch."""

    session_id: int
    total: float
    event_time: int


@dataclass(frozen=True, slots=True)
class VolumeStep:
    """The effect of one running total: the volume traded since the previous one, and the new state."""

    size: float
    state: VolumeTotal


def size_of_total(state: VolumeTotal | None, total: float, *, session_id: int, event_time: int) -> VolumeStep:
    """Return the tick size implied by a running total, and the new state.

    - First total of a symbol: size 0, because the volume before it is unknown.
    - First total of a new session: the total.
    - Same session, larger or equal: the difference.
    - Same session, smaller, event time not before the previous one: the total, because the feed restarted its count.
    - Event time before the previous one: size 0 and an unchanged state, because a later total already includes the
      volume of this late tick.
    """
    if state is None:
        return VolumeStep(0.0, VolumeTotal(session_id, total, event_time))
    if event_time < state.event_time:
        return VolumeStep(0.0, state)
    latest = VolumeTotal(session_id, total, event_time)
    if session_id != state.session_id or total < state.total:
        return VolumeStep(total, latest)
    return VolumeStep(total - state.total, latest)
