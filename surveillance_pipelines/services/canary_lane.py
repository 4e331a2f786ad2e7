"""The shadow lane of canaries: the serving engine without a queue, store or outbox.

Messages are decoded, built into bars, scored and decided as in a drain run, by an engine that ``serving_engine`` builds
from the same settings, instruments, sessions and models. The effects stay in this module's results: it imports nothing
that could commit or publish them, which an import rule enforces, and its connection is read-only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import polars as pl

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import Bar, Tick
from surveillance_pipelines.contracts.outputs import Anomaly, Score
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.engine import Engine
from surveillance_pipelines.engine.event_clock import ClockReading
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.evaluation.canaries import SCORE_SCHEMA
from surveillance_pipelines.market.bars_to_ticks import FEWEST_TICKS, ticks_from_bars
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.services.canary_promises import alert_frame
from surveillance_pipelines.stores.canaries import MARK

ReadHistory = Callable[[Mapping[str, int]], Mapping[str, Seed]]
"""Symbol → event time of its first message; returns the history with which a drain run would seed it."""

BAR_COLUMNS: Final = ("symbol", "bar_start", "open", "high", "low", "close", "volume")

_BAR_ROWS: Final = pl.Schema(
    {"symbol": pl.String, "bar_start": UTC_MICROSECONDS} | dict.fromkeys(BAR_COLUMNS[2:], pl.Float64())
)


@dataclass(slots=True)
class LaneResult:
    """What the engine made of one copy.

    Attributes:
        copy: number of the copy; -1 for the unchanged bars.
        messages: number of messages sent.
        dead: code → number of refused messages.
        late: number of late and duplicate messages.
        bars: the closed bars.
        anomalies: rows of confirmed alerts.
        scores: rows of closed bars.
        excluded: models that failed.
    """

    copy: int
    messages: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    late: int = 0
    bars: list[Bar] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)

    def add(self, effects: Effects) -> None:
        """Add the effects of one call of the engine."""
        for letter in effects.dead_letters:
            self.dead[letter.code] = self.dead.get(letter.code, 0) + 1
        self.late += effects.count("late") + effects.count("duplicate")
        self.bars += [bar for bar in effects.bars if bar.revision == 0]
        self.anomalies += [row for row in effects.anomalies if row.alert_status == "confirmed"]
        self.scores += effects.predictions
        self.excluded |= {event.model for event in effects.breakers if event.state == "open"}

    def alert_frame(self) -> pl.DataFrame:
        """Return ``ALERT_SCHEMA``."""
        return alert_frame(self.anomalies, self.copy)

    def score_frame(self) -> pl.DataFrame:
        """Return ``SCORE_SCHEMA``."""
        return _frame([(self.copy, row.symbol, row.bar_start, row.score) for row in self.scores], SCORE_SCHEMA)

    def bar_frame(self) -> pl.DataFrame:
        """Return the closed bars, columns ``BAR_COLUMNS``."""
        return _frame([tuple(getattr(bar, name) for name in BAR_COLUMNS) for bar in self.bars], _BAR_ROWS)


def canary_messages(bars: pl.DataFrame, *, prefix: str, seed: int, cumulative: bool) -> list[Received]:
    """Return bars as messages in the format of the producer contract, in order of event time.

    Args:
        bars: ``BAR_SCHEMA``, revision 0.
        prefix: start of the message ids; it begins with ``MARK``.
        seed: seed of the ticks within a bar.
        cumulative: whether ``volume`` is the day's running total, as ``SQS_VOLUME_IS_CUMULATIVE`` says.
    """
    ticks = ticks_from_bars(bars, FEWEST_TICKS, seed)
    if cumulative:
        ticks = ticks.with_columns(pl.col("volume").cum_sum().over("symbol", "date"))
    rows = ticks.select("symbol", "price", "volume", pl.col("event_time").dt.timestamp("us")).iter_rows()
    return [
        Received(
            message_id=f"{prefix}:{number}",
            body=encode_tick(Tick(symbol, price, volume, event_time)),
            group_id=symbol,
            dedup_id=f"{prefix}:{number}",
            sequence_number=str(number),
            sent_at=event_time,
            received_at=event_time,
            receive_count=1,
            receipt_handle=MARK,
        )
        for number, (symbol, price, volume, event_time) in enumerate(rows)
    ]


def run_lane(
    engine: Engine, messages: Sequence[Received], history: ReadHistory, *, copy: int, grace_seconds: float
) -> LaneResult:
    """Send messages through an engine, minute by minute, and close bars by the clock as the drain run does.

    Args:
        engine: a new engine; it is ahead of the database afterwards, so discard it.
        messages: canaries in order of their send times.
        history: reads the symbols' history.
        copy: number of the copy.
        grace_seconds: ``BAR_CLOSE_GRACE_SECONDS``.
    """
    result = LaneResult(copy, messages=len(messages))
    grace = round(grace_seconds * MICROSECONDS)
    for _, minute in groupby(messages, key=lambda message: (message.sent_at - grace) // MINUTE_US):
        batch = list(minute)
        result.add(engine.close_due(ClockReading(batch[0].sent_at), batch[0].sent_at))
        _process(engine, batch, history, result)
    while (due := engine.next_close()) is not None:  # the clock goes on after the last message
        result.add(engine.close_due(ClockReading(due), due))
    return result


def _process(engine: Engine, batch: Sequence[Received], history: ReadHistory, result: LaneResult) -> None:
    decoded = engine.read(batch)
    for _ in range(2):  # a new symbol may miss a session later in the batch
        if wanted := engine.symbols_to_seed(decoded):
            for symbol, seed in history(wanted).items():
                engine.seed(symbol, seed)
    result.add(engine.process(decoded, Known()))


def _frame(rows: list[tuple[object, ...]], schema: pl.Schema) -> pl.DataFrame:
    raw = {name: pl.Int64 if dtype == UTC_MICROSECONDS else dtype for name, dtype in schema.items()}
    return pl.DataFrame(rows, schema=raw, orient="row").cast(schema)  # pyright: ignore[reportArgumentType]
