"""Attacks on the embedded services by another user and by a web page: ``python -m benchmarks.attacks`` (as root).

The attacker runs as ``nobody`` and knows what every local user can find out. The owner puts one message on a queue
before and finds exactly this message after all attacks. Two requests of the owner fall into the attacker's hands: an
old one, and a new one whose body the attacker changes.
"""

import argparse
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock

import psycopg
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks.harness import counted
from benchmarks.live_lane import services_of
from benchmarks.queue_depth import shipped_server
from surveillance_pipelines.clock import SYSTEM_CLOCK, now
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines_tests.storage_fixtures import service_settings, sqs_client

ATTACKER: Final = "nobody"
_SCRIPT: Final = Path(__file__).with_name("attacker.py")
_PATHS: Final = (
    "services.json", "logs", "logs/queue.log", "logs/postgres.log", "logs/supervisor.log", "embedded",
    "embedded/holders", "embedded/queue", "embedded/queue.json", "embedded/queue_credentials.json",
    "embedded/aws_config", "embedded/postgres", "embedded/postgres.json", "embedded/postgres/pg_hba.conf",
    "embedded/lock",
)  # fmt: skip
_GUESSES: Final = ("", "postgres", "surveillance", "password", "local")


def attack(home: Path, found: EmbeddedServices) -> dict[str, bool]:
    """Run all attacks and return name → whether it succeeded."""
    client = sqs_client(found.queue_endpoint, found.queue_credentials)
    url = client.create_queue(QueueName="target.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="mine", MessageGroupId="A", MessageDeduplicationId="1")
    results = _run_attacker(home, found, url)
    results |= {f"PostgreSQL with the password {guess!r}": _logs_in(found, guess) for guess in _GUESSES}
    received = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    results["the queue was changed"] = [message["Body"] for message in received] != ["mine"]
    return results


def _attack_shipped(home: Path, found: EmbeddedServices) -> dict[str, bool]:
    """Return the results of the requests to the emulator without the platform's changes, which show that they work."""
    with shipped_server() as server:
        endpoint = server.client.meta.endpoint_url
        url = server.client.create_queue(QueueName="target.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
        results = _run_attacker(home, replace(found, queue_endpoint=endpoint), url)
    others = ("PostgreSQL", "read ", "write ", "list the home", "create a file", "environment", "secret")
    names = [name for name in results if not name.startswith(others) or "unsigned" in name or "read messages" in name]
    return {name: results[name] for name in names}


def _run_attacker(home: Path, found: EmbeddedServices, url: str) -> dict[str, bool]:
    account = pwd.getpwnam(ATTACKER)
    facts = {
        "home": str(home),
        "port": int(found.queue_endpoint.rpartition(":")[2]),
        "postgres_port": _postgres_port(found),
        "queue_url": url,
        "paths": _PATHS,
        "pids": {str(process.pid): name for name, process in _processes(found).items()},
        "stolen": _stolen(found, url),
    }
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin") or sys.executable
    done = subprocess.run(
        [python, "-I", "-"], input=_program(facts), capture_output=True, text=True, check=False, cwd="/",
        user=account.pw_uid, group=account.pw_gid, extra_groups=[], env={},
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"expected the attacker to end its list, got: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def _program(facts: Mapping[str, Any]) -> str:
    """Return the attacker's program with its facts: the account may not be able to read this folder."""
    return f"import io, sys\nsys.stdin = io.StringIO({json.dumps(facts)!r})\n{_SCRIPT.read_text()}"


def _processes(found: EmbeddedServices) -> dict[str, Any]:
    return {"supervisor": found.supervisor, "postgres": found.postgres, "queue": found.queue}


def _postgres_port(found: EmbeddedServices) -> int:
    return int(found.server_url.rpartition(":")[2].partition("/")[0])


def _stolen(found: EmbeddedServices, url: str) -> dict[str, Any]:
    """Return requests of the owner, which the attacker sends again: one is old, the other has another body."""
    old = _signed(found, url, now(SYSTEM_CLOCK) - timedelta(minutes=10))
    changed = _signed(found, url, now(SYSTEM_CLOCK))
    forged = json.dumps({"QueueUrl": url, "MessageBody": "y", "MessageGroupId": "A", "MessageDeduplicationId": "y"})
    return {
        "replay of an old request": old,
        "a request of the owner with another body": [*changed[:3], forged],
        "a request of the owner with another action": [
            *changed[:2], {**changed[2], "X-Amz-Target": "AmazonSQS.PurgeQueue"}, changed[3],
        ],
        "a request of the owner with an unsigned body": [
            *changed[:2], {**changed[2], "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, forged,
        ],
    }  # fmt: skip


def _signed(found: EmbeddedServices, url: str, instant: datetime) -> list[Any]:
    body = json.dumps({"QueueUrl": url, "MessageBody": "x", "MessageGroupId": "A", "MessageDeduplicationId": "x"})
    headers = {"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0"}
    request = AWSRequest("POST", f"{found.queue_endpoint}/", headers, body)
    keys = found.queue_credentials
    signer = auth.SigV4Auth(Credentials(keys.access_key_id, keys.secret_access_key), "sqs", "us-east-1")
    with mock.patch.object(auth, "get_current_datetime", return_value=instant):
        signer.add_auth(request)
    return ["POST", "/", {name: str(value) for name, value in request.headers.items()}, body]


def _logs_in(found: EmbeddedServices, password: str) -> bool:
    try:
        psycopg.connect(
            host="127.0.0.1",
            port=_postgres_port(found),
            user="surveillance",
            dbname="postgres",
            password=password or " ",
        ).close()
    except psycopg.OperationalError:
        return False
    return True


def prove() -> dict[str, Any]:
    """Run the attacks on new services, and return the content of the result."""
    if os.geteuid() != 0:
        raise RuntimeError("expected root, which can become another user, got another account: run it with sudo")
    with tempfile.TemporaryDirectory(prefix="attacks-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the attacker can reach the home
        home = Path(folder) / "home"
        with services_of(service_settings(home)) as found:
            results = attack(home, found)
            shipped = _attack_shipped(home, found)
    succeeded = sorted(name for name, success in results.items() if success)
    return {
        "work": f"{len(results)} attacks of the user {ATTACKER} and of web pages on the embedded queue, PostgreSQL and "
        "the files of a home: read, inject, reset, foreign Host and Origin, no, wrong, old and moved signatures",
        "goal": "0 succeed",
        "found": [
            f"{len(succeeded)} of {len(results)} succeeded" + (f": {', '.join(succeeded)}" if succeeded else ""),
            f"the same requests to the emulator as shipped: {sum(shipped.values())} of {len(shipped)} succeeded",
        ],
        "met": not succeeded and any(shipped.values()),
        "figures": {"attacks": results, "emulator_as_shipped": shipped},
    }


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if no attack succeeds."""
    parser = argparse.ArgumentParser(description="Attack the embedded services as another user and as a web page.")
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    return 0 if counted("attacks", path=options.result, **prove())["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
