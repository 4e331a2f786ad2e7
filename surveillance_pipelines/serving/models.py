"""Which models a drain run serves with: the promoted bundle, or the warm-up rules until there is one."""

from pathlib import Path

import psycopg

from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.scoring import AnomalyScorer, Scorer
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.storage.model_store import active_bundle
from surveillance_pipelines.strategies.warmup import WarmupScorer


class NoModelError(RuntimeError):
    """Nothing may score: no bundle is promoted, and warm-up is switched off."""


def promoted_hash(connection: psycopg.Connection) -> str | None:
    """Return the hash of the promoted bundle, None while there is none."""
    active = active_bundle(connection)
    return None if active is None else active.bundle_hash


def load_scorer(connection: psycopg.Connection, settings: Settings) -> AnomalyScorer:
    """Return the scorer of the promoted bundle, or the warm-up rules.

    Raises:
        NoModelError: if there is no promoted bundle and ``WARMUP_MODE_ENABLED`` is false.
        BundleError: if the promoted bundle is damaged or not the one on record.
    """
    active = active_bundle(connection)
    if active is not None:
        _, path, bundle_hash = active
        return Scorer(load_bundle(Path(path), expected_hash=bundle_hash))
    if not settings.warmup_mode_enabled:
        raise NoModelError(
            "expected a promoted model bundle, found none: train and promote one, or set WARMUP_MODE_ENABLED=true"
        )
    return WarmupScorer()
