"""The credentials of the embedded queue server: random, one pair per home, readable by the home's owner only.

The server accepts only requests signed with them. A user's own client (``aws``, boto3) reads them with the endpoint and
the region from one file: ``AWS_CONFIG_FILE=<home>/embedded/aws_config``.
"""

import contextlib
import secrets
from pathlib import Path
from typing import Final

from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.embedded.service_home import ServiceHome, read_json, write_json, write_text

REGION: Final = "us-east-1"
_CREDENTIALS: Final = "queue_credentials.json"
_CLIENT_CONFIG: Final = "aws_config"


def credentials_file(home: ServiceHome) -> Path:
    return home.embedded / _CREDENTIALS


def client_config(home: ServiceHome) -> Path:
    """Return the file that gives a user's own client the endpoint, region and credentials."""
    return home.embedded / _CLIENT_CONFIG


def queue_credentials(home: ServiceHome) -> AwsCredentials:
    """Return the credentials of a home; create them on first use. Concurrent callers get the same ones."""
    path = credentials_file(home)
    if (found := read_credentials(path)) is not None:
        return found
    # The name of the access key must not be 12 digits, which the emulator would take for an account.
    pair = {"access_key_id": f"LOCAL{secrets.token_hex(8).upper()}", "secret_access_key": secrets.token_urlsafe(32)}
    with contextlib.suppress(FileExistsError):
        write_json(path, pair, replace=False)
    found = read_credentials(path)
    if found is None:
        raise RuntimeError(
            f"expected the credentials of the embedded queue server in {path}, got another content: delete the file "
            "and stop all processes of the home"
        )
    return found


def read_credentials(path: Path) -> AwsCredentials | None:
    """Return the credentials in a file, or None if there are none."""
    recorded = read_json(path)
    if not isinstance(recorded, dict):
        return None
    key, secret = recorded.get("access_key_id"), recorded.get("secret_access_key")
    return AwsCredentials(key, secret) if isinstance(key, str) and isinstance(secret, str) else None


def credentials_of_endpoint(home: Path, endpoint_url: str) -> AwsCredentials | None:
    """Return a home's credentials if the endpoint is its own queue server, else None."""
    files = ServiceHome(home)
    recorded = read_json(files.queue_record)
    if not isinstance(recorded, dict) or endpoint_url.rstrip("/") != f"http://127.0.0.1:{recorded.get('port')}":
        return None
    return read_credentials(credentials_file(files))


def write_client_config(home: ServiceHome, credentials: AwsCredentials, endpoint_url: str) -> None:
    """Write the configuration file for a user's own client."""
    write_text(
        client_config(home),
        f"[default]\nregion = {REGION}\nendpoint_url = {endpoint_url}\n"
        f"aws_access_key_id = {credentials.access_key_id}\naws_secret_access_key = {credentials.secret_access_key}\n",
    )
