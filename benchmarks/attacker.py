"""Attacks of another local user and of a web page on a home: ``python attacker.py``, run by ``benchmarks.attacks``.

Uses the standard library only, because the user may not be able to read the project. Reads what every local user can
find out (port, process ids, paths) from standard input as JSON and prints name → whether the attack succeeded.
"""

import contextlib
import http.client
import json
import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

JSON_TYPE = "application/x-amz-json-1.0"
Attempt = tuple[str, str, dict[str, str], "str | None"]
"""Method, path, headers and body of a request."""


def requests(facts: dict[str, Any]) -> dict[str, Attempt]:
    """Return name → method, path, headers and body of each request."""
    url = facts["queue_url"]
    host = f"127.0.0.1:{facts['port']}"
    send = json.dumps({"QueueUrl": url, "MessageBody": "forged", "MessageGroupId": "A", "MessageDeduplicationId": "f"})
    fake = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host;x-amz-date, "
    fake += f"Signature={'0' * 64}"
    listed: dict[str, Attempt] = {
        "read, unsigned": ("POST", "/", call("ReceiveMessage"), json.dumps({"QueueUrl": url})),
        "inject, unsigned": ("POST", "/", call("SendMessage"), send),
        "purge, unsigned": ("POST", "/", call("PurgeQueue"), json.dumps({"QueueUrl": url})),
        "list queues by the old protocol": ("GET", "/?Action=ListQueues", {}, None),
        "inject by a form of a web page": (
            "POST", "/", {"Content-Type": "application/x-www-form-urlencoded"},
            f"Action=SendMessage&QueueUrl={url}&MessageBody=forged&MessageGroupId=A&MessageDeduplicationId=f",
        ),
        "presigned URL without a secret": (
            "GET", "/?Action=ListQueues&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0", {}, None,
        ),
        "old credentials local/local": (
            "POST", "/", {**call("ListQueues"), "X-Amz-Date": "20260101T000000Z", "Authorization": fake}, "{}",
        ),
        "reset by a web page": ("POST", "/_ministack/reset", {"Origin": "https://attacker.example"}, ""),
        "change the server's configuration": ("POST", "/_ministack/config", {"Content-Type": "application/json"}, "{}"),
        "read messages by the administration": ("GET", f"/_ministack/sqs/messages?QueueUrl={url}", {}, None),
        "read messages by the other administration": ("GET", f"/_aws/sqs/messages?QueueUrl={url}", {}, None),
        "preflight of a web page": (
            "OPTIONS", "/",
            {"Origin": "https://attacker.example", "Access-Control-Request-Method": "POST"}, None,
        ),
        "list buckets, unsigned": ("GET", "/", {}, None),
        "write an object, unsigned": ("PUT", "/bucket/key", {}, "x"),
        "write out of the bucket": ("PUT", "/bucket/../../../escaped", {}, "x"),
        "read out of the bucket, escaped": ("GET", "/bucket/%2e%2e/%2e%2e/%2e%2e/services.json", {}, None),
    }  # fmt: skip
    listed |= {name: (one[0], one[1], one[2], one[3]) for name, one in facts["stolen"].items()}
    named: dict[str, Attempt] = {
        name: (method, path, {"Host": host, **headers}, body) for name, (method, path, headers, body) in listed.items()
    }
    for attack, headers in {
        "a name of the attacker (DNS rebinding)": {"Host": "attacker.example"},
        "a name of the attacker with the port": {"Host": f"attacker.example:{facts['port']}"},
    }.items():
        named[f"health by {attack}"] = ("GET", "/_ministack/health", headers, None)
        named[f"reset by {attack}"] = ("POST", "/_ministack/reset", headers, "")
    return named


def call(action: str) -> dict[str, str]:
    """Return the headers of a call of SQS."""
    return {"X-Amz-Target": f"AmazonSQS.{action}", "Content-Type": JSON_TYPE}


def succeeds_over_http(port: int, attempt: Attempt) -> bool:
    """Return whether the server accepts a request."""
    method, path, headers, body = attempt
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        data = (body or "").encode()
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            connection.putheader(name, value)
        connection.endheaders(data)
        return connection.getresponse().status < 400


def succeeds_on_postgres(port: int, user: str) -> bool:
    """Return whether PostgreSQL lets a user in without a password."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        text = b"".join(part.encode() + b"\0" for part in ("user", user, "database", "postgres")) + b"\0"
        connection.sendall(struct.pack("!ii", len(text) + 8, 196_608) + text)
        answer = connection.recv(64)
    return answer[:1] == b"R" and struct.unpack("!i", answer[5:9])[0] == 0


def can(action: Callable[[], Any]) -> bool:
    """Return whether an access to a file succeeds and finds something."""
    try:
        return bool(action())
    except OSError:
        return False


def main() -> None:
    """Run all attacks."""
    facts = json.load(sys.stdin)
    found = {name: succeeds_over_http(facts["port"], attempt) for name, attempt in requests(facts).items()}
    for user in ("surveillance", "postgres"):
        found[f"PostgreSQL over TCP as {user} without a password"] = succeeds_on_postgres(facts["postgres_port"], user)
    name = f".s.PGSQL.{facts['postgres_port']}"
    sockets = [folder for folder in ("/tmp", "/var/run/postgresql") if (Path(folder) / name).exists()]
    found["PostgreSQL over a socket"] = bool(sockets)
    for name in facts["paths"]:
        path = Path(facts["home"]) / name
        found[f"read {name}"] = can(lambda path=path: list(path.iterdir()) if path.is_dir() else path.read_bytes())
        found[f"write {name}"] = can(lambda path=path: os.access(path, os.W_OK))
    found["list the home"] = can(lambda: list(Path(facts["home"]).iterdir()))
    found["create a file in the home"] = can(lambda: (Path(facts["home"]) / "planted").write_text("x"))
    for pid in facts["pids"]:
        found[f"environment of process {facts['pids'][pid]}"] = can(Path(f"/proc/{pid}/environ").read_bytes)
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        found[f"secret on the command line of process {facts['pids'][pid]}"] = any(
            word in line for word in (b"password", b"secret", b"LOCAL")
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
