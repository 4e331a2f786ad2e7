"""Whether the server of MLFLOW_TRACKING_URI accepts connections; MLflow's client retries for minutes to find out."""

import socket
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from surveillance_pipelines.contracts.urls import without_password
from surveillance_pipelines.services.facts import Fact

_TIMEOUT_SECONDS: Final = 3.0
_PORTS: Final = {"http": 80, "https": 443}
_REMEDY: Final = "start the MLflow server, or correct MLFLOW_TRACKING_URI"


def unreachable_registry(name: str, url: str) -> Fact | None:
    """Return the failure of a server that accepts no connection; None if it does, or if the URL names no server.

    Args:
        name: name of the line.
        url: tracking URI of MLflow. Files and databases are not probed.
    """
    reason = _reason(url)
    if reason is None:
        return None
    return Fact(name, "fail", f"expected MLflow to answer at {without_password(url)}, got {reason}", _REMEDY)


def _reason(url: str) -> str | None:
    scheme = url.partition("://")[0].lower()
    if scheme not in _PORTS:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS[scheme]
    except ValueError:  # its message contains a part of the URL
        return "a URL without a valid host and port"
    if not host:
        return "a URL without a host"
    if scheme in getproxies() and not proxy_bypass(host):  # only the proxy may be able to reach the server
        return None
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS):
            return None
    except OSError as error:
        return error.strerror or str(error)
