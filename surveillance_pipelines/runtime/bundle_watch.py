"""Newly promoted models: found, loaded and warmed beside those that serve, and swapped in between two messages."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

import psycopg

from surveillance_pipelines.engine.engine import Swap, needs_history
from surveillance_pipelines.engine.symbol_state import Seed
from surveillance_pipelines.features.state import warm_up as warm_up_features
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.predictors import champion_hash, load_predictor
from surveillance_pipelines.telemetry import get_logger

WATCH_SECONDS: Final = 2.0
"""Between two looks for a promotion: one indexed query."""

_LOG = get_logger("bundles")


class BundleWatch:
    """Looks for a promotion with ``look``, in a thread of its own; ``take`` hands over what is ready.

    Args:
        connection: of this watch alone, in autocommit mode.
        settings: the platform's knobs.
        serving: the models that serve.
        history: returns the history of every served symbol for windows of so many bars; called when a promotion
            changes the feature view or needs longer windows.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        settings: Settings,
        serving: Predictor,
        history: Callable[[int], Mapping[str, Seed]],
    ) -> None:
        self._connection: Final = connection
        self._settings: Final = settings
        self._history: Final = history
        self._lock: Final = threading.Lock()
        self._newest: Predictor = serving
        self._refused: str | None = None
        self._refusal: str | None = None
        self._ready: Swap | None = None

    @property
    def newest(self) -> Predictor:
        """The newest models that are ready, taken or not."""
        with self._lock:
            return self._newest

    def begin(self) -> Predictor:
        """Return the newest models, as taken: a run that begins to serve needs no swap to them."""
        with self._lock:
            self._ready = None
            return self._newest

    def look(self) -> None:
        """Load and warm what has been promoted since the last look. Damaged models are refused; the old ones go on."""
        promoted = champion_hash(self._connection, self._settings)
        if promoted is None or promoted in (self._newest.bundle_hash, self._refused):
            return
        try:
            predictor = load_predictor(self._connection, self._settings)
            predictor.warm_up()
            history: Mapping[str, Seed] = {}
            if needs_history(self._newest, predictor):
                warm_up_features(VIEWS[predictor.feature_view])
                history = self._history(predictor.window_length)
            swap = Swap(predictor, history)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with a bundle, the one that serves is better)
            self._refused = promoted
            _LOG.error("promoted bundle refused, the one before serves on", bundle_hash=promoted, error=repr(error))
            with self._lock:
                self._refusal = (
                    f"bundle {promoted[:12]} was promoted and cannot serve ({error}): {self._newest.bundle_hash[:12]} "
                    "serves on; promote another, or mend it, and the next run tries again"
                )
            return
        with self._lock:
            self._newest, self._ready = predictor, swap

    def take(self) -> Swap | None:
        """Return the newest models if they have not been taken yet."""
        with self._lock:
            ready, self._ready = self._ready, None
            return ready

    def claim_refusal(self) -> str | None:
        """Return why a promotion was refused, once."""
        with self._lock:
            refusal, self._refusal = self._refusal, None
            return refusal
