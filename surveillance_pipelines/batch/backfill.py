"""Batch scoring of a range of days, one after the other: features from the lake, scores to the lake and PostgreSQL.

One day is in memory while the day before it is written, so a range of any length takes the memory of two days.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, NamedTuple

import polars as pl
import psycopg

from surveillance_pipelines.batch.scoring import DayScores, score_day
from surveillance_pipelines.batch.storage import Stored, last_signals, store_scores
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.scoring_rows import RowConfig
from surveillance_pipelines.features.batch import feature_schema
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.stores.feature_rows import EarlierRows
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.quality import outside_unit_interval

SCORES_TABLE: Final = "scores"
UNIT_COLUMNS: Final = ("anomaly_score", "confidence", "sell_probability", "hold_probability", "buy_probability")
"""Columns of ``scores`` that are numbers from 0 to 1, always."""


class ScoredDay(NamedTuple):
    """One day, scored and stored. ``version`` is that of the table of scores after it."""

    day: date
    scored: DayScores
    stored: Stored
    version: int


def score_days(
    lake: Lake,
    connection: psycopg.Connection[Any],
    predictor: Predictor,
    config: RowConfig,
    *,
    first: date,
    last: date,
    sessions: SessionTable,
    version: int | None = None,
) -> Iterator[ScoredDay]:
    """Score a range of UTC days and yield each day once it is stored; every day is committed for itself.

    A day without features is left out, and loses the scores that it had. The cooldown of signals reaches from day to
    day, and back to the signals of this bundle before the range.

    Args:
        lake: of features and scores; each day of the range is replaced in ``scores``.
        connection: not in autocommit mode; used by nobody else until the last day is through.
        predictor: a bundle's models or the warm-up rules.
        config: what the rows share (``row_config``).
        first: first day.
        last: last day, included.
        sessions: as the features were computed with.
        version: of the table of features, the same for every day; None for the newest at each.
    """
    table = f"features_{predictor.feature_view}"
    schema = feature_schema(VIEWS[predictor.feature_view])
    signalled = last_signals(connection, first, predictor.bundle_hash)
    connection.commit()  # the days' transactions begin after this one
    days = sorted(day for day in {*lake.days(table), *lake.days(SCORES_TABLE)} if first <= day <= last)
    # Storing is the database's work and delta-rs's, which leave Python alone: it goes on beside the next day's scoring.
    with ThreadPoolExecutor(1, thread_name_prefix="store") as writer:
        storing: Future[ScoredDay] | None = None
        earlier = EarlierRows(lake, table, schema, version, predictor.window_length - 1)
        for day in days:
            features = _in_order(lake.read(table, days=[day], schema=schema, version=version))
            before = earlier.before(day, features)
            scored = score_day(features, predictor, config, earlier=before, last_signals=signalled, sessions=sessions)
            for row in scored.signals:  # in the order of time within a symbol
                signalled[row.symbol] = row.bar_start
            if storing is not None:
                yield storing.result()
            storing = writer.submit(_store, lake, connection, day, scored)
        if storing is not None:
            yield storing.result()


def _in_order(features: pl.DataFrame) -> pl.DataFrame:
    """Return rows sorted by symbol and bar start, as those of a day are that was written at once."""
    keys = features.select("symbol", "bar_start")
    return features if keys.equals(keys.sort("symbol", "bar_start")) else features.sort("symbol", "bar_start")


def _store(lake: Lake, connection: psycopg.Connection[Any], day: date, scored: DayScores) -> ScoredDay:
    stored = store_scores(connection, scored)
    version = lake.write_days(SCORES_TABLE, scored.scores, days=[day])
    return ScoredDay(day, scored, stored, version)


@dataclass
class ScoredRange:
    """What the days of a range add up to, for whoever reports on them; none of their rows but the strangest day's.

    Attributes:
        rows: bars scored.
        days: with at least one bar.
        symbols: of those bars.
        version: of the table of scores after the last day; None if no day was written.
        kinds: kind → anomalies.
        actions: action → signals.
        stored: rows that were new.
        outside: column of ``UNIT_COLUMNS`` → values that are no number from 0 to 1, of those that have any.
        strangest: the day of the strangest anomaly.
    """

    rows: int = 0
    days: list[date] = field(default_factory=list)
    symbols: set[str] = field(default_factory=set)
    version: int | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    stored: Stored = field(default_factory=Stored)
    outside: Counter[str] = field(default_factory=Counter)
    strangest: DayScores | None = None

    def add(self, done: ScoredDay) -> None:
        """Take a day in."""
        scores = done.scored.scores
        self.rows += scores.height
        self.days += [done.day] if scores.height else []
        self.symbols.update(scores["symbol"].unique().to_list())
        self.version = done.version
        self.kinds.update(row.kind for row in done.scored.anomalies)
        self.actions.update(row.action for row in done.scored.signals)
        self.stored += done.stored
        self.outside.update(outside_unit_interval(scores, UNIT_COLUMNS))
        if done.scored.anomalies and _strangeness(done.scored) > _strangeness(self.strangest):
            self.strangest = done.scored


def _strangeness(scored: DayScores | None) -> tuple[float, float]:
    rows = [] if scored is None else scored.anomalies
    return max(((row.score, row.confidence) for row in rows), default=(-1.0, -1.0))
