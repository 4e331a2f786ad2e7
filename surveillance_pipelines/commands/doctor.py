"""``surveillance doctor``: what is missing or unreachable, and what to do about it."""

from typing import Annotated

import typer

from surveillance_pipelines.commands.console import mark, progress, say, table
from surveillance_pipelines.commands.failures import ExitCode


def doctor(
    network: Annotated[bool, typer.Option(help="Also ask Yahoo Finance whether it answers.")] = False,
) -> None:
    """Check everything that the platform needs, and say what to do where something is wrong.

    Exits with 1 when a check fails; a warning is something that the platform can do without.
    """
    from surveillance_pipelines.services.doctor import Finding, all_checks, load_settings

    found, platform = load_settings()
    findings: list[Finding] = [found]
    if platform is not None:
        checks = all_checks(network=network)
        with progress("checks", total=len(checks)) as bar:
            for check in checks:
                findings += check(platform)
                bar.advance()
    table(
        "doctor",
        ("check", "", "found", "what to do"),
        [(line.name, mark(line.verdict), line.found, line.remedy) for line in findings],
    )
    failed = [line.name for line in findings if line.verdict == "fail"]
    warned = [line.name for line in findings if line.verdict == "warn"]
    if failed:
        say(f"{len(failed)} failed: {', '.join(failed)}", style="red")
        raise typer.Exit(ExitCode.FAILED)
    look = f"; worth a look: {', '.join(warned)}" if warned else ""
    say(f"nothing is broken{look}", style="green")
