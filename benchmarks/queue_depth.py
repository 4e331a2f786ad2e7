"""Cost of the embedded queue by its depth: ``python -m benchmarks.queue_depth`` (ten minutes on two cores).

A loop of boto3 receives, extends and deletes batches of ten until the queues are empty, and counts each message. The
cost is the CPU time of the server's process per message; the wall time is given too. The emulator as shipped is drained
at the same depth, for a few hundred messages only, because it takes minutes for a thousand.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import psutil

from benchmarks.harness import counted
from benchmarks.live_lane import services
from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines_tests.storage_fixtures import sqs_client

SHALLOW: Final = 2_000
DEEP: Final = 50_000
QUEUES: Final = 10
GROUPS: Final = 500
LARGE_BYTES: Final = 250_000
LARGE_EVERY: Final = 100
SHIPPED_DRAINED: Final = 200
MAX_RATIO: Final = 1.25
_BODY: Final = '{"symbol":"S","price":100.25,"volume":300,"timestamp":"2026-01-05T15:30:00.000000Z"}'


@dataclass(frozen=True, slots=True)
class Drain:
    """One drain.

    Attributes:
        messages: messages sent.
        drained: messages received, extended and deleted.
        repeated: messages received more than once.
        cpu_ms: CPU time of the server per drained message, in milliseconds.
        per_second: drained messages per second of wall time.
    """

    messages: int
    drained: int
    repeated: int
    cpu_ms: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Server:
    """A queue server to measure."""

    client: Any
    process: psutil.Process

    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system


def drain(server: Server, counts: Sequence[int], *, large: bool = False, limit: int | None = None) -> Drain:
    """Fill one queue per count, then drain them in turn.

    Args:
        counts: messages of each queue.
        large: whether every ``LARGE_EVERY``-th message has ``LARGE_BYTES``.
        limit: messages to drain; None for all.
    """
    urls = [_fill(server.client, count, large=large) for count in counts]
    wanted = sum(counts) if limit is None else limit
    seen: Counter[str] = Counter()
    began, cpu = perf_counter(), server.cpu_seconds()
    empty = 0
    while seen.total() < wanted and empty < len(urls):
        for url in urls:
            received = server.client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            empty = 0 if received else empty + 1
            if received:
                seen.update(message["MessageId"] for message in received)
                _extend_and_delete(server.client, url, [message["ReceiptHandle"] for message in received])
    cpu, wall = server.cpu_seconds() - cpu, perf_counter() - began
    for url in urls:
        server.client.delete_queue(QueueUrl=url)
    repeated = sum(times > 1 for times in seen.values())
    return Drain(sum(counts), len(seen), repeated, 1e3 * cpu / len(seen), len(seen) / wall)


def _fill(client: Any, count: int, *, large: bool) -> str:
    name = f"depth_{uuid.uuid4().hex[:8]}.fifo"
    attributes = {"FifoQueue": "true", "VisibilityTimeout": "3600"}
    url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    for first in range(0, count, 10):
        entries = [_entry(number, large=large) for number in range(first, min(first + 10, count))]
        failed = client.send_message_batch(QueueUrl=url, Entries=entries)["Failed"]
        if failed:
            raise RuntimeError(f"expected the queue to accept all messages, got {failed[0]}")
    return url


def _entry(number: int, *, large: bool) -> dict[str, str]:
    body = _BODY + " " * LARGE_BYTES if large and number % LARGE_EVERY == 0 else _BODY
    group = f"S{number % GROUPS}"
    return {"Id": str(number), "MessageBody": body, "MessageGroupId": group, "MessageDeduplicationId": str(number)}


def _extend_and_delete(client: Any, url: str, receipts: Sequence[str]) -> None:
    entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
    hidden = [{**entry, "VisibilityTimeout": 600} for entry in entries]
    client.change_message_visibility_batch(QueueUrl=url, Entries=hidden)
    client.delete_message_batch(QueueUrl=url, Entries=entries)


@contextmanager
def shipped_server() -> Iterator[Server]:
    """Run the emulator without the platform's changes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "SERVICES": "sqs",
            "LOG_LEVEL": "WARNING", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "PERSIST_STATE": "0",
            "STATE_DIR": folder, "TMPDIR": folder,
        }  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "ministack"], env=environment, cwd=folder)
        try:
            client = sqs_client(f"http://127.0.0.1:{port}", AwsCredentials("local", "local"))
            _wait_until_it_answers(port)
            yield Server(client, psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait()


def _wait_until_it_answers(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        SYSTEM_CLOCK.sleep(0.1)
    raise RuntimeError("expected the emulator to answer within a minute, it did not")


def prove(deep: int = DEEP, *, shipped: bool = True) -> dict[str, Any]:
    """Measure all drains and return the content of the result."""
    with services() as found:
        client = sqs_client(found.queue_endpoint, found.queue_credentials)
        server = Server(client, psutil.Process(found.queue.pid))
        drain(server, [SHALLOW // 4])  # connections, imports
        drains = {
            "shallow": drain(server, [SHALLOW]),
            "deep": drain(server, [deep]),
            "ten queues": drain(server, [deep // QUEUES] * QUEUES),
            "shallow, large bodies": drain(server, [SHALLOW], large=True),
            "deep, large bodies": drain(server, [deep], large=True),
        }
    complete = all(one.drained == one.messages and one.repeated == 0 for one in drains.values())
    ratios = {
        "deep / shallow": drains["deep"].cpu_ms / drains["shallow"].cpu_ms,
        "deep / ten queues": drains["deep"].cpu_ms / drains["ten queues"].cpu_ms,
        "deep / shallow, large bodies": drains["deep, large bodies"].cpu_ms / drains["shallow, large bodies"].cpu_ms,
    }
    if shipped:
        with shipped_server() as other:
            drains["emulator as shipped, deep"] = drain(other, [deep], limit=SHIPPED_DRAINED)
    return {
        "work": f"a loop of boto3 drains one queue of {SHALLOW:,} messages, one of {deep:,} and {QUEUES} of "
        f"{deep // QUEUES:,}, {GROUPS} groups each; the same with every {LARGE_EVERY}th body of "
        f"{LARGE_BYTES // 1_000} kB",
        "goal": f"each message received once; CPU of the server per message ≤ {MAX_RATIO}× whatever the depth",
        "found": [
            *(f"{name}: {_sentence(one)}" for name, one in drains.items()),
            "; ".join(f"{name}: {ratio:.2f}×" for name, ratio in ratios.items()),
        ],
        "met": complete and max(ratios.values()) <= MAX_RATIO,
        "figures": {"drains": {name: asdict(one) for name, one in drains.items()}, "ratios": ratios},
    }


def _sentence(one: Drain) -> str:
    return (
        f"{one.drained:,} of {one.messages:,}, {one.repeated} repeated, {one.cpu_ms:.3f} ms CPU per message, "
        f"{one.per_second:,.0f}/s"
    )


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if the goal is met."""
    parser = argparse.ArgumentParser(description="Measure the cost of the embedded queue by its depth.")
    parser.add_argument("--deep", type=int, default=DEEP, help="messages of the deep queue")
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    return 0 if counted("queue_depth", path=options.result, **prove(options.deep))["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
