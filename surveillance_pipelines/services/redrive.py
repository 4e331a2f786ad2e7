"""Redrive: messages that SQS has set aside return to their input queue.

SQS moves a message to the dead-letter queue after it was received ``maxReceiveCount`` times without being deleted. Such
a message has no outcome. A redrive records it as a dead letter, deletes it from the dead-letter queue, and replays it.
A crash in between loses nothing: the next redrive recognises recorded messages and replays those that were not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.services.dead_letters import Replayed, replay
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.stores.set_aside import SET_ASIDE, record_set_aside
from surveillance_pipelines.transports.sqs import BATCH_SIZE, QueueClient

_HIDDEN_SECONDS: Final = 60
"""Time to record and delete a batch; SQS shows it again afterwards."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """Result of a redrive.

    Attributes:
        recorded: messages that had no outcome; now they are dead letters, or duplicates of a known message.
        known: messages that already had one; they were only deleted.
        replayed: decisions about the dead letters that were set aside and not replayed before.
    """

    recorded: int
    known: int
    replayed: Replayed


def redrive(stores: Stores) -> Redriven:
    """Return all messages of the dead-letter queues of the input queues to their input queues.

    Messages that the decoder refuses stay dead letters.

    Raises:
        QueueError: if SQS did not accept all calls; a repetition continues.
    """
    recorded = known = 0
    for queue_url in stores.endpoints.queue_urls:
        source = stores.queue(queue_url)
        dead_letter_url = source.dead_letter_url()
        if dead_letter_url is None:
            continue
        aside = stores.queue(dead_letter_url)
        while batch := aside.receive(BATCH_SIZE, wait_seconds=1, visibility_seconds=_HIDDEN_SECONDS):
            new = _record(stores, source, aside, batch)
            recorded += new
            known += len(batch) - new
    return Redriven(recorded, known, replay(stores, [], code=SET_ASIDE))


def _record(stores: Stores, source: QueueClient, aside: QueueClient, batch: Sequence[Received]) -> int:
    with stores.connect() as connection:
        new = record_set_aside(
            connection,
            source.queue_url,
            batch,
            committed_at=stores.clock.now_us(),
            content_based_dedup=source.content_based_dedup,
        )
    aside.delete([message.receipt_handle for message in batch])
    return new
