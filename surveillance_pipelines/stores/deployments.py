"""Deployments in PostgreSQL: current and earlier roles of models, and the transaction that changes them."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.feature_tables import DEFAULT_VIEW
from surveillance_pipelines.contracts.outputs import DEFAULT_STRATEGY, DEFAULT_TENANT
from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.lifecycle.deployments import (
    Change,
    Deployment,
    Role,
    Scope,
    Transition,
    plan,
)
from surveillance_pipelines.lifecycle.deployments import champion as champion_of
from surveillance_pipelines.stores.model_store import StoredBundle, find_version, stored_bundle

_HISTORY: Final = """
    SELECT model_id, version, role, traffic_share, since, until, decided_by, reasons FROM surveillance.deployments
    WHERE tenant = %s AND strategy = %s AND kind = %s ORDER BY since, id
"""
_OPEN_ROWS: Final = """
    SELECT model_id, version, role, traffic_share, since, until, decided_by, reasons FROM surveillance.deployments
    WHERE tenant = %s AND strategy = %s AND kind = %s AND until IS NULL ORDER BY since, id
"""
_END: Final = """
    UPDATE surveillance.deployments SET until = %s
    WHERE tenant = %s AND strategy = %s AND kind = %s AND model_id = %s AND version IS NOT DISTINCT FROM %s
        AND until IS NULL
    RETURNING model_version_id, path, feature_view
"""
_OPEN: Final = """
    INSERT INTO surveillance.deployments
        (tenant, strategy, kind, model_id, version, model_version_id, path, feature_view, role, traffic_share, since,
         decided_by, reasons)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_CHAMPIONS: Final = """
    SELECT deployed.version, coalesce(known.path, deployed.path), deployed.model_id
    FROM surveillance.deployments AS deployed
    LEFT JOIN surveillance.model_versions AS known ON known.id = deployed.model_version_id
    WHERE deployed.tenant = ANY(%s) AND deployed.strategy = %s AND deployed.kind = 'bundle'
        AND deployed.role = 'champion' AND coalesce(known.path, deployed.path) IS NOT NULL
    ORDER BY deployed.tenant = %s DESC, deployed.since DESC, deployed.id DESC
"""
_OF_CHAMPION: Final = """
    FROM surveillance.deployments AS deployed
    LEFT JOIN surveillance.model_versions AS known ON known.id = deployed.model_version_id
    WHERE deployed.tenant = ANY(%s) AND deployed.strategy = %s AND deployed.kind = 'bundle'
        AND deployed.role = 'champion' AND deployed.until IS NULL
    ORDER BY deployed.tenant = %s DESC LIMIT 1
"""
_CHAMPION: Final = "SELECT deployed.version, coalesce(known.path, deployed.path), deployed.model_id" + _OF_CHAMPION
_CHAMPION_VIEW: Final = "SELECT deployed.feature_view" + _OF_CHAMPION


class ConcurrentTransitionError(SurveillanceError, code=ErrorCode.CONFLICT):
    """Another transition changed the scope concurrently; nothing was written."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Location of a deployed model, stored with its deployments because the record of a version may be deleted.

    Attributes:
        model_version_id: id of the row in ``surveillance.model_versions``.
        path: folder of the model.
        feature_view: feature view of the model.
    """

    model_version_id: uuid.UUID | None = None
    path: str | None = None
    feature_view: str | None = None


Lock = Callable[[psycopg.Connection[Any], Scope], None]


def champion(
    connection: psycopg.Connection[Any], tenant: str = DEFAULT_TENANT, strategy: str = DEFAULT_STRATEGY
) -> StoredBundle | None:
    """Return the champion of a tenant and strategy, else that of the tenant ``default``; None if there is none."""
    tenants = [tenant, DEFAULT_TENANT]
    row = connection.execute(_CHAMPION, (tenants, strategy, tenant)).fetchone()
    return None if row is None else stored_bundle(*row)


def champions(
    connection: psycopg.Connection[Any], tenant: str = DEFAULT_TENANT, strategy: str = DEFAULT_STRATEGY
) -> list[StoredBundle]:
    """Return the present and former champions of a tenant, then those of the tenant ``default``, newest first."""
    rows = connection.execute(_CHAMPIONS, ([tenant, DEFAULT_TENANT], strategy, tenant)).fetchall()
    return [stored_bundle(*row) for row in rows]


def serving_view(
    connection: psycopg.Connection[Any], tenant: str = DEFAULT_TENANT, strategy: str = DEFAULT_STRATEGY
) -> str:
    """Return the feature view of the ``champion``; the default view if there is none, or its view is not recorded."""
    row = connection.execute(_CHAMPION_VIEW, ([tenant, DEFAULT_TENANT], strategy, tenant)).fetchone()
    return DEFAULT_VIEW if row is None or row[0] is None else row[0]


def champion_deployment(
    connection: psycopg.Connection[Any], tenant: str = DEFAULT_TENANT, strategy: str = DEFAULT_STRATEGY
) -> Deployment | None:
    """Return the deployment of the ``champion`` of a tenant and strategy."""
    scopes = (Scope(tenant=name, strategy=strategy) for name in dict.fromkeys((tenant, DEFAULT_TENANT)))
    found = (champion_of(open_deployments(connection, scope)) for scope in scopes)
    return next((row for row in found if row is not None), None)


def deployed_scopes(connection: psycopg.Connection[Any]) -> list[Scope]:
    """Return the scopes of all deployments, also of those that have ended."""
    query = "SELECT DISTINCT tenant, strategy, kind FROM surveillance.deployments ORDER BY tenant, strategy, kind"
    return [
        Scope(tenant=tenant, strategy=strategy, kind=kind)
        for tenant, strategy, kind in connection.execute(query).fetchall()
    ]


def open_deployments(connection: psycopg.Connection[Any], scope: Scope) -> list[Deployment]:
    """Return the current deployments of a scope, oldest first."""
    return _read(connection, _OPEN_ROWS, scope)


def history(connection: psycopg.Connection[Any], scope: Scope) -> list[Deployment]:
    """Return every deployment of a scope, oldest first."""
    return _read(connection, _HISTORY, scope)


def deployed_paths(connection: psycopg.Connection[Any], bundle_hash: str) -> list[Path]:
    """Return the registered and deployed folders of a bundle, newest first; empty for an unknown hash."""
    rows = connection.execute(
        "SELECT path FROM surveillance.model_versions WHERE bundle_hash = %(hash)s"
        " UNION SELECT path FROM surveillance.deployments WHERE model_id = %(hash)s AND path IS NOT NULL"
        " ORDER BY path DESC",
        {"hash": bundle_hash},
    )
    return [Path(path) for (path,) in rows]


def lock_scope(connection: psycopg.Connection[Any], scope: Scope) -> None:
    """Lock a scope against other transitions until the transaction ends."""
    _lock(connection, "deployments", scope)


def lock_aliases(connection: psycopg.Connection[Any], scope: Scope) -> None:
    """Lock the registry aliases of a scope until the transaction ends. Transitions do not use this lock."""
    _lock(connection, "aliases", scope)


def apply_transition(
    connection: psycopg.Connection[Any],
    requested: Transition,
    artifact: Artifact,
    *,
    clock: Clock = SYSTEM_CLOCK,
    lock: Lock = lock_scope,
) -> Change:
    """Apply a transition atomically and return the changed rows.

    A lock serialises the transitions of a scope. The clock is read while the lock is held, so their instants are
    ordered.

    Args:
        connection: connection with the isolation level READ COMMITTED, so that changes committed before the lock was
            acquired are visible.
        requested: the transition.
        artifact: location of the model.
        clock: clock for the instant of the transition.
        lock: serialises transitions of a scope.

    Raises:
        TransitionError: if the rules of ``lifecycle.deployments`` do not allow it.
        ConcurrentTransitionError: if the scope changed between read and write; the lock prevents this.
    """
    scope = requested.scope
    try:
        with connection.transaction():
            lock(connection, scope)
            change = plan(open_deployments(connection, scope), requested, now(clock))
            artifacts = {(requested.model_id, requested.version): artifact}
            for row in change.ended:
                artifacts[row.model] = _merged(artifacts.get(row.model), _end(connection, row))
            for row in change.opened:
                _open(connection, row, artifacts[row.model])
    except psycopg.errors.UniqueViolation as error:
        raise ConcurrentTransitionError(_conflict_message(scope)) from error
    return change


def deploy_version(
    connection: psycopg.Connection[Any],
    version: int,
    *,
    role: Role = "champion",
    traffic_share: float | None = None,
    scope: Scope = Scope(),  # noqa: B008 (frozen)
    feature_view: str | None = None,
    decided_by: str,
    reasons: Sequence[str] = (),
    leave_no_champion: bool = False,
    clock: Clock = SYSTEM_CLOCK,
    lock: Lock = lock_scope,
) -> Change:
    """Give a registered version a role; see ``apply_transition``.

    Raises:
        UnknownVersionError: if the strategy has no such version.
    """
    record = find_version(connection, version, scope.strategy)
    requested = Transition(
        model_id=record.bundle_hash,
        version=record.version,
        scope=scope,
        role=role,
        traffic_share=traffic_share,
        decided_by=decided_by,
        reasons=tuple(reasons),
        leave_no_champion=leave_no_champion,
    )
    return apply_transition(
        connection, requested, Artifact(record.id, str(record.path), feature_view), clock=clock, lock=lock
    )


def _lock(connection: psycopg.Connection[Any], purpose: str, scope: Scope) -> None:
    key = canonical_json([purpose, *_scope_values(scope)])
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (key,))


def _read(connection: psycopg.Connection[Any], query: LiteralString, scope: Scope) -> list[Deployment]:
    rows = connection.execute(query, (scope.tenant, scope.strategy, scope.kind)).fetchall()
    return [
        Deployment(
            model_id=model_id,
            version=version,
            scope=scope,
            role=role,
            traffic_share=share,
            since=since,
            until=until,
            decided_by=decided_by,
            reasons=tuple(reasons),
        )
        for model_id, version, role, share, since, until, decided_by, reasons in rows
    ]


def _end(connection: psycopg.Connection[Any], row: Deployment) -> Artifact:
    """End an open row and return the location of its model."""
    ended = connection.execute(_END, (row.until, *_scope_values(row.scope), row.model_id, row.version)).fetchone()
    if ended is None:
        raise ConcurrentTransitionError(_conflict_message(row.scope))
    return Artifact(*ended)


def _open(connection: psycopg.Connection[Any], row: Deployment, artifact: Artifact) -> None:
    connection.execute(
        _OPEN,
        (
            *_scope_values(row.scope), row.model_id, row.version, artifact.model_version_id, artifact.path,
            artifact.feature_view, row.role, row.traffic_share, row.since, row.decided_by, list(row.reasons),
        ),
    )  # fmt: skip


def _merged(given: Artifact | None, earlier: Artifact) -> Artifact:
    """Return the location from the request, completed by the model's earlier row."""
    if given is None:
        return earlier
    return Artifact(
        given.model_version_id or earlier.model_version_id,
        given.path or earlier.path,
        given.feature_view or earlier.feature_view,
    )


def _scope_values(scope: Scope) -> tuple[str, str, str]:
    return scope.tenant, scope.strategy, scope.kind


def _conflict_message(scope: Scope) -> str:
    return f"expected no concurrent transition of {scope}, found one: nothing was changed, try again"
