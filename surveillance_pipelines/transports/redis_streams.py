"""A Valkey or Redis stream as an output channel.

Each message is one entry with the fields ``id`` (id of the row, for deduplication), ``group`` (the symbol) and ``body``
(JSON). A script adds an entry only if its id was not added within ``DEDUP_SECONDS``, so a message that is sent again
after a timeout or a crash is in the stream once. The stream is trimmed to about ``REDIS_MAX_LENGTH`` entries, including
unread ones.

Replication is asynchronous. After a failover, the promoted replica may lack the newest entries, which are not sent
again, or their ids, so that a retried message appears twice. Consumers that must not act twice have to remember the
ids.
"""

from collections.abc import Sequence
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.contracts.urls import without_password
from surveillance_pipelines.transports.publisher import ChannelDownError, Guarantee, PublishError

DEDUP_SECONDS: Final = 3600
"""Period for which ids are kept; much longer than the pause between two attempts to send a message."""

TIMEOUT_SECONDS: Final = 5.0

STREAM_GUARANTEE: Final = Guarantee(
    ordering="group",
    delivery="at_least_once",
    dedup_seconds=float(DEDUP_SECONDS),
    durable=False,
    keeps_group_order=True,
    after_failover=(
        "Entries that a promoted replica had not received are lost; a retried message may appear twice, under one id."
    ),
)
"""Holds for any server settings. With ``appendonly yes``, a killed process loses nothing, and a crashed machine at most
the last second; with ``appendfsync always``, neither loses messages."""

_ADD: Final = """
local added, refused = {}, {}
for i = 2, #KEYS do
    local id, group, body = ARGV[3 * i - 3], ARGV[3 * i - 2], ARGV[3 * i - 1]
    local entry = refused[group] or redis.call('GET', KEYS[i])
    if not entry then
        entry = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'id', id, 'group', group, 'body', body)
        if type(entry) == 'table' and entry.err then
            entry = 'ERROR ' .. entry.err
            refused[group] = entry
        else
            redis.call('SET', KEYS[i], entry, 'EX', ARGV[2])
        end
    end
    added[i - 1] = entry
end
return added
"""
"""KEYS: the stream, then one key per id. ARGV: length, seconds, then id, group and body of each message. Returns the
entry id or the refusal of each message; after a refused message, no further message of its group is added."""

_REFUSED: Final = "ERROR "


class RedisStream:
    """Implements ``Publisher`` over one stream.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` URL; may contain a password.
        stream: key of the stream. The keys of ids contain its name in braces, so that a cluster keeps both on one node.
        max_length: approximate maximum number of entries of the stream.
        timeout_seconds: timeout of a call.
    """

    guarantee: Guarantee = STREAM_GUARANTEE

    def __init__(self, url: str, stream: str, max_length: int, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._stream: Final = stream
        self._max_length: Final = max_length
        self._client: Final[Any] = _client(url, timeout_seconds)
        self._add: Final = self._client.register_script(_ADD)

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        """Add messages to the stream, in the order given, and return their entry ids.

        A message with an id that was added within ``DEDUP_SECONDS`` is not added again; its first entry id is returned.

        Raises:
            PublishError: if messages were refused; it contains them and the later messages of their groups.
            ChannelDownError: if the server does not answer, is loading, or accepts no writes.
        """
        keys = [self._stream, *(f"{{{self._stream}}}:id:{entry.dedup_id}" for entry in entries)]
        arguments: list[Any] = [self._max_length, DEDUP_SECONDS]
        for entry in entries:
            arguments += [entry.dedup_id or "", entry.group_id, entry.body]
        try:
            added: list[str] = self._add(keys=keys, args=arguments)
        except redis.RedisError as error:
            raise ChannelDownError(_sentence(error)) from error
        failures = {i: entry.removeprefix(_REFUSED) for i, entry in enumerate(added) if entry.startswith(_REFUSED)}
        if failures:
            raise PublishError(
                f"expected the stream {self._stream} to accept {len(entries)} messages, {len(failures)} were refused, "
                f"the first: {failures[min(failures)]}",
                failures,
            )
        return added

    def ping(self) -> None:
        """Check that the server answers and runs the script, without adding an entry.

        Raises:
            ChannelDownError: if it does not.
        """
        self.send([])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _client(url: str, timeout_seconds: float) -> Any:
    try:
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),  # the delivery loop retries, and reports it
            health_check_interval=0,
        )
    except ValueError:  # it contains a part of the URL, which may be the password
        raise InvalidInputError(
            f"expected REDIS_URL as redis://user:password@host:port/number, got {without_password(url)}",
            remedy="write @ : / ? # % and spaces of the password as %40 %3A %2F %3F %23 %25 and %20",
        ) from None


def _sentence(error: redis.RedisError) -> str:
    return f"the stream's server did not accept the call ({type(error).__name__}: {error})"
