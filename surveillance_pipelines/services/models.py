"""Use cases of models: list versions, give one a role, retire it, and keep the registry's aliases in line.

``surveillance.deployments`` says which model serves. The aliases in MLflow follow it, after the commit: an alias that
cannot be set is reported, and the next call repairs it; an alias that somebody moves is reported and decides nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.lifecycle.deployments import (
    DEFAULT_STRATEGY,
    DEFAULT_TENANT,
    Change,
    Deployment,
    Role,
    Scope,
    champion,
)
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.deployments import (
    Lock,
    deploy_version,
    history,
    lock_aliases,
    lock_scope,
    open_deployments,
)
from surveillance_pipelines.stores.model_store import VersionRecord, find_version, list_versions
from surveillance_pipelines.telemetry import get_logger

ALIAS_ROLES: Final[tuple[Role, ...]] = ("champion", "challenger", "shadow", "canary")
"""Roles that have an alias in the registry. Of several challengers the newest has it."""

_LOG = get_logger("models")


class Registry(Protocol):
    """The part of the model registry that follows the deployments."""

    def aliases(self) -> dict[str, int]: ...

    def set_alias(self, alias: str, version: int) -> None: ...

    def delete_alias(self, alias: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelStores:
    """The stores that the use cases work on.

    Attributes:
        connect: gives a connection for a ``with`` block that is a transaction: it commits at its end.
        registry: MLflow.
        clock: for the instants on record.
    """

    connect: Callable[[], AbstractContextManager[psycopg.Connection]]
    registry: Registry
    clock: Clock = SYSTEM_CLOCK


@dataclass(frozen=True, slots=True)
class AliasDifference:
    """An alias in the registry that does not point where the deployments say.

    Attributes:
        alias: its name.
        expected: MLflow version of the deployed model; None if no alias should exist.
        found: MLflow version that it points at; None if it does not exist.
    """

    alias: str
    expected: int | None
    found: int | None

    def __str__(self) -> str:
        return f"alias {self.alias}: expected {_shown(self.expected)}, found {_shown(self.found)}"


@dataclass(frozen=True, slots=True)
class Deployed:
    """The result of a deployment.

    Attributes:
        version: the record of the version.
        change: the rows that were ended and opened; empty if the version had the role already.
        replaced: the champion that was retired; None if there was none.
        alias_problem: why the registry's aliases could not be updated; None if they follow the table.
    """

    version: VersionRecord
    change: Change
    replaced: Deployment | None = None
    alias_problem: str | None = None


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version and the role that it has in a scope; None if it was never deployed there."""

    version: VersionRecord
    deployment: Deployment | None


def scope_of(settings: Settings, strategy: str) -> Scope:
    """Return the scope of the configured tenant and a strategy."""
    return Scope(tenant=settings.tenant, strategy=strategy)


def activate(
    stores: ModelStores,
    version: int,
    *,
    decided_by: str,
    reasons: Sequence[str] = (),
    scope: Scope = Scope(),  # noqa: B008 (frozen)
    lock: Lock = lock_scope,
) -> Deployed:
    """Make a version the champion of a scope and retire the champion before it; a retired version is reinstated.

    Drain runs load the new champion within seconds. Activating the champion changes no row, and repairs the aliases.

    Args:
        stores: database and registry.
        version: number of the version.
        decided_by: the person or the run that decides.
        reasons: why.
        scope: where.
        lock: see ``stores.deployments.apply_transition``.

    Raises:
        UnknownVersionError: if the strategy has no such version.
        BundleError: if its bundle is missing or damaged; it would not serve.
        TransitionError: if the rules of deployments do not allow it.
    """
    return deploy(stores, version, role="champion", decided_by=decided_by, reasons=reasons, scope=scope, lock=lock)


def deploy(
    stores: ModelStores,
    version: int,
    *,
    role: Role,
    traffic_share: float | None = None,
    decided_by: str,
    reasons: Sequence[str] = (),
    scope: Scope = Scope(),  # noqa: B008 (frozen)
    lock: Lock = lock_scope,
) -> Deployed:
    """Give a version a role: champion, challenger, shadow or canary.

    Args:
        stores: database and registry.
        version: number of the version.
        role: the role.
        traffic_share: for a challenger or a canary, 0 to 1.
        decided_by: the person or the run that decides.
        reasons: why.
        scope: where.
        lock: see ``stores.deployments.apply_transition``.

    Raises:
        UnknownVersionError: if the strategy has no such version.
        BundleError: if its bundle is missing or damaged; it would not serve.
        TransitionError: if the rules of deployments do not allow it.
    """
    with stores.connect() as connection:
        record = find_version(connection, version, scope.strategy)
    view = load_bundle(Path(record.path), expected_hash=record.bundle_hash).view.name
    return _change(
        stores,
        scope,
        record,
        lambda connection: deploy_version(
            connection,
            version,
            role=role,
            traffic_share=traffic_share,
            scope=scope,
            feature_view=view,
            decided_by=decided_by,
            reasons=reasons,
            clock=stores.clock,
            lock=lock,
        ),
    )


def retire(
    stores: ModelStores,
    version: int,
    *,
    decided_by: str,
    reasons: Sequence[str] = (),
    scope: Scope = Scope(),  # noqa: B008 (frozen)
    leave_no_champion: bool = False,
) -> Deployed:
    """Take a version out of service.

    Args:
        stores: database and registry.
        version: number of the version.
        decided_by: the person or the run that decides.
        reasons: why.
        scope: where.
        leave_no_champion: retire it even if it is the champion: the champion of the tenant ``default`` answers then,
            or the warm-up rules.

    Raises:
        UnknownVersionError: if the strategy has no such version.
        TransitionError: if it is not deployed, or is the champion.
    """
    with stores.connect() as connection:
        record = find_version(connection, version, scope.strategy)
    return _change(
        stores,
        scope,
        record,
        lambda connection: deploy_version(
            connection,
            version,
            role="retired",
            scope=scope,
            decided_by=decided_by,
            reasons=reasons,
            leave_no_champion=leave_no_champion,
            clock=stores.clock,
        ),
    )


def versions(stores: ModelStores, scope: Scope = Scope()) -> list[ListedVersion]:  # noqa: B008 (frozen)
    """Return the versions of a strategy, newest first, with their roles in the scope."""
    with stores.connect() as connection:
        roles = {row.model: row for row in open_deployments(connection, scope)}
        return [
            ListedVersion(record, roles.get((record.bundle_hash, record.version)))
            for record in list_versions(connection, scope.strategy)
        ]


def deployment_history(stores: ModelStores, scope: Scope = Scope()) -> list[Deployment]:  # noqa: B008 (frozen)
    """Return every deployment of a scope, oldest first."""
    with stores.connect() as connection:
        return history(connection, scope)


def alias_differences(stores: ModelStores, scope: Scope = Scope()) -> list[AliasDifference]:  # noqa: B008 (frozen)
    """Return the aliases of the registry that do not point where the deployments of a scope say.

    A scope whose strategy has no version in MLflow has no alias, and MLflow is not imported.

    Raises:
        Exception: whatever MLflow raises if it does not answer, and ImportError if it is not installed.
    """
    with stores.connect() as connection:
        in_registry: dict[tuple[str, str | None], int] = {
            (record.bundle_hash, record.version): record.mlflow_version
            for record in list_versions(connection, scope.strategy)
            if record.mlflow_version is not None
        }
        present = open_deployments(connection, scope)
    if not in_registry:
        return []
    expected = _expected_aliases(present, in_registry, scope)
    found = stores.registry.aliases()
    names = [_alias_name(role, scope) for role in ALIAS_ROLES]
    return [
        AliasDifference(name, expected.get(name), found.get(name))
        for name in names
        if expected.get(name) != found.get(name)
    ]


def repair_aliases(stores: ModelStores, scope: Scope = Scope()) -> list[AliasDifference]:  # noqa: B008 (frozen)
    """Set the aliases of the registry as the deployments of a scope say, and return what was different.

    Repairs of one scope take turns. Each reads the table after its own deployment is committed, so the last one to run
    has seen every deployment.

    Raises:
        Exception: as ``alias_differences``.
    """
    with stores.connect() as connection:
        lock_aliases(connection, scope)
        differences = alias_differences(stores, scope)
        for difference in differences:
            if difference.expected is None:
                stores.registry.delete_alias(difference.alias)
            else:
                stores.registry.set_alias(difference.alias, difference.expected)
    return differences


def _change(
    stores: ModelStores, scope: Scope, record: VersionRecord, write: Callable[[psycopg.Connection], Change]
) -> Deployed:
    """Write in one transaction; bring the aliases in line after it, whether or not anything changed."""
    with stores.connect() as connection:
        change = write(connection)
    replaced = champion([row for row in change.ended if row.model != (record.bundle_hash, record.version)])
    return Deployed(record, change, replaced, _try_to_repair(stores, scope))


def _try_to_repair(stores: ModelStores, scope: Scope) -> str | None:
    try:
        repair_aliases(stores, scope)
    except Exception as error:  # noqa: BLE001 (the deployment is committed, and the registry decides nothing)
        _LOG.warning("the aliases of the model registry were not updated", scope=str(scope), error=repr(error))
        return f"{type(error).__name__}: {error}"
    return None


def _expected_aliases(
    present: Sequence[Deployment], in_registry: Mapping[tuple[str, str | None], int], scope: Scope
) -> dict[str, int]:
    """Return alias → MLflow version. ``present`` is in time order, so the newest deployment of a role has its alias."""
    return {
        _alias_name(row.role, scope): in_registry[row.model]
        for row in present
        if row.role in ALIAS_ROLES and row.model in in_registry
    }


def _alias_name(role: Role, scope: Scope) -> str:
    """Return ``champion`` in the default scope, elsewhere ``champion-<tenant>-<strategy>`` in MLflow's characters."""
    if (scope.tenant, scope.strategy) == (DEFAULT_TENANT, DEFAULT_STRATEGY):
        return role
    safe = (
        re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", part) for part in (scope.tenant, scope.strategy)
    )
    return "-".join([role, *safe])


def _shown(version: int | None) -> str:
    return "none" if version is None else f"MLflow version {version}"
