"""Construction of the training set: unchanged bars, copies with planted anomalies, labels and splits.

No exchange publishes which bars were manipulated, so the labels come from anomalies planted into copies of the bars
(``training/injection``). The features of a copy are computed with the same code, so the planted moves also affect the
market features of the peers. Unchanged bars count as ordinary although some are not, so measured false-alert rates are
upper bounds.
"""

from datetime import date
from typing import Any, Final

import numpy as np
import polars as pl

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.evaluation.direction_labels import HORIZON_MINUTES, forward_returns
from surveillance_pipelines.evaluation.splits import FRACTIONS, PURGE_BARS, assign_splits
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.views import CORE_V1, FeatureView
from surveillance_pipelines.hashing import sha256_bytes, sha256_json
from surveillance_pipelines.market.asset_classes import asset_class_of
from surveillance_pipelines.models.kinds import longest_window
from surveillance_pipelines.training.labelled_features import ECHO_BARS, SEED_STRIDE, plan_copies, planted_features
from surveillance_pipelines.training.possible_kinds import impossible_kinds, possible_kinds
from surveillance_pipelines.training.training_data import LEFT_OUT, ROW_COLUMNS, TrainingSet

MIN_HISTORY_BARS: Final = 60
"""Number of bars of a symbol before the first labelled one; until then, the volatility that scales most features is
unknown."""

MAX_PER_COPY: Final = 3.0
"""Maximum anomalies per symbol and day in one copy, so that they stay apart; more anomalies need more copies."""

ORDINARY_PER_COPY: Final = 0.25
"""Share of a copy's ordinary bars that is kept. They teach the classifier that an anomaly of a peer is not an anomaly
of the symbol; otherwise they repeat the unchanged bars."""

_KEY: Final = ["symbol", "bar_start"]

_FINGERPRINTED: Final = (
    "symbol", "bar_start", "open", "high", "low", "close", "volume", "market_return", "market_peers",
)  # fmt: skip
"""Columns of a bar that determine its features. The last two are set only for bars of the live lane."""


def build_training_set(
    bars_1m: pl.DataFrame,
    sessions: SessionTable,
    *,
    first: date,
    last: date,
    seed: int,
    per_symbol_day: float = 12.0,
    view: FeatureView = CORE_V1,
    window_length: int | None = None,
) -> TrainingSet:
    """Return feature rows of the days ``first`` to ``last`` with labels, splits and forward returns.

    Kinds of anomaly that cannot exist in the training days are left out (``possible_kinds``).

    Args:
        bars_1m: ``BAR_SCHEMA``, 1-minute bars; bars before ``first`` are history for the features, bars after
            ``last`` are ignored.
        sessions: sessions of every calendar that the symbols trade on.
        first: first UTC date, included.
        last: last UTC date, included.
        seed: seed of the positions, kinds and severities of the planted anomalies.
        per_symbol_day: anomalies to plant per symbol and day over all copies; those that do not fit are omitted.
        view: the feature view.
        window_length: bars of the longest model window; None for the longest of the registered kinds. If it exceeds 1,
            the bars between the examples are kept as ``context``.

    Raises:
        ValueError: if the range has fewer than three days with bars.
    """
    bars = bars_1m.filter((pl.col("revision") == 0) & (pl.col("date") <= last)).sort("symbol", "bar_start")
    splits = assign_splits(bars.filter(pl.col("date") >= first).select("symbol", "date", "bar_start"))
    context = (longest_window() if window_length is None else window_length) > 1
    copies = max(1, int(np.ceil(per_symbol_day / MAX_PER_COPY)))
    parts = [_original_rows(bars, sessions, splits, view)]
    left_out = impossible_kinds(bars.join(splits.filter(pl.col("split") == "train"), on=_KEY, how="semi"))
    plans = plan_copies(
        bars,
        sessions,
        copies=copies,
        per_symbol_day=per_symbol_day / copies,
        seed=seed,
        kinds=possible_kinds(left_out),
    )
    for copy, plan in enumerate(plans, start=1):
        features = planted_features(bars, plan, sessions, seed=seed * SEED_STRIDE + copy, view=view)
        rows = features.with_columns(replica=pl.lit(copy), forward_return=pl.lit(None, pl.Float64))
        parts.append(_thinned(_placed(rows, bars, splits), seed * SEED_STRIDE + copy, context=context))
    params = {
        "first": first.isoformat(),
        "last": last.isoformat(),
        **_instruments(splits["symbol"].unique().sort().to_list(), sessions),
        "seed": seed,
        "per_symbol_day": per_symbol_day,
        "copies": copies,
        **_fixed_parameters(view),
        **({LEFT_OUT: left_out} if left_out else {}),  # an empty entry would change the hashes of all bundles
    }
    frame = pl.concat([part.select(*ROW_COLUMNS, *view.columns).cast(pl.Schema(ROW_COLUMNS)) for part in parts])
    return TrainingSet(frame=frame, view=view.name, params=params, fingerprint=_fingerprint(bars, sessions, params))


def _original_rows(bars: pl.DataFrame, sessions: SessionTable, splits: pl.DataFrame, view: FeatureView) -> pl.DataFrame:
    features = features_of_days(bars, splits["date"].unique().to_list(), sessions, view)
    returns = features.with_columns(forward_return=forward_returns(features, HORIZON_MINUTES))
    rows = returns.with_columns(
        label=pl.lit(NORMAL),
        anomaly_id=pl.lit(None, pl.String),
        severity=pl.lit(None, pl.Float64),
        replica=pl.lit(0, pl.Int32),
    )
    return _placed(rows, bars, splits)


def _placed(rows: pl.DataFrame, bars: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """Add the splits, drop days outside the range, and remove the labels of bars with too little history."""
    ages = bars.select("symbol", "bar_start", age=pl.int_range(pl.len()).over("symbol"))
    placed = rows.join(ages, on=_KEY, how="left", maintain_order="left").join(
        splits.select("symbol", "bar_start", "split"), on=_KEY, how="inner", maintain_order="left"
    )
    return placed.with_columns(label=pl.when(pl.col("age") >= MIN_HISTORY_BARS).then("label"))


def _thinned(rows: pl.DataFrame, seed: int, *, context: bool) -> pl.DataFrame:
    """Keep every planted bar and a share of the ordinary ones."""
    kept = np.random.default_rng(seed).random(len(rows)) < ORDINARY_PER_COPY
    planted = pl.col("label").is_in(ANOMALY_KINDS)
    wanted = planted | ((pl.col("label") == NORMAL) & pl.Series(kept))
    if not context:
        return rows.filter(wanted)
    example = wanted.fill_null(value=False)
    return rows.with_columns(
        label=pl.when(example).then("label"), split=pl.when(example).then("split").otherwise(pl.lit("context"))
    )


def _instruments(symbols: list[str], sessions: SessionTable) -> dict[str, Any]:
    """Return the domain of the training data (``models/training_domain``): symbols, calendars and asset classes."""
    calendar_of = {symbol: sessions.for_symbol(symbol).calendar for symbol in symbols}
    return {
        "symbols": symbols,
        "calendars": sorted(set(calendar_of.values())),
        "asset_classes": sorted({asset_class_of(symbol, calendar) for symbol, calendar in calendar_of.items()}),
    }


def _fixed_parameters(view: FeatureView) -> dict[str, Any]:
    return {
        "echo_bars": ECHO_BARS,
        "min_history_bars": MIN_HISTORY_BARS,
        "purge_bars": PURGE_BARS,
        "fractions": list(FRACTIONS),
        "horizon_minutes": HORIZON_MINUTES,
        "feature_view_source_hash": view.source_hash,
    }


def _fingerprint(bars: pl.DataFrame, sessions: SessionTable, params: dict[str, Any]) -> str:
    columns = [bars[name].to_physical() for name in _FINGERPRINTED[1:]]
    content = sha256_bytes(*(np.ascontiguousarray(column.to_numpy()).tobytes() for column in columns))
    symbols = bars["symbol"].unique().sort()
    hours = [_session_hours(sessions, bars.filter(pl.col("symbol") == symbol)) for symbol in symbols]
    return sha256_json([content, sha256_json(bars["symbol"].to_list()), hours, params])


def _session_hours(sessions: SessionTable, bars: pl.DataFrame) -> str:
    """Return a hash of the positions of a symbol's bars within their sessions, independent of the table's range."""
    starts = bars["bar_start"].dt.timestamp("us").to_numpy()
    return sha256_bytes(*(part.tobytes() for part in sessions.for_symbol(bars["symbol"][0]).positions(starts)))
