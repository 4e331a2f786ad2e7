"""The database of a schedule: the live lane's tables in memory, their uniqueness, row lock and transactions.

What ``stores/lease.py``, ``ledger.py``, ``outbox.py`` and ``seeding.py`` ask of PostgreSQL, and nothing else;
``test_store.py`` runs the same script against both and compares.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS, day_start_us, to_datetime, to_us, utc_date
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.outputs import OutputRow
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.bar_builder import bar_start_of
from surveillance_pipelines.engine.effects import ClockRow, DeadLetter, Effects, LaneSeed, Outcome, StateRow
from surveillance_pipelines.engine.repeats import kept_content
from surveillance_pipelines.engine.symbol_state import REVISABLE_BARS
from surveillance_pipelines.features.views import HISTORY_BARS
from surveillance_pipelines.stores.lease import Lease, LeaseLostError
from surveillance_pipelines.stores.outbox import OutboxRow
from surveillance_pipelines_tests.simulation.timeline import Timeline

HISTORY_DAYS: Final = 10
QUEUE: Final = "q"
"""Name of the input queue and of its lease."""


class UniqueViolationError(RuntimeError):
    """A primary key or unique index says no; the transaction wrote nothing."""


@dataclass(slots=True)
class LeaseRow:
    """One row of ``ops.leases``; ``locked`` while a transaction is open that has written it."""

    holder: str
    fencing: int
    expires_at: int
    commits: int = 0
    locked: bool = False


@dataclass(slots=True)
class Posted:
    """One row of the outbox, and when each channel got it."""

    row: OutboxRow
    delivered_at: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction took in, in order: messages, or one reading of the event clock."""

    messages: tuple[Received, ...]
    clock: ClockRow | None
    fencing: int
    bundle_hash: str | None = None  # scores from here on


@dataclass
class Database:
    """Tables. Dictionaries keep the order of insertion, which stands for the identity columns.

    Attributes:
        lake: symbol → bars that other sources have landed, ascending; never written to.
        commits: every transaction in order, from which an oracle replays.
    """

    timeline: Timeline
    lake: Mapping[str, Sequence[Bar]] = field(default_factory=dict)
    leases: dict[str, LeaseRow] = field(default_factory=dict)
    inbox: dict[str, Received] = field(default_factory=dict)
    ledger: dict[str, Outcome] = field(default_factory=dict)
    dedup_ids: dict[str, str] = field(default_factory=dict)
    """Each with the content of the message that had it first."""
    dead_letters: dict[str, DeadLetter] = field(default_factory=dict)
    instruments: dict[str, str] = field(default_factory=dict)
    live_bars: dict[tuple[str, int, int], Bar] = field(default_factory=dict)
    feature_state: dict[tuple[str, str], StateRow] = field(default_factory=dict)
    seeds: dict[tuple[str, int | None], LaneSeed] = field(default_factory=dict)
    outputs: dict[str, OutputRow] = field(default_factory=dict)
    outbox: dict[str, Posted] = field(default_factory=dict)
    posted: list[Posted] = field(default_factory=list)  # the outbox by position, from 1
    cursors: dict[str, int] = field(default_factory=dict)  # channel → every row up to this position is delivered
    delivery_fencing: dict[str, list[int]] = field(default_factory=dict)  # channel → of each recording transaction
    hidden_seconds: int = 0  # of the lease
    in_flight: dict[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)  # (fencing, batch) → receipts
    commits: list[Commit] = field(default_factory=list)
    unfenced: set[str] = field(default_factory=set)  # leases whose holder is not checked: a planted bug
    checks_keys: bool = True  # likewise

    def acquire(self, holder: str, seconds: float, name: str = QUEUE) -> Lease | None:
        """Take a lease if it has expired and no open transaction has locked its row."""
        row, now = self.leases.get(name), self.timeline.now
        if row is not None and (row.locked or row.expires_at > now):
            return None
        fencing = 1 if row is None else row.fencing + 1
        self.leases[name] = LeaseRow(holder, fencing, now + round(seconds * MICROSECONDS))
        return Lease(name, holder, fencing, seconds)

    def renew(self, lease: Lease) -> None:
        row = self.require_held(lease)
        row.expires_at = self.timeline.now + round(lease.seconds * MICROSECONDS)

    def require_held(self, lease: Lease) -> LeaseRow:
        """Return the row of a lease; raises ``LeaseLostError`` once another run holds it."""
        row = self.leases.get(lease.name)
        if row is None or (
            lease.name not in self.unfenced and (row.holder, row.fencing) != (lease.holder, lease.fencing)
        ):
            raise LeaseLostError(f"expected to hold {lease.name} with fencing number {lease.fencing}")
        return row

    def committed(self, lease: Lease) -> int:
        """Return the number of a holder's last commit."""
        return self.require_held(lease).commits

    def found(self, messages: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Return the outbox rows of messages, with their positions."""
        return [self.outbox[message.id].row for message in messages if message.id in self.outbox]

    def release(self, lease: Lease) -> None:
        row = self.leases.get(lease.name)
        if row is not None and (row.holder, row.fencing) == (lease.holder, lease.fencing):
            row.expires_at = self.timeline.now

    @contextmanager
    def transaction(self, lease: Lease) -> Iterator[None]:
        """Renew the lease and keep its row locked, so that nobody takes over before the block has ended."""
        self.renew(lease)
        row = self.leases[lease.name]
        row.locked = True
        try:
            yield
        finally:
            row.locked = False

    def write(  # noqa: C901 (a table each)
        self, effects: Effects, messages: Sequence[OutboxRow], fencing: int
    ) -> list[OutboxRow]:
        """Write all rows or, where one violates a uniqueness that is an error, none; return the new outbox rows."""
        if self.checks_keys:
            self._check(effects)
        for row in effects.inbox:
            self.inbox[row.message.message_id] = row.message
        for outcome in effects.outcomes:
            self.ledger[outcome.message_id] = outcome
            if outcome.dedup_id is not None and outcome.outcome != "duplicate":
                self.dedup_ids[outcome.dedup_id] = kept_content(self.inbox[outcome.message_id].body)
        for letter in effects.dead_letters:
            self.dead_letters.setdefault(letter.message_id, letter)
        for instrument in effects.instruments:
            self.instruments.setdefault(instrument.symbol, instrument.calendar)
        for bar in effects.bars:
            self.live_bars.setdefault((bar.symbol, bar.bar_start, bar.revision), bar)
        for state in effects.states:
            self.feature_state[state.symbol, state.name] = state
        for seed in effects.seeds:
            self.seeds[seed.symbol, seed.as_of_bar_start] = seed
        for output in (*effects.anomalies, *effects.signals, *effects.predictions):
            self.outputs.setdefault(output.id, output)
        posted = self.post(messages)
        clock = effects.clock_rows[0] if effects.clock_rows else None
        bundle_hash = effects.bundles[0].bundle_hash if effects.bundles else None
        self.commits.append(Commit(tuple(row.message for row in effects.inbox), clock, fencing, bundle_hash))
        return posted

    def post(self, messages: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Append rows to the outbox and return those whose id is new, with their positions."""
        new: list[OutboxRow] = []
        for message in messages:
            if message.id not in self.outbox:
                row = replace(message, position=len(self.posted) + 1)
                self.outbox[row.id] = Posted(row)
                self.posted.append(self.outbox[row.id])
                new.append(row)
        return new

    def undelivered(self, channel: str, *, after: int = 0, limit: int) -> list[OutboxRow]:
        """Return the oldest rows that a channel has not got, behind its cursor and a position."""
        start = max(self.cursors.get(channel, 0), after)
        if start >= len(self.posted):
            return []
        return [posted.row for posted in self.posted[start:] if channel not in posted.delivered_at][:limit]

    def record_deliveries(self, channel: str, rows: Sequence[OutboxRow], *, at: int, cursor: int) -> None:
        """Record deliveries and move the cursor, never back."""
        for row in rows:
            if row.id in self.outbox:
                self.outbox[row.id].delivered_at.setdefault(channel, at)
        self.cursors[channel] = max(self.cursors.get(channel, 0), cursor)

    def revisable(self, symbol: str, last: int | None) -> tuple[Bar, ...]:
        """Return the latest revisions of the last bars up to ``last``, ascending."""
        if last is None:
            return ()
        latest: dict[int, Bar] = {}
        for (name, start, revision), bar in self.live_bars.items():
            if name == symbol and start <= last and (start not in latest or latest[start].revision < revision):
                latest[start] = bar
        return tuple(latest[start] for start in sorted(latest)[-REVISABLE_BARS:])

    def served_bars(self, symbol: str, after: int, last: int) -> tuple[Bar, ...]:
        """Return the revision-0 bars with ``after < start <= last``, ascending."""
        bars = [bar for (name, _, revision), bar in self.live_bars.items() if name == symbol and revision == 0]
        return tuple(sorted((b for b in bars if after < b.bar_start <= last), key=lambda bar: bar.bar_start))

    def history(self, symbol: str, event_time: int) -> tuple[Bar, ...]:
        """Return the bars before a tick's minute: 512 before its UTC day and the day's own, served ones first."""
        before = bar_start_of(event_time)
        by_start = {bar.bar_start: bar for bar in self.lake.get(symbol, ()) if bar.bar_start < before}
        day = day_start_us(utc_date(before))
        since = to_us(to_datetime(day) - timedelta(days=HISTORY_DAYS))
        by_start |= {bar.bar_start: bar for bar in self.served_bars(symbol, since, before - 1)}
        earlier = sorted(start for start in by_start if start < day)[-HISTORY_BARS:]
        return tuple(by_start[start] for start in (*earlier, *sorted(start for start in by_start if start >= day)))

    def _check(self, effects: Effects) -> None:
        taken = [row.message.message_id for row in effects.inbox if row.message.message_id in self.inbox]
        dedup_ids = [row.dedup_id for row in effects.outcomes if row.dedup_id and row.outcome != "duplicate"]
        repeated = [id_ for i, id_ in enumerate(dedup_ids) if id_ in self.dedup_ids or id_ in dedup_ids[:i]]
        if taken or repeated:
            raise UniqueViolationError(f"expected new message ids and dedup ids, were taken: {taken} {repeated}")
