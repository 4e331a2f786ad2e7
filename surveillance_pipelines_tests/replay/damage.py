"""Ways in which the inputs of an output are no longer what they were, each with what a replay says of it."""

from typing import Final, NamedTuple

LAST_PROVISIONAL: Final = """
    SELECT body::jsonb ->> 'id' FROM ops.outbox
    WHERE body::jsonb ->> 'bar_status' = 'provisional' AND group_id = 'AAPL' ORDER BY position DESC LIMIT 1
"""
LAST_FINAL: Final = "SELECT id FROM surveillance.predictions WHERE symbol = 'AAPL' ORDER BY bar_start DESC LIMIT 1"


class Change(NamedTuple):
    """A change of stored data, the output to replay, the statement (``id`` is the output's), the expected message."""

    what: str
    output: str
    done: str
    message: str


DAMAGE: Final = (
    Change(
        "a tick of the bar in progress",
        LAST_PROVISIONAL,
        """UPDATE ops.inbox SET body = replace(body, '"price":', '"price":1') WHERE message_id =
           (SELECT body::jsonb ->> 'correlation_id' FROM ops.outbox WHERE id = %(id)s)""",
        "input_hash: on record",
    ),
    Change(
        "a tick that is no JSON any more",
        LAST_PROVISIONAL,
        """UPDATE ops.inbox SET body = replace(body, '{', '(') WHERE message_id =
           (SELECT body::jsonb ->> 'correlation_id' FROM ops.outbox WHERE id = %(id)s)""",
        "body of message",
    ),
    Change(
        "a tick that happened at another time",
        LAST_PROVISIONAL,
        """UPDATE ops.inbox SET body = replace(body, '2024', '2023') WHERE message_id =
           (SELECT body::jsonb ->> 'correlation_id' FROM ops.outbox WHERE id = %(id)s)""",
        "no longer matches its columns in ops.inbox",
    ),
    Change(
        "the close of the bar itself",
        LAST_FINAL,
        """UPDATE ops.live_bars SET close = close + 1e-9 WHERE (symbol, bar_start) =
           (SELECT symbol, bar_start FROM surveillance.predictions WHERE id = %(id)s)""",
        "close of bar AAPL 2024-03-05T",
    ),
    Change(
        "a message of the closed bar",
        LAST_FINAL,
        """UPDATE ops.inbox SET body = replace(body, '"price":', '"price":1') WHERE message_id =
           (SELECT b.source_message_id FROM ops.live_bars b JOIN surveillance.predictions p USING (symbol, bar_start)
            WHERE p.id = %(id)s)""",
        "(message ",
    ),
    Change(
        "a bar twenty minutes before",
        LAST_FINAL,
        """UPDATE ops.live_bars b SET volume = volume + 1 FROM surveillance.predictions p
           WHERE p.id = %(id)s AND b.symbol = p.symbol AND b.bar_start = p.bar_start - interval '20 minutes'""",
        "volume of bar AAPL 2024-03-05T",
    ),
    Change(
        "what the peers of a bar before had done",
        LAST_FINAL,
        """UPDATE ops.live_bars b SET market_return = market_return + 1e-9 FROM surveillance.predictions p
           WHERE p.id = %(id)s AND b.symbol = p.symbol AND b.bar_start = p.bar_start - interval '5 minutes'""",
        "features of bar 2024-03-05T",
    ),
    Change(
        "the bars that the lane was seeded with",
        LAST_FINAL,
        "UPDATE ops.lane_seeds SET history = set_byte(history, 9, get_byte(history, 9) # 1) WHERE symbol = 'AAPL'",
        "history in ops.lane_seeds",
    ),
    Change(
        "the score itself",
        LAST_FINAL,
        "UPDATE surveillance.predictions SET anomaly_score = anomaly_score + 1e-15 WHERE id = %(id)s",
        "score: on record",
    ),
)

LOSSES: Final = (
    Change(
        "the bundle",
        LAST_FINAL,
        "UPDATE surveillance.predictions SET bundle_hash = repeat('f', 64)",
        "restore that folder from a backup",
    ),
    Change(
        "the feature view",
        LAST_FINAL,
        "UPDATE surveillance.predictions SET feature_view = 'core_v0'",
        "use the release that had it",
    ),
    Change(
        "the seeds",
        LAST_FINAL,
        "DELETE FROM ops.lane_seeds",
        "the seed of AAPL's features is not on record",
    ),
    Change("the messages", LAST_PROVISIONAL, "DELETE FROM ops.inbox", "it is no longer kept"),
    Change("the bars", LAST_FINAL, "DELETE FROM ops.live_bars", "in ops.live_bars"),
)
