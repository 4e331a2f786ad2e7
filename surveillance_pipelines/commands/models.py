"""``surveillance models``: list model versions and their roles, and change the champion."""

import os
from typing import TYPE_CHECKING, Annotated, Final

import typer

from surveillance_pipelines.commands.console import echo, table
from surveillance_pipelines.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    from surveillance_pipelines.services.models import Deployed

app: Final = typer.Typer(help="List model versions, and change the champion.", no_args_is_help=True)

_Strategy = Annotated[str, typer.Option(help="Select the versions of this strategy.")]
_Reason = Annotated[str, typer.Option(help="Record this reason in the history.")]
_By = Annotated[str | None, typer.Option(help="Record this decider in the history; default: the user name.")]


@app.command("list")
def list_models(strategy: _Strategy = "surveillance") -> None:
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
        echo("no versions yet: `surveillance train` creates one")
        return
    columns = ("version", "role", "since", "bundle", "trained", "training rows", "MLflow version")
    table("model versions", columns, rows, right=("training rows", "MLflow version"))


@app.command("activate")
def activate_model(
    version: Annotated[str, typer.Argument(help="Version, such as v3.")],
    strategy: _Strategy = "surveillance",
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
    if done.alias_problem is not None:
        echo(
            f"the MLflow aliases were not updated ({done.alias_problem}); repeat the command to update them",
            style="yellow",
        )


@app.command("history")
def show_history(strategy: _Strategy = "surveillance") -> None:
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
        echo(f"no deployments of {wanted} yet; `surveillance train` promotes a model")
        return
    columns = ("version", "role", "traffic share", "since", "until", "decided by", "reasons")
    table("deployments", columns, rows, right=("traffic share",))


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
