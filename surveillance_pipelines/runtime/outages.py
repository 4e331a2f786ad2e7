"""Outages of the database and the queues: calls are repeated until the service answers again."""

import threading
from collections.abc import Callable
from typing import Final, Literal, TypeVar, get_args

from surveillance_pipelines.clock import Clock
from surveillance_pipelines.telemetry import get_logger

Service = Literal["database", "input queue", "output queue", "database or queue"]

REPEAT_SECONDS: Final = 0.25
"""Pause between attempts: short against the recovery that users notice, long against the cost of a refused call."""

_Result = TypeVar("_Result")

_LOG = get_logger("outages")


class Outages:
    """Repeats calls that fail because a service is unavailable, and reports each outage once. Thread-safe.

    Args:
        clock: source of time.
        is_outage: whether an exception means that the service is unavailable; others are raised at once.
        gives_up: whether to raise the failure instead of repeating the call, because the run must end.
        on_status: called with a sentence at the beginning and the end of an outage.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        is_outage: Callable[[Exception], bool],
        gives_up: Callable[[], bool] = lambda: False,
        on_status: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._clock: Final = clock
        self._is_outage: Final = is_outage
        self._gives_up: Final = gives_up
        self._on_status: Final = on_status
        self._lock: Final = threading.Lock()
        self._failing: Final[dict[Service, set[object]]] = {service: set() for service in get_args(Service)}

    def repeat(self, service: Service, call: Callable[[], _Result]) -> _Result:
        """Return the result of a call; repeat it while the service is unavailable."""
        token, failures = object(), 0
        while True:
            try:
                result = call()
            except Exception as error:
                failures += 1
                # The first failure may only show that a connection broke long ago, so one repetition is always made.
                if not self._is_outage(error) or (failures > 1 and self._gives_up()):
                    self._end(service, token)
                    raise
                self._begin(service, token, error)
                self._clock.sleep(REPEAT_SECONDS)
            else:
                self._end(service, token)
                return result

    @property
    def is_ongoing(self) -> bool:
        """Whether a call to any service is being repeated."""
        return any(self._failing.values())

    def wait(self, service: Service) -> None:
        """Wait while a call to the service is being repeated, or until the run must end."""
        while self._failing[service] and not self._gives_up():
            self._clock.sleep(REPEAT_SECONDS)

    def _begin(self, service: Service, token: object, error: Exception) -> None:
        with self._lock:
            began = not self._failing[service]
            self._failing[service].add(token)
        if began:
            _LOG.warning("outage began", service=service, error=str(error))
            self._on_status(f"the {service} is unavailable ({error}); the run repeats its calls until it answers again")

    def _end(self, service: Service, token: object) -> None:
        with self._lock:
            ended = token in self._failing[service]
            self._failing[service].discard(token)
            ended = ended and not self._failing[service]
        if ended:
            _LOG.info("outage ended", service=service)
            self._on_status(f"the {service} answers again")
