"""Reads the results of the served day: messages of the output queue, ledger counts and latencies."""

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.transports.sqs import QueueClient

_HOLD_SECONDS: Final = 60
_MAX_PER_POLL: Final = 200

_LATENCIES: Final = """
WITH published AS (
    SELECT body::jsonb ->> 'correlation_id' AS message_id, (body::jsonb ->> 't_computed')::timestamptz AS computed_at,
           delivered_at AS published_at
    FROM ops.outbox JOIN ops.outbox_deliveries USING (position) WHERE channel = 'sqs'
), spans AS (
    SELECT received_at - sent_at AS waiting, computed_at - received_at AS compute, published_at - sent_at AS whole
    FROM published JOIN ops.inbox USING (message_id)
)
SELECT percentile_cont(%(at)s::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM waiting) * 1000),
       percentile_cont(%(at)s::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM compute) * 1000),
       percentile_cont(%(at)s::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM whole) * 1000)
FROM spans
"""
"""Only inputs that caused an output are measured; outputs caused by the clock have no input."""

_SPANS: Final = (
    "sent → received (input queue)", "received → scored (micro-batch)", "sent → published (queue to queue)",
)  # fmt: skip

Latencies: TypeAlias = dict[str, dict[str, float]]
"""Span → percentile name → milliseconds."""


def receive_messages(queue: "QueueClient") -> list[dict[str, Any]]:
    """Receive and delete the messages of the output queue; wait at most one second for the first."""
    messages: list[dict[str, Any]] = []
    while len(messages) < _MAX_PER_POLL:
        batch = queue.receive(10, wait_seconds=0 if messages else 1, visibility_seconds=_HOLD_SECONDS)
        if not batch:
            break
        messages += [json.loads(received.body) for received in batch]
        queue.delete([received.receipt_handle for received in batch])
    return messages


def latencies(stores: Stores) -> Latencies:
    """Return p50, p95 and p99 of the latencies of inputs that caused an output, in milliseconds."""
    with stores.connect() as connection:
        row = connection.execute(_LATENCIES, {"at": [0.5, 0.95, 0.99]}).fetchone()
    if row is None or row[0] is None:
        return {}
    return {
        name: dict(zip(("p50", "p95", "p99"), values, strict=True)) for name, values in zip(_SPANS, row, strict=True)
    }


def count_outcomes(stores: Stores) -> tuple[dict[str, int], int]:
    """Return ledger outcome → number of inputs, and the number of unpublished outputs."""
    from surveillance_pipelines.stores.outbox import SQS, waiting

    with stores.connect() as connection:
        outcomes = connection.execute("SELECT outcome, count(*) FROM ops.ledger GROUP BY 1 ORDER BY 1").fetchall()
        return dict(outcomes), waiting(connection, SQS).count
