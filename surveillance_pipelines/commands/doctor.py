"""``surveillance doctor``: check the installation and the configured services, with a remedy per problem."""

from typing import Annotated

import typer

from surveillance_pipelines.commands.console import echo, mark, progress, table
from surveillance_pipelines.commands.exit_codes import ExitCode


def doctor(
    network: Annotated[bool, typer.Option(help="Also check that Yahoo Finance answers.")] = False,
) -> None:
    """Check everything that the platform needs, and show a remedy for each problem.

    Exits with 1 if a check fails. A warning concerns something that the platform can work without.
    """
    from surveillance_pipelines.commands.dagster_health import dagster_health
    from surveillance_pipelines.services.doctor import all_checks, load_settings
    from surveillance_pipelines.services.facts import once_per_cause

    found, platform = load_settings()
    findings = list(found)
    if platform is not None:
        checks = all_checks(network=network)
        with progress("checks", total=len(checks)) as bar:
            for check in checks:
                findings += check(platform)
                bar.advance()
        findings += dagster_health(platform)
    findings = once_per_cause(findings)
    table(
        "doctor",
        ("check", "", "result", "what to do"),
        [(line.name, mark(line.verdict), line.found, line.remedy) for line in findings],
    )
    failed = [line.name for line in findings if line.verdict == "fail"]
    warned = [line.name for line in findings if line.verdict == "warn"]
    if failed:
        echo(f"{len(failed)} failed: {', '.join(failed)}", style="red")
        raise typer.Exit(ExitCode.FAILED)
    warnings = f"; warnings: {', '.join(warned)}" if warned else ""
    echo(f"no check failed{warnings}", style="green")
