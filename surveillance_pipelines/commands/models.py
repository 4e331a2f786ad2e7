"""``surveillance models``: the registered versions, which of them serve, and how that changes."""

import os
from typing import TYPE_CHECKING, Annotated, Final

import typer

from surveillance_pipelines.commands.console import say, table
from surveillance_pipelines.commands.failures import CommandError, ExitCode, failing_as

if TYPE_CHECKING:
    from surveillance_pipelines.commands.context import Platform
    from surveillance_pipelines.lifecycle.deployments import Scope
    from surveillance_pipelines.services.models import Deployed, ModelStores

app: Final = typer.Typer(help="List model versions, and change which of them serves.", no_args_is_help=True)

_Strategy = Annotated[str, typer.Option(help="Strategy that the versions belong to.")]
_Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
_By = Annotated[str | None, typer.Option(help="Who decides; kept in the history. The user name by default.")]


@app.command("list")
def list_models(strategy: _Strategy = "surveillance") -> None:
    """List the versions of a strategy with their roles, newest first."""
    from surveillance_pipelines.commands.context import open_platform
    from surveillance_pipelines.services.models import versions

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
        for listed in versions(_stores(platform), _scope(platform, strategy))
    ]
    if not rows:
        say("no versions yet: `surveillance train` makes one")
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
    """Make a version the champion; the champion before it is retired, and can be activated again.

    Drain runs load the new champion within seconds. The bundle is verified first.
    """
    from surveillance_pipelines.commands.context import open_platform
    from surveillance_pipelines.services.models import activate

    number = _number(version)
    platform = open_platform()
    with failing_as(ExitCode.USAGE, ValueError, LookupError):
        done = activate(
            _stores(platform),
            number,
            decided_by=by or _user(),
            reasons=[reason],
            scope=_scope(platform, strategy),
        )
    say(_summary(done))
    if done.alias_problem is not None:
        say(
            f"the registry's aliases were not updated ({done.alias_problem}); repeat the command to repair",
            style="yellow",
        )


@app.command("history")
def show_history(strategy: _Strategy = "surveillance") -> None:
    """Show which version had which role since when, by whose decision and why, oldest first."""
    from surveillance_pipelines.commands.context import open_platform
    from surveillance_pipelines.services.models import deployment_history

    platform = open_platform()
    rows = [
        (row.name, row.role, row.traffic_share, row.since, row.until, row.decided_by, "; ".join(row.reasons))
        for row in deployment_history(_stores(platform), _scope(platform, strategy))
    ]
    if not rows:
        say("no deployments yet: the warm-up rules answer until `surveillance train` promotes a model")
        return
    columns = ("version", "role", "traffic share", "since", "until", "decided by", "reasons")
    table("deployments", columns, rows, right=("traffic share",))


def _number(version: str) -> int:
    digits = version.removeprefix("v")
    if not digits.isdecimal():
        remedy = "`surveillance models list` shows the versions"
        raise CommandError(f"expected a version such as v3, got {version!r}", remedy=remedy, code=ExitCode.USAGE)
    return int(digits)


def _stores(platform: "Platform") -> "ModelStores":
    from surveillance_pipelines.services.models import ModelStores

    return ModelStores(platform.connect, platform.registry, platform.clock)


def _scope(platform: "Platform", strategy: str) -> "Scope":
    from surveillance_pipelines.lifecycle.deployments import Scope

    return Scope(tenant=platform.settings.tenant, strategy=strategy)


def _user() -> str:
    return os.environ.get("USER") or "command line"


def _summary(done: "Deployed") -> str:
    name = done.version.version
    if not done.change.opened:
        return f"{name} is the champion already"
    return f"{name} is the champion" + (f"; {done.replaced.name} is retired" if done.replaced is not None else "")
