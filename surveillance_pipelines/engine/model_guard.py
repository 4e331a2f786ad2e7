"""Circuit breakers and a prediction cache between the engine and the models. Instants come with the input.

A member that fails is out of service for a cooldown, and its fallback is used; output rows record this. Then one batch
tries it again. Equal windows have equal predictions, so a bar that a tick leaves unchanged is not scored again.
"""

from collections.abc import Collection
from typing import Final

from cachetools import TTLCache

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.engine.effects import BreakerEvent
from surveillance_pipelines.models.bundle_predictions import BundlePredictions, gather_rows
from surveillance_pipelines.models.contract import FeatureWindow, ModelFailedError
from surveillance_pipelines.models.ensemble import Ensemble, Predictor
from surveillance_pipelines.models.warmup import WarmupRules

CACHE_SIZE: Final = 1_000
CACHE_SECONDS: Final = 30.0


class CircuitBreakers:
    """One circuit breaker per member of a bundle.

    Args:
        cooldown: microseconds for which a failed member is out of service.
    """

    def __init__(self, cooldown: int) -> None:
        self._cooldown: Final = cooldown
        self._open_until: dict[str, int] = {}
        self._trying: set[str] = set()
        self._events: list[BreakerEvent] = []

    def excluded(self, now_us: int) -> frozenset[str]:
        """Return the members out of service; a member whose cooldown has passed is tried by the next batch."""
        for model, until in self._open_until.items():
            if now_us >= until and model not in self._trying:
                self._trying.add(model)
                self._events.append(BreakerEvent(model, "half_open", "its time is over: one batch tries it", now_us))
        return frozenset(self._open_until.keys() - self._trying)

    @property
    def is_trying(self) -> bool:
        """Whether the next batch tries a member that failed."""
        return bool(self._trying)

    def failed(self, model: str, reason: str, now_us: int) -> None:
        """Take a member out of service."""
        self._trying.discard(model)
        self._open_until[model] = now_us + self._cooldown
        self._events.append(BreakerEvent(model, "open", reason, now_us))

    def succeeded(self, now_us: int) -> None:
        """Return the members that were tried to service."""
        for model in sorted(self._trying):
            del self._open_until[model]
            self._events.append(BreakerEvent(model, "closed", "it answers again", now_us))
        self._trying.clear()

    def pop_events(self) -> list[BreakerEvent]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events


class ModelGuard:
    """Predicts with the members of one bundle that are in service.

    Args:
        predictor: a bundle's models or the warm-up rules.
        cooldown: microseconds for which a failed member is out of service.
    """

    def __init__(self, predictor: Predictor, cooldown: int) -> None:
        self.breakers: Final = CircuitBreakers(cooldown)
        self._predictor: Final = predictor
        self._now = 0
        self._cache: TTLCache[tuple[frozenset[str], bytes], tuple[BundlePredictions, int]] = TTLCache(
            CACHE_SIZE, CACHE_SECONDS * MICROSECONDS, timer=lambda: self._now
        )

    def predict(self, window: FeatureWindow, now_us: int) -> BundlePredictions:
        """Return the predictions for n bars; a failing member is excluded instead of raising an error."""
        self._now = max(self._now, now_us)
        excluded = self.breakers.excluded(now_us)
        while True:
            try:
                predictions = self._cached(window, excluded)
            except ModelFailedError as error:
                self.breakers.failed(error.model, str(error), now_us)
                excluded |= {error.model}
            else:
                self.breakers.succeeded(now_us)
                return predictions

    def _cached(self, window: FeatureWindow, excluded: frozenset[str]) -> BundlePredictions:
        if self.breakers.is_trying:  # a cached prediction does not test the member
            return without_members(self._predictor, excluded).predict(window)
        keys = [(excluded, row.tobytes()) for row in window]
        hits = [self._cache.get(key) for key in keys]
        missing = [i for i, hit in enumerate(hits) if hit is None]
        if missing:
            predictions = without_members(self._predictor, excluded).predict(window[missing])
            for row, i in enumerate(missing):
                hits[i] = self._cache[keys[i]] = (predictions, row)
            if len(missing) == len(keys):
                return predictions
        return gather_rows([hit for hit in hits if hit is not None])


def without_members(predictor: Predictor, excluded: Collection[str]) -> Predictor:
    """Return the predictor to use while some members of a bundle are out of service.

    If no detector is left and the warm-up rules read the bundle's feature view, the warm-up rules are used.

    Args:
        predictor: a bundle's models or the warm-up rules.
        excluded: names of the members out of service.
    """
    if not excluded or not isinstance(predictor, Ensemble):
        return predictor
    if predictor.detectors <= set(excluded) and predictor.feature_view == WarmupRules.feature_view:
        return WarmupRules(tuple(sorted(excluded)))
    return predictor.without(excluded)
