"""Client of an SQS FIFO queue, based on boto3.

AWS and the embedded emulator differ only in the endpoint. SQS cannot receive a single message group, so sharding uses
several queues (``queue_routing.py``).
"""

import json
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotocoreConnectionError
from botocore.session import Session as BotocoreSession

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock, to_us
from surveillance_pipelines.contracts.errors import SurveillanceError, UnavailableError
from surveillance_pipelines.contracts.queue import AwsCredentials, Poll, QueueDepth, Received, SendEntry
from surveillance_pipelines.transports.publisher import Guarantee, PublishError
from surveillance_pipelines.transports.signed_calls import Action, SignedCalls

BATCH_SIZE: Final = 10
"""Limit of SQS for batch calls."""
MAX_WAIT_SECONDS: Final = 20
"""Limit of SQS for long polls."""
READ_TIMEOUT_SECONDS: Final = MAX_WAIT_SECONDS + 10.0

FIFO_GUARANTEE: Final = Guarantee(
    ordering="group",
    delivery="at_least_once",
    dedup_seconds=300.0,
    durable=True,
    keeps_group_order=False,
    after_failover="SQS replicates a message before it accepts it: nothing is lost.",
)
"""Guarantee of a FIFO queue on AWS. The embedded emulator keeps messages in memory."""

_CONTENT_BASED: Final = "ContentBasedDeduplication"

_Item = TypeVar("_Item")


_NOT_HIDDEN: Final = ("MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidParameterValue")
"""Codes for a receipt whose message is deleted, or visible again."""


class QueueError(PublishError):
    """Some entries of a batch call were not accepted."""

    def __init__(self, action: str, queue_url: str, failures: dict[int, str], count: int) -> None:
        first = next(iter(failures.items()))
        super().__init__(
            f"expected {queue_url} to {action} {count} entries, {len(failures)} failed; entry {first[0]}: {first[1]}; "
            "repeat the failed ones",
            failures,
        )

    @property
    def hides_messages(self) -> bool:
        """Whether a message may stay hidden: one of the receipts was refused although it is valid."""
        return not all(any(code in reason for code in _NOT_HIDDEN) for reason in self.failures.values())


_OUTAGE_CODES: Final = frozenset({
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "TooManyRequestsException", "RequestLimitExceeded", "SlowDown", "PriorRequestNotComplete", "RequestTimeout",
    "RequestTimeoutException",
})  # fmt: skip
"""Codes that botocore's standard mode attempts again."""

_TOO_MANY_REQUESTS: Final = 429


def is_outage(error: Exception) -> bool:
    """Return whether an exception means that SQS cannot answer now: unreachable, throttling, or an error of its own."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code")
        return status >= 500 or status == _TOO_MANY_REQUESTS or code in _OUTAGE_CODES
    return isinstance(error, (HTTPClientError, BotocoreConnectionError))


def translate_error(error: Exception) -> SurveillanceError | None:
    """Translate botocore's exceptions to an error of the platform; None for other exceptions."""
    if not isinstance(error, (BotoCoreError, ClientError)):
        return None
    return UnavailableError(
        f"expected SQS or S3 to accept the call: {error}",
        remedy="check SQS_QUEUE_URL, SQS_ENDPOINT_URL and the AWS credentials, or run `surveillance doctor`",
    )


class QueueClient:
    """Client and ``Publisher`` of a FIFO queue.

    Args:
        attempts: how often botocore tries a call that is throttled or breaks, with pauses of up to two seconds.
    """

    guarantee: Guarantee = FIFO_GUARANTEE

    def __init__(
        self,
        endpoint_url: str | None,
        region: str,
        credentials: AwsCredentials,
        queue_url: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        connect_timeout_seconds: float = 3.0,
        attempts: int = 3,
    ) -> None:
        self.queue_url = queue_url
        self._clock = clock
        core = BotocoreSession()
        session = boto3.Session(
            credentials.access_key_id, credentials.secret_access_key, credentials.session_token, region, core
        )
        self._client: Any = session.client(
            "sqs",
            endpoint_url=endpoint_url,
            config=Config(
                connect_timeout=connect_timeout_seconds,
                read_timeout=READ_TIMEOUT_SECONDS,
                retries={"mode": "standard", "total_max_attempts": attempts},
            ),
        )
        self._calls: Final = SignedCalls(
            self._client,
            session.get_credentials(),
            connect_timeout=connect_timeout_seconds,
            read_timeout=READ_TIMEOUT_SECONDS,
            ca_bundle=core.get_config_variable("ca_bundle"),
        )

    @cached_property
    def content_based_dedup(self) -> bool:
        """Whether SQS derives deduplication ids from bodies, so that trades with equal bodies have the same id."""
        return self._attributes(self.queue_url, _CONTENT_BASED).get(_CONTENT_BASED) == "true"

    def receive(
        self, max_messages: int = BATCH_SIZE, *, wait_seconds: int = 0, visibility_seconds: int
    ) -> list[Received]:
        """Return up to ten messages, in order within each group; they stay hidden for ``visibility_seconds``."""
        return self.poll(max_messages, wait_seconds=wait_seconds, visibility_seconds=visibility_seconds).messages

    def poll(self, max_messages: int = BATCH_SIZE, *, wait_seconds: int = 0, visibility_seconds: int) -> Poll:
        """Receive like ``receive``, and also return the queue's clock.

        The clock is the ``Date`` header of the response, in whole seconds. A queue server that sends none is assumed to
        share the host's clock.
        """
        begin = self._clock.now_us()
        response = self._calls.call(
            "ReceiveMessage",
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=max_messages,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=visibility_seconds,
            MessageSystemAttributeNames=["All"],
        )
        received_at = self._clock.now_us()
        messages = [_received(message, received_at) for message in response.get("Messages", [])]
        metadata = response["ResponseMetadata"]
        answered_at = self._answer_time(metadata)
        return Poll(messages, begin if answered_at is None else answered_at, 1 + metadata.get("RetryAttempts", 0))

    def probe(self) -> None:
        """Call SQS without receiving a message.

        Raises:
            ClientError, BotoCoreError: if it does not answer.
        """
        self._attributes(self.queue_url, _CONTENT_BASED)

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete messages by receipt handle.

        Raises:
            QueueError: if SQS did not accept some receipts; the other messages are deleted.
        """
        self._in_batches("delete", "DeleteMessageBatch", [{"ReceiptHandle": receipt} for receipt in receipts])

    def extend_visibility(self, receipts: Sequence[str], seconds: int) -> None:
        """Hide received messages for ``seconds`` from now on; 0 makes them visible immediately.

        Raises:
            QueueError: if SQS did not accept some receipts.
        """
        entries = [{"ReceiptHandle": receipt, "VisibilityTimeout": seconds} for receipt in receipts]
        self._in_batches("extend", "ChangeMessageVisibilityBatch", entries)

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        """Put messages on the queue, in the order given, and return their message ids.

        Raises:
            QueueError: if SQS did not accept some entries. A later entry of a group may be on the queue although an
                earlier one failed.
        """
        results = self._in_batches("send", "SendMessageBatch", [_sent(entry) for entry in entries])
        return [result["MessageId"] for result in results]

    def depth(self) -> QueueDepth:
        """Return the approximate message counts of SQS."""
        return self._depth(self.queue_url)

    def dead_letter_depth(self) -> QueueDepth | None:
        """Return the approximate message counts of the dead-letter queue; None if the queue has none.

        SQS moves messages to it that were received ``maxReceiveCount`` times without being deleted.
        """
        url = self.dead_letter_url()
        return None if url is None else self._depth(url)

    def dead_letter_url(self) -> str | None:
        """Return the URL of the queue's dead-letter queue; None if it has none."""
        policy = self._attributes(self.queue_url, "RedrivePolicy").get("RedrivePolicy")
        if policy is None:
            return None
        *_, owner, name = json.loads(policy)["deadLetterTargetArn"].split(":")
        return self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=owner)["QueueUrl"]

    def close(self) -> None:
        """Close the connections."""
        self._calls.close()
        self._client.close()

    def clock_difference(self) -> tuple[int, int] | None:
        """Return the bounds of the host's clock minus the queue's clock, in microseconds; None if it has no clock.

        The queue's clock has a resolution of one second, so the bounds are at least that far apart.
        """
        begin = self._clock.now_us()
        response = self._client.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["QueueArn"])
        end, answered_at = self._clock.now_us(), self._answer_time(response["ResponseMetadata"])
        return None if answered_at is None else (begin - answered_at - MICROSECONDS, end - answered_at)

    @staticmethod
    def _answer_time(metadata: dict[str, Any]) -> int | None:
        header = metadata.get("HTTPHeaders", {}).get("date")
        return None if header is None else to_us(parsedate_to_datetime(header))

    def _depth(self, queue_url: str) -> QueueDepth:
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        attributes = self._attributes(queue_url, *names)
        return QueueDepth(*(int(attributes.get(name, 0)) for name in names))

    def _attributes(self, queue_url: str, *names: str) -> dict[str, str]:
        response = self._client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(names))
        return response.get("Attributes", {})

    def _in_batches(self, verb: str, action: Action, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Call SQS for batches of ten entries. Failures are raised after all batches were sent."""
        results: list[dict[str, Any]] = []
        failures: dict[int, str] = {}
        for start, batch in _batches(entries):
            numbered = [{"Id": str(start + offset), **entry} for offset, entry in enumerate(batch)]
            response = self._calls.call(action, QueueUrl=self.queue_url, Entries=numbered)
            results += response.get("Successful", [])
            for failed in response.get("Failed", []):
                failures[int(failed["Id"])] = f"{failed['Code']}: {failed.get('Message', 'no message')}"
        if failures:
            raise QueueError(verb, self.queue_url, dict(sorted(failures.items())), len(entries))
        return sorted(results, key=lambda result: int(result["Id"]))


def _batches(items: Sequence[_Item]) -> Iterator[tuple[int, Sequence[_Item]]]:
    for start in range(0, len(items), BATCH_SIZE):
        yield start, items[start : start + BATCH_SIZE]


def _sent(entry: SendEntry) -> dict[str, Any]:
    fields = {"MessageBody": entry.body, "MessageGroupId": entry.group_id}
    return fields if entry.dedup_id is None else fields | {"MessageDeduplicationId": entry.dedup_id}


def _received(message: dict[str, Any], received_at: int) -> Received:
    attributes = message.get("Attributes", {})
    return Received(
        message_id=message["MessageId"],
        body=message["Body"],
        group_id=attributes.get("MessageGroupId", ""),
        dedup_id=attributes.get("MessageDeduplicationId"),
        sequence_number=attributes.get("SequenceNumber", ""),
        sent_at=int(attributes["SentTimestamp"]) * 1_000 if "SentTimestamp" in attributes else received_at,
        received_at=received_at,
        receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
        receipt_handle=message["ReceiptHandle"],
        sender_id=attributes.get("SenderId"),
    )
