"""Between the engine and the models: circuit breakers and a cache of predictions. Instants come with the input.

A member that fails is not asked for a while, and its substitute answers; output rows record it. Then one batch tries it
again. Equal windows have equal predictions, so a bar that has not changed since the tick before is not scored again.
"""

from collections.abc import Collection
from typing import Final

from cachetools import TTLCache

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.engine.effects import BreakerEvent
from surveillance_pipelines.models.bundle_predictions import BundlePredictions, gathered
from surveillance_pipelines.models.contract import FeatureWindow, ModelFailedError
from surveillance_pipelines.models.ensemble import Ensemble, Predictor
from surveillance_pipelines.models.warmup import WarmupRules

CACHE_SIZE: Final = 1_000
CACHE_SECONDS: Final = 30.0


class Breakers:
    """Members that are out of service, and until when.

    Args:
        cooldown: microseconds for which a failed member is not asked.
    """

    def __init__(self, cooldown: int) -> None:
        self._cooldown: Final = cooldown
        self._open_until: dict[str, int] = {}
        self._trying: set[str] = set()
        self._events: list[BreakerEvent] = []

    def excluded(self, now_us: int) -> frozenset[str]:
        """Return the members that are not to be asked; one whose cooldown has passed is tried by the next batch."""
        for model, until in self._open_until.items():
            if now_us >= until and model not in self._trying:
                self._trying.add(model)
                self._events.append(BreakerEvent(model, "half_open", "its time is over: one batch tries it", now_us))
        return frozenset(self._open_until.keys() - self._trying)

    @property
    def is_trying(self) -> bool:
        """Whether the next batch decides if a member returns to service."""
        return bool(self._trying)

    def failed(self, model: str, reason: str, now_us: int) -> None:
        """Take a member out of service."""
        self._trying.discard(model)
        self._open_until[model] = now_us + self._cooldown
        self._events.append(BreakerEvent(model, "open", reason, now_us))

    def succeeded(self, now_us: int) -> None:
        """Return to service what was tried."""
        for model in sorted(self._trying):
            del self._open_until[model]
            self._events.append(BreakerEvent(model, "closed", "it answers again", now_us))
        self._trying.clear()

    def claim_events(self) -> list[BreakerEvent]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events


class ModelGuard:
    """Predicts with one bundle's members, or with those that are left of them.

    Args:
        predictor: a bundle's models or the warm-up rules.
        cooldown: microseconds for which a failed member is not asked.
    """

    def __init__(self, predictor: Predictor, cooldown: int) -> None:
        self.breakers: Final = Breakers(cooldown)
        self._predictor: Final = predictor
        self._now = 0
        self._cache: TTLCache[tuple[frozenset[str], bytes], tuple[BundlePredictions, int]] = TTLCache(
            CACHE_SIZE, CACHE_SECONDS * MICROSECONDS, timer=lambda: self._now
        )

    def predict(self, window: FeatureWindow, now_us: int) -> BundlePredictions:
        """Return the predictions of n bars at an instant; a member that fails raises nothing here."""
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
        if self.breakers.is_trying:  # a cached prediction proves nothing about a member
            return without_members(self._predictor, excluded).predict(window)
        keys = [(excluded, row.tobytes()) for row in window]
        found = [self._cache.get(key) for key in keys]
        missing = [i for i, hit in enumerate(found) if hit is None]
        if missing:
            predictions = without_members(self._predictor, excluded).predict(window[missing])
            for place, i in enumerate(missing):
                found[i] = self._cache[keys[i]] = (predictions, place)
            if len(missing) == len(keys):
                return predictions
        return gathered([hit for hit in found if hit is not None])


def without_members(predictor: Predictor, excluded: Collection[str]) -> Predictor:
    """Return what predicts while some members of a bundle are out of service.

    The warm-up rules stand in where no detector is left, if they read the bundle's feature view.

    Args:
        predictor: a bundle's models or the warm-up rules.
        excluded: names of members.
    """
    if not excluded or not isinstance(predictor, Ensemble):
        return predictor
    if predictor.detectors <= set(excluded) and predictor.feature_view == WarmupRules.feature_view:
        return WarmupRules(tuple(sorted(excluded)))
    return predictor.without(excluded)
