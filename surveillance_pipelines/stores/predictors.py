"""Which models score: the promoted bundle, the warm-up rules until there is one, or a bundle that is asked for."""

from pathlib import Path
from typing import Final

import psycopg

from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble, Predictor
from surveillance_pipelines.models.warmup import WARMUP_BUNDLE, WarmupRules
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.model_store import StoredBundle, active_bundle, find_bundle
from surveillance_pipelines.telemetry import get_logger

_SERVED_BEFORE: Final = """
    SELECT bundle_hash FROM ops.served_bundles WHERE queue_url = %s AND bundle_hash <> %s
    GROUP BY bundle_hash ORDER BY max(id) DESC
"""

_LOG = get_logger("models")


class NoModelError(RuntimeError):
    """Nothing may score: no bundle is promoted, and warm-up is switched off."""


def promoted_hash(connection: psycopg.Connection) -> str | None:
    """Return the hash of the promoted bundle, None while there is none."""
    active = active_bundle(connection)
    return None if active is None else active.bundle_hash


def load_predictor(connection: psycopg.Connection, settings: Settings) -> Predictor:
    """Return the models of the promoted bundle, or the warm-up rules.

    Raises:
        NoModelError: if there is no promoted bundle and ``WARMUP_MODE_ENABLED`` is false.
        BundleError: if the promoted bundle is damaged or not the one on record.
    """
    active = active_bundle(connection)
    if active is not None:
        return _ensemble(active)
    if not settings.warmup_mode_enabled:
        raise NoModelError(
            "expected a promoted model bundle, found none: train and promote one, or set WARMUP_MODE_ENABLED=true"
        )
    return WarmupRules()


def load_serving_predictor(connection: psycopg.Connection, settings: Settings, queue_url: str) -> Predictor:
    """Return what ``load_predictor`` does, or the bundle that served the queue before if the promoted one is damaged.

    A bad promotion must not stop serving. The run's watch for promotions says which one it refuses, and why.

    Raises:
        NoModelError: as ``load_predictor``.
        Exception: what is wrong with the promoted bundle, if no other one served the queue, or only the warm-up rules
            did and ``WARMUP_MODE_ENABLED`` is false.
    """
    try:
        return load_predictor(connection, settings)
    except NoModelError:
        raise
    except Exception as error:  # whatever is wrong with it, as in the watch; raised again where nothing else may serve
        rows = connection.execute(_SERVED_BEFORE, (queue_url, promoted_hash(connection))).fetchall()
        before = next((name for (name,) in rows if name != WARMUP_BUNDLE or settings.warmup_mode_enabled), None)
        if before is None:
            raise
        _LOG.error("promoted bundle refused, the one before serves on", bundle_hash=before, error=str(error))
        return load_pinned_predictor(connection, before)


def load_pinned_predictor(connection: psycopg.Connection, bundle_hash: str) -> Predictor:
    """Return the models of the bundle with a hash, promoted or not; ``"warmup"`` names the warm-up rules.

    Args:
        connection: to PostgreSQL.
        bundle_hash: as rows carry it, or its beginning.

    Raises:
        ValueError: if it is too short to name a bundle.
        LookupError: if no bundle on record has it, or several have.
        BundleError: if the bundle is damaged or not the one on record.
    """
    return WarmupRules() if bundle_hash == WARMUP_BUNDLE else _ensemble(find_bundle(connection, bundle_hash))


def _ensemble(stored: StoredBundle) -> Ensemble:
    return Ensemble(load_bundle(Path(stored.path), expected_hash=stored.bundle_hash))
