"""Between the engine and the models: circuit breakers and a cache of predictions. Instants come with the input.

A model that raises is left out for a while, and its substitute answers: rows say so. Then one batch tries it again.
Equal features have equal scores, so a bar that has not changed since the tick before need not be scored again.
"""

from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cachetools import TTLCache

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.engine.effects import BreakerEvent
from surveillance_pipelines.models.scoring import (
    AUTOENCODER,
    CLASSIFIER,
    AnomalyScorer,
    ModelFailedError,
    Scorer,
    Scores,
)
from surveillance_pipelines.models.warmup import WarmupScorer

CACHE_SIZE: Final = 1_000
CACHE_SECONDS: Final = 30.0

Floats = npt.NDArray[np.float64]

_SHARED: Final = frozenset({"threshold", "labels", "feature_names", "direction_ready", "models_out"})
_ROW_FIELDS: Final = tuple(field.name for field in fields(Scores) if field.name not in _SHARED)
"""What differs between rows of ``Scores``."""


class Breakers:
    """Which models are out of service, and until when.

    Args:
        cooldown: microseconds that a failed model is left alone.
    """

    def __init__(self, cooldown: int) -> None:
        self._cooldown: Final = cooldown
        self._open_until: dict[str, int] = {}
        self._trying: set[str] = set()
        self._events: list[BreakerEvent] = []

    def out(self, now_us: int) -> frozenset[str]:
        """Return the models that are not to be asked; one whose time is over is to be tried."""
        for model, until in self._open_until.items():
            if now_us >= until and model not in self._trying:
                self._trying.add(model)
                self._events.append(BreakerEvent(model, "half_open", "its time is over: one batch tries it", now_us))
        return frozenset(self._open_until.keys() - self._trying)

    @property
    def is_trying(self) -> bool:
        """Whether the next batch decides if a model comes back."""
        return bool(self._trying)

    def failed(self, model: str, reason: str, now_us: int) -> None:
        """Take a model out of service."""
        self._trying.discard(model)
        self._open_until[model] = now_us + self._cooldown
        self._events.append(BreakerEvent(model, "open", reason, now_us))

    def succeeded(self, now_us: int) -> None:
        """Let back in what was tried."""
        for model in sorted(self._trying):
            del self._open_until[model]
            self._events.append(BreakerEvent(model, "closed", "it answers again", now_us))
        self._trying.clear()

    def take_events(self) -> list[BreakerEvent]:
        """Return what has happened since the last call."""
        events, self._events = self._events, []
        return events


class ModelGuard:
    """Scores with one bundle's models, or what is left of them.

    Args:
        scorer: a bundle's models or the warm-up rules.
        cooldown: microseconds that a failed model is left alone.
    """

    def __init__(self, scorer: AnomalyScorer, cooldown: int) -> None:
        self.breakers: Final = Breakers(cooldown)
        self._scorer: Final = scorer
        self._now = 0
        self._cache: TTLCache[tuple[frozenset[str], bytes], tuple[Scores, int]] = TTLCache(
            CACHE_SIZE, CACHE_SECONDS * MICROSECONDS, timer=lambda: self._now
        )

    def score(self, features: Floats, now_us: int) -> Scores:
        """Score bars, float64[n, F], at an instant; never raises for a model that fails."""
        self._now = max(self._now, now_us)
        out = self.breakers.out(now_us)
        while True:
            try:
                scores = self._cached(features, out)
            except ModelFailedError as error:
                self.breakers.failed(error.model, str(error), now_us)
                out |= {error.model}
            else:
                self.breakers.succeeded(now_us)
                return scores

    def _cached(self, features: Floats, out: frozenset[str]) -> Scores:
        if self.breakers.is_trying:  # what is cached proves nothing about a model
            return without_models(self._scorer, out).score(features)
        keys = [(out, row.tobytes()) for row in features]
        found = [self._cache.get(key) for key in keys]
        missing = [i for i, hit in enumerate(found) if hit is None]
        if missing:
            scores = without_models(self._scorer, out).score(features[missing])
            for place, i in enumerate(missing):
                found[i] = self._cache[keys[i]] = (scores, place)
            if len(missing) == len(keys):
                return scores
        return gathered([hit for hit in found if hit is not None])


def without_models(scorer: AnomalyScorer, out: Collection[str]) -> AnomalyScorer:
    """Return what scores while some models of a bundle are out of service: the others, or rules if no detector is left.

    Args:
        scorer: a bundle's models or the warm-up rules.
        out: names of ``MODELS``.
    """
    if not out or not isinstance(scorer, Scorer):
        return scorer
    if {AUTOENCODER, CLASSIFIER} <= set(out) and scorer.feature_view == WarmupScorer.feature_view:
        return _Rules(tuple(sorted(out)))
    return scorer.leaving_out(out)


class _Rules(WarmupScorer):
    """The warm-up rules in place of models that have failed."""

    def __init__(self, models_out: tuple[str, ...]) -> None:
        self._models_out: Final = models_out

    def score(self, features: Floats) -> Scores:
        return replace(super().score(features), models_out=self._models_out)


def gathered(rows: Sequence[tuple[Scores, int]]) -> Scores:
    """Return single rows of several scores of one scorer as one.

    Args:
        rows: scores and the row of each that is meant; at least one.
    """
    first = rows[0][0]
    values: dict[str, Any] = {}
    for name in _ROW_FIELDS:
        picked = [getattr(scores, name)[i] for scores, i in rows]
        values[name] = picked if name == "kind" else np.array(picked)
    return replace(first, **values)
