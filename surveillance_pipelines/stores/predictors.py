"""Loading of the scoring models: the champion, else the warm-up rules, or a bundle by its hash."""

from pathlib import Path
from typing import Final

import psycopg

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble, Predictor
from surveillance_pipelines.models.warmup import WARMUP_BUNDLE, WarmupRules
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.deployments import champion
from surveillance_pipelines.stores.model_store import StoredBundle, find_bundle
from surveillance_pipelines.telemetry import get_logger

_SERVED_BEFORE: Final = """
    SELECT bundle_hash FROM ops.served_bundles WHERE queue_url = %s AND bundle_hash <> %s
    GROUP BY bundle_hash ORDER BY max(id) DESC
"""

_LOG = get_logger("models")


class NoModelError(SurveillanceError, code=ErrorCode.NOT_READY):
    """There is no champion, and the warm-up mode is disabled."""


def champion_hash(connection: psycopg.Connection, settings: Settings) -> str | None:
    """Return the bundle hash of the tenant's champion; None if there is none."""
    found = champion(connection, settings.tenant)
    return None if found is None else found.bundle_hash


def load_predictor(connection: psycopg.Connection, settings: Settings) -> Predictor:
    """Return the models of the tenant's champion, or the warm-up rules if there is none.

    Raises:
        NoModelError: if there is no champion and ``WARMUP_MODE_ENABLED`` is false.
        BundleError: if the champion's bundle is damaged or differs from the registered one.
    """
    found = champion(connection, settings.tenant)
    if found is not None:
        return _ensemble(found)
    if not settings.warmup_mode_enabled:
        raise NoModelError(
            "expected a champion, found none: train and promote a model, or set WARMUP_MODE_ENABLED=true"
        )
    return WarmupRules()


def load_serving_predictor(connection: psycopg.Connection, settings: Settings, queue_url: str) -> Predictor:
    """Return the models of the champion or, if its bundle cannot be loaded, of the bundle that served the queue before.

    A bad promotion must not stop serving. The ``BundleWatch`` of the run reports the bundle and the reason.

    Raises:
        NoModelError: if there is no champion and ``WARMUP_MODE_ENABLED`` is false.
        Exception: the failure to load the champion's bundle, if no other bundle served the queue before, or only the
            warm-up rules did and ``WARMUP_MODE_ENABLED`` is false.
    """
    try:
        return load_predictor(connection, settings)
    except NoModelError:
        raise
    except Exception as error:  # any failure, as in BundleWatch; re-raised if there is no other bundle
        rows = connection.execute(_SERVED_BEFORE, (queue_url, champion_hash(connection, settings))).fetchall()
        before = next((name for (name,) in rows if name != WARMUP_BUNDLE or settings.warmup_mode_enabled), None)
        if before is None:
            raise
        _LOG.error(
            "the champion cannot be loaded, the bundle before it goes on serving", bundle_hash=before, error=str(error)
        )
        return load_pinned_predictor(connection, before)


def load_pinned_predictor(connection: psycopg.Connection, bundle_hash: str) -> Predictor:
    """Return the models of a registered bundle, deployed or not; ``"warmup"`` means the warm-up rules.

    Args:
        connection: connection to PostgreSQL.
        bundle_hash: hash of the bundle, or a prefix of it.

    Raises:
        ValueError: if the prefix is too short.
        LookupError: if no registered bundle matches, or several do.
        BundleError: if the bundle is damaged or differs from the registered one.
    """
    return WarmupRules() if bundle_hash == WARMUP_BUNDLE else _ensemble(find_bundle(connection, bundle_hash))


def _ensemble(stored: StoredBundle) -> Ensemble:
    return Ensemble(load_bundle(Path(stored.path), expected_hash=stored.bundle_hash))
