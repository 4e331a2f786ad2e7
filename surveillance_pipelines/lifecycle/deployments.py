"""Which model serves: deployments, their roles, and the transitions between them. Pure; ``stores/`` keeps the rows.

A deployment is one row of a history: a model has had a role since an instant, until another row follows. The open rows
are the present. A *scope* is (tenant, strategy, kind), and it has one champion at most: a promotion ends the champion's
row and opens its row as ``retired`` in the same change.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.outputs import DEFAULT_STRATEGY, DEFAULT_TENANT

Role = Literal["champion", "challenger", "shadow", "canary", "retired"]

BUNDLE_KIND: Final = "bundle"

INITIAL_ROLES: Final[frozenset[Role]] = frozenset({"champion", "challenger", "shadow", "canary"})
"""Roles of a model that has not been deployed before."""

VALID_TRANSITIONS: Final[Mapping[Role, frozenset[Role]]] = MappingProxyType(
    {
        "champion": frozenset({"retired"}),
        "challenger": frozenset({"champion", "challenger", "shadow", "canary", "retired"}),
        "shadow": frozenset({"champion", "challenger", "canary", "retired"}),
        "canary": frozenset({"champion", "challenger", "shadow", "canary", "retired"}),
        "retired": frozenset({"champion", "challenger", "shadow", "canary"}),
    }
)
"""Role → the roles that may follow. A challenger or canary that keeps its role changes its traffic share."""

_ROUNDING: Final = 1e-9
"""Tolerance for a sum of shares: ten times 0.1 is not exactly 1."""


class TransitionError(SurveillanceError, ValueError, code=ErrorCode.INVALID_INPUT):
    """A transition that the rules of deployments do not allow; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where a model serves. Each scope has one champion at most."""

    tenant: str = DEFAULT_TENANT
    strategy: str = DEFAULT_STRATEGY
    kind: str = BUNDLE_KIND

    def __str__(self) -> str:
        return f"tenant {self.tenant!r}, strategy {self.strategy!r}, kind {self.kind!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One model in one role for a time.

    Attributes:
        model_id: hash of a bundle, or id of a model.
        version: of the model, such as ``v3``; None for a model that is not registered as a version.
        scope: where it serves.
        role: what it does there.
        traffic_share: 0 to 1, of the decisions. A challenger or canary has a share of its own. The champion serves what
            they leave, so its share is always 1; shadows and retired models serve nothing, so theirs is always 0.
        since: UTC, inclusive.
        until: UTC, exclusive; None while the row is open.
        decided_by: the person or the run that decided.
        reasons: why.
    """

    model_id: str
    version: str | None = None
    scope: Scope = Scope()
    role: Role
    traffic_share: float
    since: datetime
    until: datetime | None = None
    decided_by: str
    reasons: tuple[str, ...] = ()

    @property
    def model(self) -> tuple[str, str | None]:
        """Return what identifies the deployed model: versions trained on equal data have the same hash."""
        return self.model_id, self.version

    @property
    def name(self) -> str:
        """Return how messages name the model."""
        return self.version or self.model_id[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A request: a model is to have a role from now on.

    Attributes:
        model_id: hash of a bundle, or id of a model.
        version: of the model, if it is registered as one.
        scope: where.
        role: the role to have.
        traffic_share: for a challenger (0 if absent) or a canary (required); None for the other roles.
        decided_by: the person or the run that decides.
        reasons: why.
        leave_no_champion: allow the champion to be retired without a successor.
    """

    model_id: str
    version: str | None = None
    scope: Scope = Scope()
    role: Role
    traffic_share: float | None = None
    decided_by: str
    reasons: tuple[str, ...] = ()
    leave_no_champion: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """The rows that a transition ends and opens; both are empty if the model already has the role and the share."""

    ended: tuple[Deployment, ...] = ()
    opened: tuple[Deployment, ...] = ()


def champion(current: Sequence[Deployment]) -> Deployment | None:
    """Return the champion among the open deployments of one scope."""
    return next((row for row in current if row.role == "champion"), None)


def earlier_champions(history: Sequence[Deployment], champion: Deployment) -> list[Deployment]:
    """Return the former champions of a scope that are registered versions, newest first, each model once.

    Args:
        history: every deployment of the scope, oldest first.
        champion: the present champion, which is left out.
    """
    former = [row for row in reversed(history) if row.role == "champion" and row.version is not None]
    return list({row.model: row for row in reversed(former) if row.model != champion.model}.values())[::-1]


def plan(current: Sequence[Deployment], requested: Transition, at: datetime) -> Change:
    """Return the rows that a transition ends and opens.

    Args:
        current: every open deployment of the scope.
        requested: the transition.
        at: its instant. An instant before the newest row (clocks of two machines differ) is moved to that row's.

    Raises:
        TransitionError: if the model may not change to the role, if the traffic share does not fit, or if the scope
            would be left without a champion.
    """
    _require_scope(current, requested.scope)
    model = requested.model_id, requested.version
    before = next((row for row in current if row.model == model), None)
    wanted = _wanted(requested, max([at, *(row.since for row in current)]))
    if before is not None and (before.role, before.traffic_share) == (wanted.role, wanted.traffic_share):
        return Change()
    _require_valid(before, wanted)
    others = [row for row in current if row.model != model]
    if before is not None and before.role == "champion" and not requested.leave_no_champion:
        raise TransitionError(
            f"expected a champion to remain, got a request to retire the champion {wanted.name} of {wanted.scope}: "
            "promote another version instead"
        )
    ended = [] if before is None else [before]
    opened = [wanted]
    if wanted.role == "champion" and (replaced := champion(others)) is not None:
        ended.append(replaced)
        opened.append(_retired(replaced, by=wanted))
    _require_shares([wanted, *others])
    return Change(tuple(replace(row, until=wanted.since) for row in ended), tuple(opened))


def _wanted(requested: Transition, at: datetime) -> Deployment:
    return Deployment(
        model_id=requested.model_id,
        version=requested.version,
        scope=requested.scope,
        role=requested.role,
        traffic_share=_share(requested),
        since=at,
        decided_by=requested.decided_by,
        reasons=requested.reasons,
    )


def _retired(replaced: Deployment, *, by: Deployment) -> Deployment:
    return replace(
        replaced,
        role="retired",
        traffic_share=0.0,
        since=by.since,
        decided_by=by.decided_by,
        reasons=(f"replaced by {by.name}",),
    )


def _share(requested: Transition) -> float:
    share, role = requested.traffic_share, requested.role
    if role in ("champion", "shadow", "retired"):
        if share is not None:
            raise TransitionError(
                f"expected no traffic share for a {role} model, got {share:g}: it follows from the role"
            )
        return 1.0 if role == "champion" else 0.0
    if role == "canary" and not (share is not None and 0 < share < 1):
        raise TransitionError(f"expected a traffic share above 0 and below 1 for a canary, got {_shown(share)}")
    if share is not None and not 0 <= share < 1:
        raise TransitionError(f"expected a traffic share of at least 0 and below 1 for a challenger, got {share:g}")
    return share or 0.0


def _shown(share: float | None) -> str:
    return "none" if share is None else f"{share:g}"


def _require_scope(current: Sequence[Deployment], scope: Scope) -> None:
    for row in current:
        if row.scope != scope or row.until is not None:
            raise ValueError(f"expected open deployments of {scope}, got {row.name} of {row.scope} until {row.until}")


def _require_valid(before: Deployment | None, wanted: Deployment) -> None:
    allowed = INITIAL_ROLES if before is None else VALID_TRANSITIONS[before.role]
    if wanted.role not in allowed:
        state = "not deployed" if before is None else f"the {before.role}" if before.role == "champion" else before.role
        raise TransitionError(
            f"expected a transition to {' or '.join(sorted(allowed))} for {wanted.name}, which is {state} in "
            f"{wanted.scope}, got {wanted.role}"
        )


def _require_shares(after: Sequence[Deployment]) -> None:
    total = math.fsum(row.traffic_share for row in after if row.role in ("challenger", "canary"))
    if total > 1 + _ROUNDING:
        raise TransitionError(
            f"expected traffic shares of challengers and canaries of at most 1 together, got {total:g}",
            remedy="lower one first",
        )
