"""One SURVEILLANCE_HOME run by one release; its queues and tables are read directly, without the release's code."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString

import boto3
import psutil
import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from benchmarks.upgrade_feed import BATCH_SIZE, Message
from benchmarks.upgrade_release import CHAMPION_QUERIES, SERVICES_FILE, Release, UpgradeError

LOG_TAIL: Final = 2_000

Rows = list[dict[str, Any]]

_STOP_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05
_HIDDEN_SECONDS: Final = 60
_TABLES: Final = """
    SELECT relnamespace::regnamespace::text AS schema, relname AS name FROM pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition
      AND relnamespace::regnamespace::text IN ('ops', 'surveillance')
    ORDER BY 1, 2
"""
_HAS_COLUMN: Final = """
    SELECT 1 FROM information_schema.columns WHERE table_schema = %s AND table_name = %s AND column_name = %s
"""


@dataclass(frozen=True)
class Consumed:
    """One message as a consumer of the output queue receives it."""

    group: str
    dedup_id: str
    body: str


class Platform:
    """A home with running embedded services, started by one release."""

    def __init__(self, release: Release, home: Path, addresses: Mapping[str, str]) -> None:
        self.release: Final = release
        self.home: Final = home
        self._inputs: Final = addresses["SQS_QUEUE_URL"]
        self._outputs: Final = addresses["OUTPUT_QUEUE_URL"]
        self._sqs: Final[Any] = boto3.client(
            "sqs",
            endpoint_url=addresses["SQS_ENDPOINT_URL"],
            region_name=addresses["AWS_REGION"],
            aws_access_key_id=addresses["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=addresses["AWS_SECRET_ACCESS_KEY"],
        )
        self._connection: Final = psycopg.Connection[DictRow].connect(
            addresses["DATABASE_URL"], autocommit=True, row_factory=dict_row
        )

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()
        self._sqs.close()

    def surveillance(self, *arguments: str, may_fail: bool = False) -> str:
        """Run a command of the release and return what it printed.

        Raises:
            UpgradeError: if it ends with another code than 0, or than 0 and 1 where it may fail.
        """
        done = self.release.run([*self.release.command, *arguments], self.home)
        if done.returncode not in ((0, 1) if may_fail else (0,)):
            raise UpgradeError(
                f"expected `surveillance {' '.join(arguments[:4])}` of the {self.release.name} release to succeed, it "
                f"ended with {done.returncode}:\n{done.stdout[-LOG_TAIL:]}\n{done.stderr[-LOG_TAIL:]}"
            )
        return done.stdout

    def query(self, statement: LiteralString, *parameters: Any) -> Rows:
        """Return the rows that a statement gives."""
        return self._connection.execute(statement, parameters).fetchall()

    def count(self, statement: LiteralString, *parameters: Any) -> int:
        """Return the number that a statement counts as ``n``."""
        return self.query(statement, *parameters)[0]["n"]

    def tables(self) -> dict[str, Rows]:
        """Return every row of every table of the platform, by the table's name with its schema."""
        found: dict[str, Rows] = {}
        for table in self.query(_TABLES):
            query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(table["schema"], table["name"]))
            found[f"{table['schema']}.{table['name']}"] = self._connection.execute(query).fetchall()
        return found

    def champion(self) -> str:
        """Return the hash of the champion on record."""
        for table, column, query in CHAMPION_QUERIES:
            if self.query(_HAS_COLUMN, *table.split("."), column):
                hashes = sorted({row["bundle_hash"] for row in self.query(query)})
                if len(hashes) != 1:
                    raise UpgradeError(f"expected one champion in {table}, found {hashes}")
                return hashes[0]
        raise UpgradeError(f"expected one of {', '.join(table for table, _, _ in CHAMPION_QUERIES)}, found none")

    def send(self, messages: Sequence[Message]) -> None:
        """Send at most ten messages to the input queue in one call."""
        entries = [
            {
                "Id": str(place),
                "MessageBody": message.body,
                "MessageGroupId": message.group,
                "MessageDeduplicationId": message.dedup_id,
            }
            for place, message in enumerate(messages)
        ]
        if refused := self._sqs.send_message_batch(QueueUrl=self._inputs, Entries=entries).get("Failed"):
            raise UpgradeError(f"expected the input queue to accept {len(entries)} messages, it refused {refused}")

    def waiting_inputs(self) -> int:
        """Return how many messages the input queue holds, hidden ones included."""
        return self._depth(self._inputs)

    def consume(self) -> list[Consumed]:
        """Take every message off the output queue, in order."""
        found: list[Consumed] = []
        while self._depth(self._outputs):
            batch = self._sqs.receive_message(
                QueueUrl=self._outputs,
                MaxNumberOfMessages=BATCH_SIZE,
                WaitTimeSeconds=1,
                VisibilityTimeout=_HIDDEN_SECONDS,
                MessageSystemAttributeNames=["All"],
            ).get("Messages", [])
            for message in batch:
                attributes = message["Attributes"]
                group, dedup_id = attributes["MessageGroupId"], attributes["MessageDeduplicationId"]
                found.append(Consumed(group, dedup_id, message["Body"]))
            if batch:
                handles = enumerate(message["ReceiptHandle"] for message in batch)
                entries = [{"Id": str(place), "ReceiptHandle": handle} for place, handle in handles]
                self._sqs.delete_message_batch(QueueUrl=self._outputs, Entries=entries)
        return found

    def _depth(self, url: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


@contextmanager
def running(release: Release, home: Path) -> Iterator[Platform]:
    """Run the embedded services of a home for a ``with`` block, then stop them, so that they save their state."""
    log = home.parent / f"services-{release.name}.log"
    with log.open("ab") as errors:
        holder = subprocess.Popen(
            release.holder,
            env=release.environment(home),
            cwd=home.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert holder.stdout is not None
        if not (line := holder.stdout.readline()):
            tail = log.read_text(errors="replace")[-LOG_TAIL:]
            raise UpgradeError(f"expected the services of the {release.name} release to start, they did not:\n{tail}")
        platform = Platform(release, home, json.loads(line))
        try:
            yield platform
        finally:
            platform.close()
    finally:
        with suppress(subprocess.TimeoutExpired):
            holder.communicate(timeout=_STOP_SECONDS)  # closes its standard input
        holder.kill()
        _stop_services(home)


def _stop_services(home: Path) -> None:
    """Stop the services of a home now; by themselves they would wait some seconds for another process."""
    file = home / SERVICES_FILE
    if not file.is_file():
        return
    recorded = json.loads(file.read_text())
    services = [recorded[name]["pid"] for name in ("supervisor", "postgres", "queue")]
    with suppress(ProcessLookupError):
        os.kill(recorded["supervisor"]["pid"], signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while any(map(_lives, services)):
        if time.monotonic() > deadline:
            raise UpgradeError(f"expected the services of {home.name} to stop within {_STOP_SECONDS:.0f} s")
        time.sleep(_LOOK_SECONDS)


def _lives(pid: int) -> bool:
    """Say whether a process is running; one that has ended and was not reaped is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
