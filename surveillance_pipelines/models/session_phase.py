"""The phase of the trading session in which a bar lies; ordinary bars differ between phases."""

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PHASES: Final = ("pre", "open", "day", "close", "post", "around_the_clock")
"""Before the session, its first ``OPEN_MINUTES``, its middle, its last ``CLOSE_MINUTES``, after it; and every bar of a
session without a close."""

PHASE_COLUMNS: Final = ("session_progress", "minutes_to_close")
"""Features that determine the phase, in the order of the feature views."""

AROUND_THE_CLOCK_MINUTES: Final = 1_380.0
"""A session of at least 23 hours has no close that a trader could mark."""

OPEN_MINUTES: Final = 30.0
CLOSE_MINUTES: Final = 15.0

_PRE, _OPEN, _DAY, _CLOSE, _POST, _AROUND_THE_CLOCK = range(len(PHASES))


def session_lengths(progress: Floats, minutes_to_close: Floats) -> Floats:
    """Return the lengths of the sessions in minutes, float64[n]; not finite where a feature is missing.

    Args:
        progress: ``session_progress``, float64[n]: elapsed minutes / length of the session.
        minutes_to_close: float64[n].
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return minutes_to_close / (1.0 - progress)


def session_phases(progress: Floats, minutes_to_close: Floats) -> npt.NDArray[np.int64]:
    """Return positions in ``PHASES``, int64[n]; ``day`` where a feature is missing.

    Args:
        progress: ``session_progress``, float64[n]: elapsed minutes / length of the session.
        minutes_to_close: float64[n].
    """
    length = session_lengths(progress, minutes_to_close)
    with np.errstate(invalid="ignore"):
        elapsed = progress * length
    phase = np.full(len(progress), _DAY, dtype=np.int64)
    phase[elapsed < OPEN_MINUTES] = _OPEN
    phase[minutes_to_close <= CLOSE_MINUTES] = _CLOSE
    phase[progress < 0.0] = _PRE
    phase[progress >= 1.0] = _POST
    phase[length >= AROUND_THE_CLOCK_MINUTES] = _AROUND_THE_CLOCK
    return phase
