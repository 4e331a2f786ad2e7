"""Check of suggested commands: each one must exist, with its options, in the command line of this release."""

import shlex
from collections.abc import Iterable

from typer.testing import CliRunner

from surveillance_pipelines.cli import app
from surveillance_pipelines.commands.exit_codes import ExitCode


def refusals(commands: Iterable[str]) -> dict[str, str]:
    """Return the commands that the command line does not know, with its message; nothing is executed."""
    runner = CliRunner()
    found = {}
    for command in sorted(commands):
        words = shlex.split(command.replace("…", ""))[1:]
        answer = runner.invoke(app, [*words, "--help"])  # unknown names are refused before the help is shown
        if answer.exit_code != ExitCode.OK:
            found[command] = " ".join(answer.output.split())
    return found
