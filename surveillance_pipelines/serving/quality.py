"""What would make scores, or the books about the queue, untrustworthy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
import psycopg

_BALANCE: Final = """
    SELECT (SELECT count(*) FROM ops.inbox),
           (SELECT count(*) FROM ops.inbox LEFT JOIN ops.ledger USING (message_id) WHERE ledger.message_id IS NULL),
           (SELECT count(*) FROM ops.ledger LEFT JOIN ops.inbox USING (message_id) WHERE inbox.message_id IS NULL),
           (SELECT coalesce(jsonb_object_agg(outcome, messages), '{}')
            FROM (SELECT outcome, count(*) AS messages FROM ops.ledger GROUP BY outcome) AS counted)
"""


@dataclass(frozen=True, slots=True)
class Balance:
    """Inputs against outcomes.

    Attributes:
        taken: messages in the inbox.
        without_outcome: of these, messages that the ledger does not know.
        without_message: ledger rows without a message.
        outcomes: messages by outcome: scored, late, dead, duplicate.
    """

    taken: int
    without_outcome: int
    without_message: int
    outcomes: dict[str, int]

    @property
    def holds(self) -> bool:
        return not self.without_outcome and not self.without_message and self.taken == sum(self.outcomes.values())

    @property
    def dead_share(self) -> float:
        return self.outcomes.get("dead", 0) / self.taken if self.taken else 0.0


def balance(connection: psycopg.Connection[Any]) -> Balance:
    """Return inputs against outcomes over all queues, at one instant."""
    row = connection.execute(_BALANCE).fetchone()
    assert row is not None
    return Balance(*row)


def outside_unit_interval(scores: pl.DataFrame, columns: Sequence[str]) -> dict[str, int]:
    """Return column → values that are no number from 0 to 1, of the columns that have any."""
    inside = pl.col(*columns).is_between(0.0, 1.0).fill_null(value=False)
    counts = scores.select((~inside).sum()).row(0, named=True)
    return {name: count for name, count in counts.items() if count}
