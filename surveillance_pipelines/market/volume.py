"""Running totals of the day turned into the size of each tick (``SQS_VOLUME_IS_CUMULATIVE``)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VolumeTotal:
    """The last running total of one symbol. ``event_time`` is in microseconds since the epoch."""

    session_id: int
    total: float
    event_time: int


@dataclass(frozen=True, slots=True)
class VolumeStep:
    """What one running total says: the volume traded since the last one, and the state to keep."""

    size: float
    state: VolumeTotal
    was_reset: bool = False


def size_of_total(state: VolumeTotal | None, total: float, *, session_id: int, event_time: int) -> VolumeStep:
    """Return the volume that a running total adds to what is known of its symbol.

    - First total ever: size 0, because how much of it traded before we listened is unknown.
    - First total of a new session: all of it.
    - Same session, larger or equal: the difference.
    - Same session, smaller, event time not before the last: the feed restarted its count; all of it, ``was_reset``.
    - Event time before the last: a late tick, whose volume a later total already holds; size 0, state unchanged.
    """
    if state is None:
        return VolumeStep(0.0, VolumeTotal(session_id, total, event_time))
    if event_time < state.event_time:
        return VolumeStep(0.0, state)
    latest = VolumeTotal(session_id, total, event_time)
    if session_id != state.session_id:
        return VolumeStep(total, latest)
    if total < state.total:
        return VolumeStep(total, latest, was_reset=True)
    return VolumeStep(total - state.total, latest)
