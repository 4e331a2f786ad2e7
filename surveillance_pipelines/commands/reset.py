"""``surveillance reset``: delete all embedded data."""

from typing import Annotated

import typer

from surveillance_pipelines.commands.console import echo
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.contracts.endpoints import HOME_MARKERS
from surveillance_pipelines.contracts.errors import InvalidInputError


def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Delete without confirmation.")] = False,
) -> None:
    """Stop the embedded services and delete SURVEILLANCE_HOME. Configured external stores are not changed."""
    from surveillance_pipelines.services.configuration import read_settings
    from surveillance_pipelines.services.homes import (
        delete_home,
        folder_size,
        is_platform_home,
    )

    settings = read_settings()
    home = settings.surveillance_home
    if not home.exists():
        echo(f"nothing to do: {home} does not exist")
        return
    if not is_platform_home(home):
        raise InvalidInputError(
            f"expected one of {', '.join(HOME_MARKERS)} in {home}, found none: the platform did not create this folder",
            remedy="check SURVEILLANCE_HOME",
        )
    if not yes and not typer.confirm(
        f"Delete {home} ({folder_size(home) / 1e6:,.0f} MB: database, lake, models, runs)?"
    ):
        echo("nothing was deleted")
        raise typer.Exit(ExitCode.FAILED)
    delete_home(settings)
    echo(f"deleted {home}")
    if settings.database_url is not None or settings.sqs_queue_url:
        echo("the configured database and queues were not changed")
