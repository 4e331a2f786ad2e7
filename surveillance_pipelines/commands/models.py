"""``surveillance models``: list model versions and their roles, and change the champion."""

import os
from typing import TYPE_CHECKING, Annotated, Final

import typer

from surveillance_pipelines.commands.console import echo, table
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.outputs import DEFAULT_STRATEGY

if TYPE_CHECKING:
    from surveillance_pipelines.services.models import Deployed

app: Final = typer.Typer(help="List model versions, and change the champion.", no_args_is_help=True)

_Strategy = Annotated[str, typer.Option(help="Select the versions of this strategy.")]
_Reason = Annotated[str, typer.Option(help="Record this reason in the history.")]
_By = Annotated[str | None, typer.Option(help="Record this decider in the history; default: the user name.")]


@app.command("list")
def list_models(strategy: _Strategy = DEFAULT_STRATEGY) -> None:
    """List the versions of a strategy with their roles, newest first."""
    from surveillance_pipelines.services.models import scope_of, versions
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    rows = [
        (
            listed.version.version,
            None if (deployment := listed.deployment) is None else deployment.role,
            None if deployment is None else deployment.since,
            listed.version.bundle_hash[:12],
            listed.version.trained_at,
            listed.version.training_dataset_size,
            listed.version.mlflow_version,
        )
        for listed in versions(platform, scope_of(platform.settings, strategy))
    ]
    if not rows:
        echo(f"no versions of strategy {strategy} yet{_how_to_get_one(strategy)}")
        return
    columns = ("version", "role", "since", "bundle", "trained", "training rows", "MLflow version")
    table("model versions", columns, rows, right=("training rows", "MLflow version"))


@app.command("activate")
def activate_model(
    version: Annotated[str, typer.Argument(help="Version, such as v3.")],
    strategy: _Strategy = DEFAULT_STRATEGY,
    reason: _Reason = "activated by hand",
    by: _By = None,
) -> None:
    """Verify the bundle of a version and make it the champion. Drain runs load it within seconds.

    The previous champion is retired; it can be activated again.
    """
    from surveillance_pipelines.services.models import activate, scope_of
    from surveillance_pipelines.services.platform import open_platform

    number = _number(version)
    platform = open_platform()
    done = activate(
        platform,
        number,
        decided_by=by or _user(),
        reasons=[reason],
        scope=scope_of(platform.settings, strategy),
    )
    echo(_summary(done))
    _show_alias_problem(done)


@app.command("retire")
def retire_model(
    version: Annotated[str, typer.Argument(help="Version, such as v3.")],
    *,
    strategy: _Strategy = DEFAULT_STRATEGY,
    reason: _Reason = "retired by hand",
    by: _By = None,
    leave_no_champion: Annotated[
        bool, typer.Option("--leave-no-champion", help="Also retire the champion, without a successor.")
    ] = False,
) -> None:
    """Retire a version: it has no role any more, and can be activated again.

    The champion is retired only with `--leave-no-champion`; to replace it, activate another version. Without a
    champion, drain runs that start later use the warm-up rules.
    """
    from surveillance_pipelines.services.models import retire, scope_of
    from surveillance_pipelines.services.platform import open_platform

    number = _number(version)
    platform = open_platform()
    done = retire(
        platform,
        number,
        decided_by=by or _user(),
        reasons=[reason],
        scope=scope_of(platform.settings, strategy),
        leave_no_champion=leave_no_champion,
    )
    echo(f"{done.version.version} is retired")
    _show_alias_problem(done)


@app.command("history")
def show_history(strategy: _Strategy = DEFAULT_STRATEGY) -> None:
    """List all role changes of the versions with their decider and reasons, oldest first."""
    from surveillance_pipelines.services.models import deployment_history, scope_of
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    scope = scope_of(platform.settings, strategy)
    rows = [
        (row.name, row.role, row.traffic_share, row.since, row.until, row.decided_by, "; ".join(row.reasons))
        for row in deployment_history(platform, scope)
    ]
    if not rows:
        wanted = f"tenant {scope.tenant} and strategy {scope.strategy}"
        echo(f"no deployments of {wanted} yet{_how_to_get_one(scope.strategy)}")
        return
    columns = ("version", "role", "traffic share", "since", "until", "decided by", "reasons")
    table("deployments", columns, rows, right=("traffic share",))


def _show_alias_problem(done: "Deployed") -> None:
    if done.alias_problem is not None:
        echo(
            f"the MLflow aliases were not updated ({done.alias_problem}); the next change of a role updates them",
            style="yellow",
        )


def _how_to_get_one(strategy: str) -> str:
    """Return how a strategy gets a version: only the default strategy has a training."""
    return "; `surveillance train` creates one" if strategy == DEFAULT_STRATEGY else ""


def _number(version: str) -> int:
    digits = version.removeprefix("v")
    if not digits.isdecimal():
        remedy = "`surveillance models list` shows the versions"
        raise InvalidInputError(f"expected a version such as v3, got {version!r}", remedy=remedy)
    return int(digits)


def _user() -> str:
    return os.environ.get("USER") or "command line"


def _summary(done: "Deployed") -> str:
    name = done.version.version
    if not done.change.opened:
        return f"{name} is the champion already"
    return f"{name} is the champion" + (f"; {done.replaced.name} is retired" if done.replaced is not None else "")
