"""Batch scoring of a range of days: features from the lake, scores to the lake and PostgreSQL.

One day is scored while the previous day is written, so a range of any length needs the memory of two days.
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
from surveillance_pipelines.batch.storage import StoredCounts, store_scores
from surveillance_pipelines.contracts.feature_tables import feature_table_of
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.scoring_rows import RowConfig
from surveillance_pipelines.features.batch import feature_schema
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.stores.check_queries import outside_unit_interval
from surveillance_pipelines.stores.feature_rows import EarlierRows
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.signals import last_signals

SCORES_TABLE: Final = "scores"
UNIT_COLUMNS: Final = ("anomaly_score", "confidence", "sell_probability", "hold_probability", "buy_probability")
"""Columns of ``scores`` that always contain numbers from 0 to 1."""


class ScoredDay(NamedTuple):
    """One scored and stored day. ``version`` is the version of the scores table after the write."""

    day: date
    scored: DayScores
    stored: StoredCounts
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
    """Score a range of UTC days and yield each day once it is stored; each day is committed separately.

    If a day has no features, its existing scores are deleted. The signal cooldown continues from day to day, and from
    the signals of this bundle before the range.

    Args:
        lake: contains features and scores; each day of the range is replaced in ``scores``.
        connection: not in autocommit mode; must not be used elsewhere until the last day has been yielded.
        predictor: a bundle's models or the warm-up rules.
        config: fields that all rows share (``row_config``).
        first: first day.
        last: last day, inclusive.
        sessions: the trading sessions with which the features were computed.
        version: version of the features table for all days; None for the newest version at each day.
    """
    table = feature_table_of(predictor.feature_view)
    schema = feature_schema(VIEWS[predictor.feature_view])
    signalled = last_signals(connection, first, config)
    connection.commit()  # end the read's transaction, so that each day gets its own
    days = sorted(day for day in {*lake.days(table), *lake.days(SCORES_TABLE)} if first <= day <= last)
    # The database and delta-rs release the GIL while they store a day, so the next day is scored at the same time.
    with ThreadPoolExecutor(1, thread_name_prefix="store") as writer:
        storing: Future[ScoredDay] | None = None
        earlier = EarlierRows(lake, table, schema, version, predictor.window_length - 1)
        for day in days:
            features = _in_order(lake.read(table, days=[day], schema=schema, version=version))
            before = earlier.before(day, features)
            scored = score_day(features, predictor, config, earlier=before, last_signals=signalled, sessions=sessions)
            for row in scored.signals:  # ordered by time within a symbol
                signalled[row.symbol] = row.bar_start
            if storing is not None:
                yield storing.result()
            storing = writer.submit(_store, lake, connection, day, scored)
        if storing is not None:
            yield storing.result()


def _in_order(features: pl.DataFrame) -> pl.DataFrame:
    """Return rows sorted by symbol and bar start; days written at once already are."""
    keys = features.select("symbol", "bar_start")
    return features if keys.equals(keys.sort("symbol", "bar_start")) else features.sort("symbol", "bar_start")


def _store(lake: Lake, connection: psycopg.Connection[Any], day: date, scored: DayScores) -> ScoredDay:
    stored = store_scores(connection, scored)
    version = lake.write_days(SCORES_TABLE, scored.scores, days=[day])
    return ScoredDay(day, scored, stored, version)


@dataclass
class ScoredRange:
    """Totals over the days of a range. Only the most anomalous day's rows are kept.

    Attributes:
        rows: number of bars scored.
        days: days with at least one bar.
        bars_of: symbol → number of those bars.
        alerts_of: symbol → number of anomalies.
        incidents: severity → number of incidents.
        version: version of the scores table after the last day; None if no day was written.
        kinds: kind → number of anomalies.
        actions: action → number of signals.
        stored: number of new rows.
        out_of_range: column of ``UNIT_COLUMNS`` → number of values that are not from 0 to 1, if any.
        most_anomalous: the day with the highest anomaly score.
    """

    rows: int = 0
    days: list[date] = field(default_factory=list)
    bars_of: Counter[str] = field(default_factory=Counter)
    alerts_of: Counter[str] = field(default_factory=Counter)
    incidents: Counter[str] = field(default_factory=Counter)
    version: int | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    stored: StoredCounts = field(default_factory=StoredCounts)
    out_of_range: Counter[str] = field(default_factory=Counter)
    most_anomalous: DayScores | None = None

    def add(self, done: ScoredDay) -> None:
        """Add a day to the totals."""
        scores = done.scored.scores
        self.rows += scores.height
        self.days += [done.day] if scores.height else []
        self.bars_of.update(dict(scores["symbol"].value_counts().iter_rows()))
        self.alerts_of.update(row.symbol for row in done.scored.anomalies)
        self.incidents.update(row.severity for row in done.scored.incidents if row.incident_status == "closed")
        self.version = done.version
        self.kinds.update(row.kind for row in done.scored.anomalies)
        self.actions.update(row.action for row in done.scored.signals)
        self.stored += done.stored
        self.out_of_range.update(outside_unit_interval(scores, UNIT_COLUMNS))
        if done.scored.anomalies and _peak_anomaly(done.scored) > _peak_anomaly(self.most_anomalous):
            self.most_anomalous = done.scored


def _peak_anomaly(scored: DayScores | None) -> tuple[float, float]:
    rows = [] if scored is None else scored.anomalies
    return max(((row.score, row.confidence) for row in rows), default=(-1.0, -1.0))
