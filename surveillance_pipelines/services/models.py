"""Use cases of models: list versions, deploy and retire them, and synchronise the aliases in MLflow.

``surveillance.deployments`` determines which model serves. The aliases in MLflow are updated after the commit. An alias
that could not be updated, or was moved manually, is reported and has no effect on serving; the next call repairs it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import psycopg

from surveillance_pipelines.clock import Clock
from surveillance_pipelines.contracts.outputs import DEFAULT_STRATEGY, DEFAULT_TENANT
from surveillance_pipelines.lifecycle.deployments import (
    Change,
    Deployment,
    Role,
    Scope,
    champion,
)
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import warmed_ensemble
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.bundle_folders import bundle_folder
from surveillance_pipelines.stores.deployments import (
    Lock,
    deploy_version,
    deployed_scopes,
    history,
    lock_aliases,
    lock_scope,
    open_deployments,
)
from surveillance_pipelines.stores.model_store import VersionRecord, find_version, list_versions
from surveillance_pipelines.telemetry import get_logger

ALIAS_ROLES: Final[tuple[Role, ...]] = ("champion", "challenger", "shadow", "canary")
"""Roles with an alias in the registry. The alias of a role points to its newest deployment."""

_LOG = get_logger("models")


class Registry(Protocol):
    """The aliases of the model registry."""

    def aliases(self) -> dict[str, int]: ...

    def set_alias(self, alias: str, version: int) -> None: ...

    def delete_alias(self, alias: str) -> None: ...


class DeploymentStores(Protocol):
    """The part of ``Stores`` that these use cases need."""

    @property
    def clock(self) -> Clock: ...

    @property
    def models_path(self) -> Path: ...

    @property
    def registry(self) -> Registry: ...

    def connect(self) -> AbstractContextManager[psycopg.Connection]: ...


@dataclass(frozen=True, slots=True)
class AliasDifference:
    """An alias in the registry that differs from the deployments.

    Attributes:
        alias: name of the alias.
        expected: MLflow version of the deployed model; None if the alias should not exist.
        found: MLflow version of the alias; None if it does not exist.
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
        version: record of the version.
        change: ended and opened rows; empty if the version had the role already.
        replaced: the retired champion; None if there was none.
        alias_problem: reason why the aliases of the registry could not be updated; None if they match the table.
    """

    version: VersionRecord
    change: Change
    replaced: Deployment | None = None
    alias_problem: str | None = None


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version and its deployment in a scope; None if it was never deployed there."""

    version: VersionRecord
    deployment: Deployment | None


def scope_of(settings: Settings, strategy: str) -> Scope:
    """Return the scope of the configured tenant and a strategy."""
    return Scope(tenant=settings.tenant, strategy=strategy)


def activate(
    stores: DeploymentStores,
    version: int,
    *,
    decided_by: str,
    reasons: Sequence[str] = (),
    scope: Scope = Scope(),  # noqa: B008 (frozen)
    lock: Lock = lock_scope,
) -> Deployed:
    """Make a version, which may be retired, the champion of a scope and retire the previous champion.

    Drain runs load the new champion within seconds. Activating the champion again only repairs the aliases.

    Args:
        stores: database and registry.
        version: number of the version.
        decided_by: person or run that decides.
        reasons: reasons, stored with the deployment.
        scope: tenant and strategy.
        lock: see ``stores.deployments.apply_transition``.

    Raises:
        UnknownVersionError: if the strategy has no such version.
        BundleError: if the bundle is missing or damaged, or cannot serve.
        TransitionError: if the rules of deployments do not allow it.
    """
    return deploy(stores, version, role="champion", decided_by=decided_by, reasons=reasons, scope=scope, lock=lock)


def deploy(
    stores: DeploymentStores,
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
        traffic_share: traffic share of a challenger or canary, 0 to 1.
        decided_by: person or run that decides.
        reasons: reasons, stored with the deployment.
        scope: tenant and strategy.
        lock: see ``stores.deployments.apply_transition``.

    Raises:
        UnknownVersionError: if the strategy has no such version.
        BundleError: if the bundle is missing or damaged, or cannot serve.
        TransitionError: if the rules of deployments do not allow it.
    """
    with stores.connect() as connection:
        record = find_version(connection, version, scope.strategy)
    folder = bundle_folder(stores.models_path, record.path, record.bundle_hash)
    bundle = load_bundle(folder, expected_hash=record.bundle_hash)
    view = warmed_ensemble(bundle).feature_view  # a bundle that cannot serve is refused here, not by drain runs
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
    stores: DeploymentStores,
    version: int,
    *,
    decided_by: str,
    reasons: Sequence[str] = (),
    scope: Scope = Scope(),  # noqa: B008 (frozen)
    leave_no_champion: bool = False,
) -> Deployed:
    """Retire a version.

    Args:
        stores: database and registry.
        version: number of the version.
        decided_by: person or run that decides.
        reasons: reasons, stored with the deployment.
        scope: tenant and strategy.
        leave_no_champion: allow retiring the champion. Then the champion of the tenant ``default`` serves; running
            drain runs load it within seconds. If there is none, runs that start later use the warm-up rules, and
            running drain runs keep the retired bundle until they end.

    Raises:
        UnknownVersionError: if the strategy has no such version.
        TransitionError: if the version is not deployed, or is the champion and ``leave_no_champion`` is false.
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


def versions(stores: DeploymentStores, scope: Scope = Scope()) -> list[ListedVersion]:  # noqa: B008 (frozen)
    """Return the versions of a strategy, newest first, with their roles in the scope."""
    with stores.connect() as connection:
        roles = {row.model: row for row in open_deployments(connection, scope)}
        return [
            ListedVersion(record, roles.get((record.bundle_hash, record.version)))
            for record in list_versions(connection, scope.strategy)
        ]


def deployment_history(stores: DeploymentStores, scope: Scope = Scope()) -> list[Deployment]:  # noqa: B008 (frozen)
    """Return every deployment of a scope, oldest first."""
    with stores.connect() as connection:
        return history(connection, scope)


def alias_differences(stores: DeploymentStores, scope: Scope = Scope()) -> list[AliasDifference]:  # noqa: B008 (frozen)
    """Return the aliases of the registry that differ from the deployments of a scope.

    MLflow is not imported if the strategy has no version in it.

    Raises:
        ImportError: if MLflow is not installed.
        Exception: any exception of MLflow if it does not answer.
    """
    return _differences(stores, stores.registry, scope)


def all_alias_differences(stores: DeploymentStores) -> list[AliasDifference]:
    """Return the aliases of the registry that differ from the deployments of any tenant and strategy.

    Raises:
        Exception: as ``alias_differences``.
    """
    with stores.connect() as connection:
        scopes = dict.fromkeys([Scope(), *deployed_scopes(connection)])
    return [difference for scope in scopes for difference in alias_differences(stores, scope)]


def repair_aliases(stores: DeploymentStores, scope: Scope = Scope()) -> list[AliasDifference]:  # noqa: B008 (frozen)
    """Set the aliases of the registry to the deployments of a scope, and return the differences before the repair.

    A lock serialises the repairs of a scope. Each reads the table after its deployment is committed, so the last repair
    has seen every deployment.

    Raises:
        Exception: as ``alias_differences``.
    """
    registry = stores.registry
    with stores.connect() as connection:
        lock_aliases(connection, scope)
        differences = _differences(stores, registry, scope)
        for difference in differences:
            if difference.expected is None:
                registry.delete_alias(difference.alias)
            else:
                registry.set_alias(difference.alias, difference.expected)
    return differences


def _differences(stores: DeploymentStores, registry: Registry, scope: Scope) -> list[AliasDifference]:
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
    found = registry.aliases()
    names = [_alias_name(role, scope) for role in ALIAS_ROLES]
    return [
        AliasDifference(name, expected.get(name), found.get(name))
        for name in names
        if expected.get(name) != found.get(name)
    ]


def _change(
    stores: DeploymentStores, scope: Scope, record: VersionRecord, write: Callable[[psycopg.Connection], Change]
) -> Deployed:
    """Write in one transaction, then update the aliases, even if no row changed."""
    with stores.connect() as connection:
        change = write(connection)
    replaced = champion([row for row in change.ended if row.model != (record.bundle_hash, record.version)])
    return Deployed(record, change, replaced, _try_to_repair(stores, scope))


def _try_to_repair(stores: DeploymentStores, scope: Scope) -> str | None:
    try:
        repair_aliases(stores, scope)
    except Exception as error:  # noqa: BLE001 (the deployment is committed; the aliases do not affect serving)
        _LOG.warning("the aliases of the model registry were not updated", scope=str(scope), error=repr(error))
        return f"{type(error).__name__}: {error}"
    return None


def _expected_aliases(
    present: Sequence[Deployment], in_registry: Mapping[tuple[str, str | None], int], scope: Scope
) -> dict[str, int]:
    """Return alias → MLflow version. ``present`` is in time order, so the newest deployment of a role wins."""
    return {
        _alias_name(row.role, scope): in_registry[row.model]
        for row in present
        if row.role in ALIAS_ROLES and row.model in in_registry
    }


def _alias_name(role: Role, scope: Scope) -> str:
    """Return the role in the default scope, else ``<role>-<tenant>-<strategy>``, escaped for MLflow."""
    if (scope.tenant, scope.strategy) == (DEFAULT_TENANT, DEFAULT_STRATEGY):
        return role
    safe = (
        re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", part) for part in (scope.tenant, scope.strategy)
    )
    return "-".join([role, *safe])


def _shown(version: int | None) -> str:
    return "none" if version is None else f"MLflow version {version}"
