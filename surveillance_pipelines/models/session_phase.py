"""The phase of the trading session in which a bar lies; ordinary bars differ between phases."""

from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.kernel_calls import call

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

PHASE_BOUNDS: Final = np.array([OPEN_MINUTES, CLOSE_MINUTES, AROUND_THE_CLOCK_MINUTES])


def session_phases(progress: Floats, minutes_to_close: Floats) -> npt.NDArray[np.int64]:
    """Return positions in ``PHASES``, int64[n]; ``day`` where a feature is missing.

    Args:
        progress: ``session_progress``, float64[n]: elapsed minutes / length of the session.
        minutes_to_close: float64[n].
    """
    clock = np.column_stack([progress, minutes_to_close]).astype(np.float64, copy=False)
    found = np.empty(len(clock), dtype=np.int64)
    call("phases", np.ascontiguousarray(clock), PHASE_BOUNDS, found)
    return found
