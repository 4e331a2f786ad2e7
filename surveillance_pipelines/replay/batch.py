"""Replay of batch outputs: inputs rebuilt from the lake, at the table versions that the original runs read."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.clock import to_datetime, to_iso, to_us
from surveillance_pipelines.contracts.feature_tables import feature_table_of
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.scoring_rows import Candidate
from surveillance_pipelines.features.batch import feature_schema, features_of_days, with_history
from surveillance_pipelines.features.inputs import market_context
from surveillance_pipelines.features.views import FeatureView
from surveillance_pipelines.replay.comparison import CannotReplayError, StoredOutput
from surveillance_pipelines.replay.live import DamagedInputError, Difference
from surveillance_pipelines.replay.repository import RecordedRun, ReplayRepository, day_of
from surveillance_pipelines.stores.feature_rows import EarlierRows
from surveillance_pipelines.stores.lake import Lake

BARS: Final = "bars_1m"

Floats = npt.NDArray[np.float64]


class Rebuilt(NamedTuple):
    """A bar with its features, and notes about how they were rebuilt."""

    candidate: Candidate
    notes: tuple[str, ...]


class BatchRebuilder:
    """Rebuilds the inputs of batch scores; frames needed by several outputs are read once."""

    def __init__(self, repository: ReplayRepository, lake: Lake) -> None:
        self._repository: Final = repository
        self._lake: Final = lake
        self._contexts: dict[tuple[Any, ...], pl.DataFrame] = {}
        self._features: dict[tuple[Any, ...], pl.DataFrame] = {}

    def candidate(
        self,
        output: StoredOutput,
        view: FeatureView,
        run: RecordedRun,
        knobs: Mapping[str, Any],
        window_length: int = 1,
    ) -> Rebuilt:
        """Return the bar of an output with its features, recomputed from the bars of the original run.

        Raises:
            CannotReplayError: if the versions are not on record, or no longer in the lake.
            DamagedInputError: if the stored features differ from those recomputed from the bars.
        """
        table, day = feature_table_of(view.name), day_of(output)
        version = run.versions_read.get(table)
        if version is None:
            raise CannotReplayError(f"the version of {table} that was scored is not on record in ops.scoring_runs")
        stored = self._one(self._stored_features(table, version, day, view), output, f"{table} version {version}")
        vector = _vector(stored, view)
        notes: tuple[str, ...] = ()
        features_run = self._repository.features_run(table, version, day)
        if features_run is None:
            notes = (f"the bars of version {version} of {table} are not on record: stored features are used",)
        else:
            rebuilt = self._one(self._rebuilt_features(features_run, day, view, knobs), output, BARS)
            versions = (table, version, features_run.versions_read.get(BARS))
            _require_same(vector, _vector(rebuilt, view), output, view, versions)
        sessions = self._repository.sessions(run, knobs)
        candidate = _candidate(stored, output, vector, sessions.for_symbol(output.symbol))
        if window_length > 1:
            candidate = replace(candidate, earlier=self._earlier(output, table, version, view, window_length - 1))
        return Rebuilt(candidate, notes)

    def _earlier(
        self, output: StoredOutput, table: str, version: int, view: FeatureView, count: int
    ) -> tuple[Floats, ...]:
        """Return the feature rows before a bar, oldest first, NaN for bars before the symbol's first."""
        day, start = day_of(output), to_datetime(output.bar_start)
        today = self._stored_features(table, version, day, view).filter(
            (pl.col("symbol") == output.symbol) & (pl.col("revision") == 0)
        )
        before = EarlierRows(self._lake, table, feature_schema(view), version, count).before(day, today)
        known = today.filter(pl.col("bar_start") < start)
        rows = known if before is None else pl.concat([before.select(known.columns), known])
        vectors = [_vector(row, view) for row in rows.sort("bar_start").tail(count).iter_rows(named=True)]
        missing = np.full(len(view.columns), np.nan)
        return (*(missing for _ in range(count - len(vectors))), *vectors)

    def _stored_features(self, table: str, version: int, day: date, view: FeatureView) -> pl.DataFrame:
        key = (table, version, day)
        if key not in self._features:
            self._features[key] = self._read(table, version, (day, day), feature_schema(view))
        return self._features[key]

    def _rebuilt_features(
        self, run: RecordedRun, day: date, view: FeatureView, knobs: Mapping[str, Any]
    ) -> pl.DataFrame:
        key = ("rebuilt", run.versions_read.get(BARS), run.days, view.name, day)
        if key not in self._features:
            context = self._market_context(run, view.market_centre)
            sessions = self._repository.sessions(run, knobs)
            self._features[key] = features_of_days(context, [day], sessions, view)
        return self._features[key]

    def _market_context(self, run: RecordedRun, centre: MarketCentre) -> pl.DataFrame:
        """Return the bars that the run read; the range of bars affects the peers' returns of a symbol's first bars."""
        version, (first, last) = run.versions_read.get(BARS), run.days
        if first is None or last is None:
            raise CannotReplayError("the days of the run that computed the features are not on record")
        key = (version, first, last, centre)
        if key not in self._contexts:
            bars = with_history(lambda since, until: self._read(BARS, version, (since, until), BAR_SCHEMA), first, last)
            self._contexts[key] = market_context(bars, centre)
        return self._contexts[key]

    def _read(self, table: str, version: int | None, days: tuple[date, date], schema: pl.Schema) -> pl.DataFrame:
        try:
            return self._lake.read(table, days=days, schema=schema, version=version)
        except Exception as error:  # delta-rs and polars raise many types for a missing version or file
            raise CannotReplayError(f"version {version} of {table} cannot be read from the lake: {error}") from error

    def _one(self, frame: pl.DataFrame, output: StoredOutput, where: str) -> dict[str, Any]:
        start = to_datetime(output.bar_start)
        found = frame.filter(
            (pl.col("symbol") == output.symbol) & (pl.col("bar_start") == start) & (pl.col("revision") == 0)
        )
        if found.height != 1:
            named = f"{output.symbol} {to_iso(output.bar_start)[:16]}"
            raise CannotReplayError(f"expected one bar {named} in {where}, found {found.height}")
        return found.row(0, named=True)


def _vector(row: Mapping[str, Any], view: FeatureView) -> Floats:
    return np.array([np.nan if row[name] is None else row[name] for name in view.columns], dtype=np.float64)


def _require_same(
    stored: Floats, rebuilt: Floats, output: StoredOutput, view: FeatureView, versions: tuple[str, int, int | None]
) -> None:
    differ = np.flatnonzero((stored != rebuilt) & ~(np.isnan(stored) & np.isnan(rebuilt)))
    if len(differ):
        table, version, bars = versions
        first = int(differ[0])
        name = f"{view.columns[first]} of bar {output.symbol} {to_iso(output.bar_start)[:16]}"
        cause = f"{table} version {version} differs from features of {BARS} version {bars} in {len(differ)} columns"
        raise DamagedInputError(Difference(name, float(stored[first]), float(rebuilt[first]), cause))


def _candidate(row: Mapping[str, Any], output: StoredOutput, features: Floats, sessions: SessionTable) -> Candidate:
    return Candidate(
        symbol=output.symbol,
        bar_start=output.bar_start,
        bar_status="final",
        event_time=to_us(row["event_time"]),
        knowledge_time=to_us(row["knowledge_time"]),
        source=row["source"],
        source_message_id=row["source_message_id"],
        price=row["close"],
        volume=0.0 if row["volume"] is None else row["volume"],
        features=features,
        calendar=sessions.calendar,
        fallback_used=not sessions.covers(output.bar_start),
        correlation_id=row["source_message_id"],
    )
