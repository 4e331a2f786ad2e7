"""Newly promoted models: found, loaded and warmed beside those that serve, and swapped in between two messages."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

import psycopg

from surveillance_pipelines.engine.engine import Swap
from surveillance_pipelines.engine.symbol_state import Seed
from surveillance_pipelines.features.state import warm_up as warm_up_features
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.models.scoring import AnomalyScorer
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.scorers import load_scorer, promoted_hash
from surveillance_pipelines.telemetry import get_logger

WATCH_SECONDS: Final = 2.0
"""Interval between checks for a promotion; a check is one indexed query."""

_LOG = get_logger("bundles")


class BundleWatch:
    """Checks for a promotion with ``look``, in its own thread; ``claim`` returns models that are ready.

    Args:
        connection: of this watch alone, in autocommit mode.
        settings: the platform's knobs.
        serving: the scorer that serves.
        history: gives the history of every served symbol, asked when a promotion changes the feature view.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        settings: Settings,
        serving: AnomalyScorer,
        history: Callable[[], Mapping[str, Seed]],
    ) -> None:
        self._connection: Final = connection
        self._settings: Final = settings
        self._history: Final = history
        self._lock: Final = threading.Lock()
        self._newest = serving
        self._refused: str | None = None
        self._refusal: str | None = None
        self._ready: Swap | None = None

    @property
    def newest(self) -> AnomalyScorer:
        """The newest models that are ready, claimed or not."""
        with self._lock:
            return self._newest

    def begin(self) -> AnomalyScorer:
        """Return the newest models and count them as claimed: a run that begins to serve needs no swap to them."""
        with self._lock:
            self._ready = None
            return self._newest

    def look(self) -> None:
        """Load and warm what was promoted since the last check. A damaged bundle is refused; the old one stays."""
        promoted = promoted_hash(self._connection)
        if promoted is None or promoted in (self._newest.bundle_hash, self._refused):
            return
        try:
            scorer = load_scorer(self._connection, self._settings)
            scorer.warm_up()
            other_view = scorer.feature_view != self._newest.feature_view
            if other_view:
                warm_up_features(VIEWS[scorer.feature_view])
            swap = Swap(scorer, self._history() if other_view else {})
        except Exception as error:  # noqa: BLE001 (whatever is wrong with a bundle, the current one keeps serving)
            self._refused = promoted
            _LOG.error("promoted bundle refused, the previous one stays", bundle_hash=promoted, error=repr(error))
            with self._lock:
                self._refusal = (
                    f"bundle {promoted[:12]} was promoted and cannot serve ({error}): {self._newest.bundle_hash[:12]} "
                    "keeps serving; promote another bundle, or repair this one, and the next run tries it again"
                )
            return
        with self._lock:
            self._newest, self._ready = scorer, swap

    def claim(self) -> Swap | None:
        """Return the newest models if they have not been claimed yet."""
        with self._lock:
            ready, self._ready = self._ready, None
            return ready

    def claim_refusal(self) -> str | None:
        """Return why a promotion was refused, once."""
        with self._lock:
            refusal, self._refusal = self._refusal, None
            return refusal
