"""Loading of the scoring models: the champion, else an earlier one or the warm-up rules, or a bundle by its hash."""

from typing import Final

import psycopg

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.models.bundle import Bundle, load_bundle
from surveillance_pipelines.models.ensemble import Ensemble, Predictor
from surveillance_pipelines.models.warmup import WARMUP_BUNDLE, WarmupRules
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.bundle_folders import bundle_folder
from surveillance_pipelines.stores.deployments import champion, champions
from surveillance_pipelines.stores.model_store import StoredBundle, find_bundle, stored_bundle
from surveillance_pipelines.telemetry import get_logger

_SERVED_BEFORE: Final = """
    SELECT versions.version, versions.path, versions.bundle_hash FROM surveillance.model_versions AS versions
    JOIN (SELECT bundle_hash, max(id) AS newest FROM ops.served_bundles
          WHERE queue_url = %s OR %s::text IS NULL GROUP BY bundle_hash) AS served USING (bundle_hash)
    ORDER BY served.newest DESC, versions.trained_at DESC
"""

_LOG = get_logger("models")


class NoModelError(SurveillanceError, code=ErrorCode.NOT_READY):
    """There is no champion, or no bundle can be loaded, and the warm-up mode is disabled."""


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
        return Ensemble(load_stored(settings, found))
    if not settings.warmup_mode_enabled:
        raise NoModelError(
            "expected a champion, found none: train and promote a model, or set WARMUP_MODE_ENABLED=true"
        )
    return WarmupRules()


def load_serving_predictor(connection: psycopg.Connection, settings: Settings, queue_url: str) -> Predictor:
    """Return the models of the champion or, if it cannot be loaded, of the newest earlier bundle that can.

    A bad promotion or a damaged bundle must not stop serving. Earlier bundles are the former champions, then the others
    that served the queue; after them come the warm-up rules (``WARMUP_MODE_ENABLED``). The ``BundleWatch`` of the run
    reports the champion and the reason, and every row has the hash of the bundle that scored it.

    Raises:
        NoModelError: if there is no champion, or no bundle can be loaded, and ``WARMUP_MODE_ENABLED`` is false.
    """
    refused: list[str] = []
    for stored in serving_candidates(connection, settings, queue_url):
        try:
            predictor = Ensemble(load_stored(settings, stored))
        except Exception as error:  # noqa: BLE001 (any failure, as in BundleWatch; the reasons are logged or raised)
            refused.append(f"v{stored.version} {stored.bundle_hash[:12]}: {error}")
            continue
        if refused:
            _LOG.error("the champion cannot be loaded, an earlier bundle serves", bundle_hash=predictor.bundle_hash,
                       refused=refused)  # fmt: skip
        return predictor
    if not refused:
        return load_predictor(connection, settings)
    if not settings.warmup_mode_enabled:
        raise NoModelError(
            f"expected a bundle that can be loaded, got {'; '.join(refused)}: restore a folder from a backup, train "
            "again (`surveillance train`), or set WARMUP_MODE_ENABLED=true"
        )
    _LOG.error("no bundle can be loaded, the warm-up rules serve", refused=refused)
    return WarmupRules()


def serving_candidates(
    connection: psycopg.Connection, settings: Settings, queue_url: str | None = None
) -> list[StoredBundle]:
    """Return the bundles that may serve, best first: the champion, former champions, and others that served a queue.

    Args:
        connection: connection to PostgreSQL.
        settings: the platform's settings.
        queue_url: queue whose bundles are included; None for all queues.
    """
    if champion(connection, settings.tenant) is None:
        return []
    served = connection.execute(_SERVED_BEFORE, (queue_url, queue_url)).fetchall()
    found = [*champions(connection, settings.tenant), *(stored_bundle(*row) for row in served)]
    return list({(stored.bundle_hash, stored.path): stored for stored in found}.values())


def load_stored(settings: Settings, stored: StoredBundle) -> Bundle:
    """Read and verify a recorded bundle.

    Raises:
        BundleError: if the bundle is missing, damaged or differs from the recorded one.
    """
    folder = bundle_folder(settings.models_path, stored.path, stored.bundle_hash)
    return load_bundle(folder, expected_hash=stored.bundle_hash)


def load_pinned_predictor(connection: psycopg.Connection, settings: Settings, bundle_hash: str) -> Predictor:
    """Return the models of a registered bundle, deployed or not; ``"warmup"`` means the warm-up rules.

    Args:
        connection: connection to PostgreSQL.
        settings: the platform's settings.
        bundle_hash: hash of the bundle, or a prefix of it.

    Raises:
        ValueError: if the prefix is too short.
        LookupError: if no registered bundle matches, or several do.
        BundleError: if the bundle is damaged or differs from the registered one.
    """
    if bundle_hash == WARMUP_BUNDLE:
        return WarmupRules()
    return Ensemble(load_stored(settings, find_bundle(connection, bundle_hash)))
