"""The outbox of one channel in PostgreSQL, guarded by the lease of the channel."""

from collections.abc import Sequence
from typing import Final

from surveillance_pipelines.stores import outbox
from surveillance_pipelines.stores.database import Reconnector
from surveillance_pipelines.stores.lease import RENEW, Lease, renew, renewal, require_held
from surveillance_pipelines.stores.outbox import OutboxRow


class PostgresDeliveryStore:
    """Implements ``delivery_loop.DeliveryStore``.

    Args:
        link: connection of the delivering thread, in autocommit mode.
        heartbeat: connection of the thread that renews the lease, in autocommit mode.
        lease: lease ``delivery:<channel>``.
        channel: name of the channel.
    """

    def __init__(self, link: Reconnector, heartbeat: Reconnector, lease: Lease, channel: str) -> None:
        self._link: Final = link
        self._heartbeat: Final = heartbeat
        self._lease: Final = lease
        self._channel: Final = channel

    def queues(self) -> Sequence[str]:
        return outbox.queues(self._link.get())

    def undelivered(self, queue_url: str, *, after: int, limit: int) -> Sequence[OutboxRow]:
        return outbox.undelivered(self._link.get(), queue_url, self._channel, after=after, limit=limit)

    def record(
        self, queue_url: str, rows: Sequence[OutboxRow], references: Sequence[str | None], *, at: int, cursor: int
    ) -> None:
        connection = self._link.get()
        with connection.transaction():
            with connection.pipeline():
                renewed = connection.execute(RENEW, renewal(self._lease))
                outbox.record_deliveries(
                    connection,
                    queue_url,
                    self._channel,
                    rows,
                    delivered_at=at,
                    cursor=cursor,
                    references=references,
                )
                outbox.clear_failure(connection, self._channel)
            require_held(renewed, self._lease)

    def record_failure(self, error: str, *, at: int) -> None:
        queues = outbox.queues(self._link.get())
        outbox.record_failure(self._link.get(), queues, self._channel, error, failed_at=at)

    def renew(self) -> None:
        renew(self._heartbeat.get(), self._lease)
