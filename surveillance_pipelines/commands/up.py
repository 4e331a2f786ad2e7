"""``surveillance up``: run the embedded services, the Dagster UI and the daemon until ctrl-C."""

import errno
import socket
from typing import TYPE_CHECKING, Annotated, Final

import typer

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.commands.children import Child, interrupt_on_signals
from surveillance_pipelines.commands.console import echo, heading
from surveillance_pipelines.contracts.endpoints import DEMO_MARKER
from surveillance_pipelines.contracts.errors import InvalidInputError, OperationFailedError

if TYPE_CHECKING:
    from surveillance_pipelines.services.platform import Platform

_DEFAULT_PORT: Final = 3000
_STALLED_SECONDS: Final = 90.0
"""Time without a sign of work (log, CPU) after which a start has failed; a slow machine needs minutes."""
_REPORT_SECONDS: Final = 15.0
_CHECK_SECONDS: Final = 0.3


def up(
    port: Annotated[
        int | None, typer.Option(help="Set the port of the UI; default: the first free one from 3000.")
    ] = None,
    host: Annotated[str, typer.Option(help="Set the address on which the UI listens.")] = "127.0.0.1",
    daemon: Annotated[bool, typer.Option(help="Run sensors and schedules too.")] = True,
) -> None:
    """Run the Dagster UI and the daemon on the embedded or configured services, until ctrl-C."""
    from surveillance_pipelines.commands import dagster_home
    from surveillance_pipelines.services.configuration import misspelled_settings
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    for variable in misspelled_settings():
        echo(f"warning: {variable.found}", style="yellow")
    chosen = _free_port(host, port)
    echo("connecting to the services …")
    environment = disable_yahoo_fallback_in_demo(platform, dagster_home.prepare(platform))
    echo(f"  {'embedded' if platform.endpoints.embedded else 'configured'}, home {platform.home}")
    children: list[Child] = []
    with interrupt_on_signals():
        try:
            children.append(dagster_home.start_webserver(platform, environment, host=host, port=chosen))
            if daemon:
                children.append(dagster_home.start_daemon(platform, environment))
            _wait_for_port(host, chosen, children)
            heading(f"Dagster UI: http://{host}:{chosen}")
            echo(f"logs: {platform.home / 'logs'}   ctrl-C stops everything")
            while True:
                for child in children:
                    child.check_alive()
                SYSTEM_CLOCK.sleep(1)
        except KeyboardInterrupt:
            echo("stopping …")
        finally:
            for child in reversed(children):
                child.stop()


def disable_yahoo_fallback_in_demo(platform: "Platform", environment: dict[str, str]) -> dict[str, str]:
    """Return the environment with the Yahoo fallback disabled in the home of a demo, unless the user has set it.

    Bars from Yahoo take precedence over simulated ones, so they would replace the demo's bars.
    """
    if not (platform.home / DEMO_MARKER).is_file() or "fallback_to_yfinance" in platform.settings.model_fields_set:
        return environment
    echo("  demo data: the Yahoo fallback is off (FALLBACK_TO_YFINANCE=true turns it on)")
    return {**environment, "FALLBACK_TO_YFINANCE": "false"}


def _free_port(host: str, wanted: int | None) -> int:
    """Return the given port, or the first free one from 3000 on."""
    candidates = range(_DEFAULT_PORT, _DEFAULT_PORT + 100) if wanted is None else [wanted]
    for port in candidates:
        if _is_free(host, port):
            return port
    raise InvalidInputError(
        f"expected a free port for the UI on {host}, but {wanted or 'each port from 3000 to 3099'} is in use",
        remedy="set another port with --port",
    )


def _is_free(host: str, port: int) -> bool:
    """Return whether nothing answers on a port and this process may listen there."""
    if _answers(host, port):
        return False
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of a process that has just ended is free
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise InvalidInputError(
                f"expected an address of this machine, got {host}: {error.strerror}",
                remedy="set another address with --host",
            ) from error
    return True


def _wait_for_port(host: str, port: int, children: list[Child]) -> None:
    """Wait until the UI answers, as long as its process works; print every few seconds what is awaited.

    An answer of another process on the port does not count; the UI then ends, because it cannot listen.
    """
    ui = children[0]
    waited = stalled = reported = 0.0
    seen = ui.activity()
    while not (ui.listens(port) and _answers(host, port)):
        for child in children:
            child.check_alive()
        if (found := ui.activity()) != seen:
            seen, stalled = found, 0.0
        if stalled > _STALLED_SECONDS:
            raise OperationFailedError(
                f"expected the UI to answer on port {port}, it has neither answered nor worked for "
                f"{_STALLED_SECONDS:.0f} s",
                remedy=f"read {ui.log}",
            )
        if waited - reported > _REPORT_SECONDS:
            reported = waited
            echo(f"  waiting for the UI to load the code locations, {waited:.0f} s so far (log: {ui.log})")
        SYSTEM_CLOCK.sleep(_CHECK_SECONDS)
        waited, stalled = waited + _CHECK_SECONDS, stalled + _CHECK_SECONDS


def _answers(host: str, port: int) -> bool:
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    try:
        with socket.create_connection((everywhere.get(host, host), port), timeout=1.0):
            return True
    except OSError:
        return False
