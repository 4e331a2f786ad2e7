"""The anchor's work per message: the platform's models and engine, without durable state.

It keeps no ledger, no outbox and no snapshot: less work than a drain run does for each message.
"""

from surveillance_pipelines.contracts.outputs import to_message
from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.engine.effects import Known
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.runtime.serving_engine import load_calendars
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.predictors import load_predictor
from surveillance_pipelines.transports.sqs import QueueClient

HIDDEN_SECONDS = 600
"""Visibility timeout of a message; its run may wait for others."""


class PlainScorer:
    """An engine with the promoted bundle whose symbols start without history."""

    def __init__(self, settings: Settings) -> None:
        if settings.database_url is None:
            raise ValueError("expected DATABASE_URL in the environment, got none")
        with connect(settings.database_url.get_secret_value()) as connection:
            scorer = load_predictor(connection, settings)
            sessions = load_calendars(connection, settings, {})
        self._engine = Engine(engine_config(settings, scorer), scorer, sessions, settings.symbols)
        self.inputs, self.outputs = plain_queues(settings)

    def answer(self, message: Received) -> int:
        """Score one message, publish its rows, delete it, and return the number of rows."""
        readings = self._engine.read([message])
        for symbol in self._engine.symbols_to_seed(readings):
            self._engine.seed(symbol, Seed())
        rows = self._engine.process(readings, Known()).outputs
        entries = [
            SendEntry(canonical_json({**to_message(row), "sent_at": message.sent_at}), row.symbol, row.id)
            for row in rows
        ]
        self.outputs.send(entries)
        self.inputs.delete([message.receipt_handle])
        return len(rows)


def plain_queues(settings: Settings) -> tuple[QueueClient, QueueClient]:
    """Return the first input queue and the output queue of the environment."""
    from surveillance_pipelines.contracts.queue import AwsCredentials

    key, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    if not settings.sqs_queue_url or settings.output_queue_url is None or key is None or secret is None:
        raise ValueError("expected SQS_QUEUE_URL, OUTPUT_QUEUE_URL and AWS keys in the environment")
    keys = AwsCredentials(key.get_secret_value(), secret.get_secret_value())
    inputs, outputs = (
        QueueClient(settings.sqs_endpoint_url, settings.aws_region, keys, url)
        for url in (settings.sqs_queue_url[0], settings.output_queue_url)
    )
    return inputs, outputs
