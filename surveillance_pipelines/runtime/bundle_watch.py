"""Watch for newly promoted models, which are loaded and warmed while others serve, and swapped in between messages."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

import psycopg
from polars.exceptions import PanicException

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.engine.engine import Swap, needs_history
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.features.state import warm_up as warm_up_features
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import OUTAGE_ERRORS, Reconnector
from surveillance_pipelines.stores.lake import plain_text
from surveillance_pipelines.stores.lake_history import READ_ERRORS
from surveillance_pipelines.stores.predictors import champion_hash, load_predictor
from surveillance_pipelines.telemetry import get_logger

WATCH_SECONDS: Final = 2.0
"""Interval between checks for a promotion; a check is one indexed query."""
RETRY_CHECKS: Final = 15
"""Number of checks after which a refused champion is tried again: its folder may have been restored."""

REMEDY: Final = "activate another version (`surveillance models activate`), or restore this one"

_LOG = get_logger("bundles")


class HistoryUnreadableError(SurveillanceError, code=ErrorCode.UNAVAILABLE):
    """The bundle is sound, but the lake's bars that it needs cannot be read."""


class BundleWatch:
    """Checks for a promotion with ``poll``, in a separate thread; ``claim`` returns models that are ready.

    Args:
        link: connection used only by this watch, in autocommit mode.
        settings: the platform's settings.
        serving: the serving models, until others are claimed.
        history: returns the history of every served symbol for a window length and a feature view; called when a
            promotion changes the view or needs longer windows.
    """

    def __init__(
        self,
        link: Reconnector,
        settings: Settings,
        serving: Predictor,
        history: Callable[[int, str], Mapping[str, Seed]],
    ) -> None:
        self._link: Final = link
        self._settings: Final = settings
        self._history: Final = history
        self._lock: Final = threading.Lock()
        self._serving: Predictor = serving  # the last ones claimed
        self._newest: Predictor = serving
        self._refused: str | None = None
        self._checks_left = 0
        self._last_refusal: str | None = None
        self._refusal: str | None = None
        self._ready: Swap | None = None

    @property
    def newest(self) -> Predictor:
        """The newest models that are ready, claimed or not."""
        with self._lock:
            return self._newest

    def claim_newest(self) -> Predictor:
        """Return the newest models and mark them as claimed, so that a run that starts with them needs no swap."""
        with self._lock:
            self._ready = None
            self._serving = self._newest
            return self._newest

    def poll(self) -> None:
        """Load and warm the champion if it does not serve yet. If it is damaged, the present models keep serving.

        During an outage of the database, the next call tries again.
        """
        try:
            self._poll(self._link.get())
        except OUTAGE_ERRORS as error:
            _LOG.warning("promotions cannot be read", error=str(error))

    def _poll(self, connection: psycopg.Connection) -> None:
        promoted = champion_hash(connection, self._settings)
        if promoted is None or promoted == self._newest.bundle_hash:
            return
        if promoted == self._refused and self._checks_left > 0:
            self._checks_left -= 1
            return
        try:
            predictor = load_predictor(connection, self._settings)
            predictor.warm_up()
            self._make_ready(predictor)
        except OUTAGE_ERRORS:
            raise
        # Whatever is wrong with a bundle or the lake, the current models keep serving; polars panics on damaged files.
        except (Exception, PanicException) as error:  # noqa: BLE001
            self._refused, self._checks_left = promoted, RETRY_CHECKS
            advice = "" if isinstance(error, HistoryUnreadableError) else f"{REMEDY}; "
            self._refuse(
                f"bundle {promoted[:12]} is the champion and cannot serve ({error}): {self._newest.bundle_hash[:12]} "
                f"serves instead; {advice}it is tried again every {RETRY_CHECKS * WATCH_SECONDS:.0f} s"
            )

    def claim(self) -> Swap | None:
        """Return the newest models unless they have been claimed; the caller serves with them from then on."""
        with self._lock:
            ready, self._ready = self._ready, None
            if ready is not None:
                self._serving = ready.predictor
            return ready

    def claim_refusal(self) -> str | None:
        """Return why a promotion was refused, once."""
        with self._lock:
            refusal, self._refusal = self._refusal, None
            return refusal

    def _refuse(self, reason: str) -> None:
        """Report why the champion does not serve, once per reason."""
        if reason == self._last_refusal:
            return
        self._last_refusal = reason
        _LOG.error("the champion does not serve", reason=reason)
        with self._lock:
            self._refusal = reason

    def _make_ready(self, predictor: Predictor) -> None:
        """Offer models with the history that they need after the serving ones, even if others are claimed meanwhile."""
        with self._lock:
            serving = self._serving
        while True:
            history: Mapping[str, Seed] = {}
            if needs_history(serving, predictor):
                warm_up_features(VIEWS[predictor.feature_view])
                history = self._read_history(predictor)
            with self._lock:
                if self._serving is serving:
                    self._newest, self._ready = predictor, Swap(predictor, history)
                    return
                serving = self._serving

    def _read_history(self, predictor: Predictor) -> Mapping[str, Seed]:
        try:
            return self._history(predictor.window_length, predictor.feature_view)
        except READ_ERRORS as error:
            raise HistoryUnreadableError(
                f"expected to read the history that it needs from the lake: {plain_text(error)}",
                remedy="run `surveillance doctor`",
            ) from error
