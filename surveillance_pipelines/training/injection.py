"""Planting of labelled anomalies into real or simulated bars, because no exchange publishes labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS, conform
from surveillance_pipelines.hashing import sha256_text
from surveillance_pipelines.training.anomaly_shapes import SHAPES, Floats, Rewrite, Stretch

PLAN_SCHEMA: Final = pl.Schema(
    {
        "anomaly_id": pl.String,
        "symbol": pl.String,
        "bar_start": UTC_MICROSECONDS,  # start of the first changed bar
        "kind": pl.String,
        "severity": pl.Float64,
        "bars": pl.Int64,  # number of changed bars
    }
)
"""Plan of the anomalies to plant, one row per anomaly."""
LABEL_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String,
        "bar_start": UTC_MICROSECONDS,
        "kind": pl.String,
        "severity": pl.Float64,
        "anomaly_id": pl.String,
    }
)
"""One row per bar changed by an anomaly; later bars that were only shifted to a new price level have no label."""

LOCAL_BARS: Final = 60
"""Bars before an anomaly that define its local scale: enough for a median, few enough to match the time of day."""
_MIN_VOLATILITY: Final = 2e-5
"""Minimum volatility of a bar's log return, 0.2 basis points, for intervals in which the price did not move."""


@dataclass(frozen=True, slots=True)
class Injected:
    """Bars with planted anomalies, and the labels of the changed bars (``LABEL_SCHEMA``)."""

    bars: pl.DataFrame
    labels: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _Series:
    """One symbol's bars as arrays [n]; ``rows`` are their positions in the frame."""

    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    prices: dict[str, Floats]
    volume: Floats
    returns: Floats  # log, close to close; NaN first
    peers: Floats  # mean log return of the other symbols in the same minute


def anomaly_id(symbol: str, bar_start: int, kind: str) -> str:
    """Return a readable id, which is unique because two anomalies of a symbol never share a bar."""
    return f"{symbol}-{to_datetime(bar_start):%Y%m%dT%H%M}-{kind}"


def plant(bars: pl.DataFrame, plan: pl.DataFrame, seed: int) -> Injected:
    """Return bars with every anomaly of a plan.

    Each anomaly depends on the seed, its plan row and the original bars, not on other rows of the plan. If an anomaly
    ends at another price level, all later bars of the symbol are shifted to it, so that their returns do not change.

    Args:
        bars: ``BAR_SCHEMA``, one row per symbol and minute.
        plan: ``PLAN_SCHEMA``.
        seed: seed of directions and details.

    Raises:
        ValueError: if bars repeat, a planned bar does not exist, two anomalies overlap, or too few bars precede one.
    """
    if bars.select("symbol", "bar_start").is_duplicated().any():
        raise ValueError("expected one row per symbol and bar_start, got duplicates: keep one revision of each bar")
    series = _series_by_symbol(bars, set(plan["symbol"].unique()))
    columns = {name: bars[name].to_numpy().copy() for name in ("open", "high", "low", "close", "volume")}
    labels: list[tuple[str, int, str, float, str]] = []
    for (symbol,), rows in plan.sort("bar_start").partition_by("symbol", as_dict=True, maintain_order=True).items():
        if symbol not in series:
            raise ValueError(f"expected bars of {symbol}, which the plan contains, got none")
        labels += _plant_symbol(series[symbol], rows, seed, columns)
    return Injected(_with_columns(bars, columns), _label_frame(labels))


def _plant_symbol(
    series: _Series, plan: pl.DataFrame, seed: int, columns: Mapping[str, Floats]
) -> list[tuple[str, int, str, float, str]]:
    """Write one symbol's anomalies into ``columns`` and return their labels."""
    level, done, labels = np.zeros(len(series.starts)), 0, []
    for row in plan.with_columns(pl.col("bar_start").dt.timestamp("us")).iter_rows(named=True):
        first = int(np.searchsorted(series.starts, row["bar_start"]))
        last = first + row["bars"]
        _check_position(series, row, first=first, last=last, done=done)
        entropy = np.random.SeedSequence([seed, int(sha256_text(row["anomaly_id"])[:16], 16)])
        rewrite = SHAPES[row["kind"]](_stretch(series, first, last), row["severity"], np.random.default_rng(entropy))
        _write(columns, series.rows[first:last], rewrite, float(level[first]))
        level[last:] += rewrite.shift
        done = last
        labels += [
            (row["symbol"], int(start), row["kind"], row["severity"], row["anomaly_id"])
            for start in series.starts[first:last]
        ]
    _shift_other_bars(columns, series, level, {(label[1]) for label in labels})
    return labels


def _check_position(series: _Series, row: Mapping[str, object], *, first: int, last: int, done: int) -> None:
    name = row["anomaly_id"]
    if first >= len(series.starts) or series.starts[first] != row["bar_start"]:
        raise ValueError(f"expected a bar where {name} starts, got none")
    if last > len(series.starts):
        raise ValueError(f"expected {row['bars']} bars from the start of {name}, got {len(series.starts) - first}")
    if first < LOCAL_BARS:
        raise ValueError(f"expected {LOCAL_BARS} bars before {name} to measure the local scale, got {first}")
    if first < done:
        raise ValueError(f"expected anomalies that do not overlap, got {name} overlapping the previous one")


def _stretch(series: _Series, first: int, last: int) -> Stretch:
    here, before = slice(first, last), slice(first - LOCAL_BARS, first)
    moves = np.abs(series.returns[before])
    moves = moves[np.isfinite(moves)]
    # 1.4826 converts the median to a standard deviation. The mean covers thinly traded symbols with a median of zero.
    volatility = max(1.4826 * float(np.median(moves)), 0.5 * float(np.mean(moves)), _MIN_VOLATILITY)
    traded = series.volume[before][series.volume[before] > 0]
    logs = {name: np.log(values[here]) for name, values in series.prices.items()}
    return Stretch(
        **logs,
        volume=series.volume[here],
        volatility=volatility,
        typical_volume=float(np.median(traded)) if len(traded) else 0.0,
        peer_returns=series.peers[here],
    )


def _write(columns: Mapping[str, Floats], rows: npt.NDArray[np.int64], rewrite: Rewrite, level: float) -> None:
    logs = {"open": rewrite.open, "high": rewrite.high, "low": rewrite.low, "close": rewrite.close}
    for name, values in logs.items():
        columns[name][rows] = np.exp(values + level)
    columns["volume"][rows] = rewrite.volume


def _shift_other_bars(columns: Mapping[str, Floats], series: _Series, level: Floats, labelled: set[int]) -> None:
    """Shift the bars between anomalies to the new price level; bars at the old level stay bit-identical."""
    moved = (level != 0.0) & ~np.isin(series.starts, np.fromiter(labelled, np.int64, len(labelled)))
    rows = series.rows[moved]
    for name in ("open", "high", "low", "close"):
        columns[name][rows] *= np.exp(level[moved])


def _series_by_symbol(bars: pl.DataFrame, wanted: set[str]) -> dict[str, _Series]:
    indexed = bars.with_row_index("row").sort("symbol", "bar_start")
    returns = indexed.with_columns(
        pl.col("close").log().diff().over("symbol").alias("log_return"),
    ).with_columns(
        # The mean over the other symbols is computed from the sum over all symbols minus the symbol's own return.
        total=pl.col("log_return").sum().over("bar_start"),
        count=pl.col("log_return").count().over("bar_start"),
    )
    own = pl.col("log_return").fill_null(0.0)
    others = pl.col("count") - pl.col("log_return").is_not_null().cast(pl.Int64)
    peers = returns.with_columns(peers=pl.when(others > 0).then((pl.col("total") - own) / others))
    parts = peers.filter(pl.col("symbol").is_in(list(wanted))).partition_by("symbol", as_dict=True)
    return {str(symbol): _series(part) for (symbol,), part in parts.items()}


def _series(part: pl.DataFrame) -> _Series:
    return _Series(
        rows=part["row"].cast(pl.Int64).to_numpy(),
        starts=part["bar_start"].dt.timestamp("us").to_numpy(),
        prices={name: part[name].to_numpy() for name in ("open", "high", "low", "close")},
        volume=part["volume"].to_numpy(),
        returns=part["log_return"].fill_null(float("nan")).to_numpy(),
        peers=part["peers"].fill_null(float("nan")).to_numpy(),
    )


def _with_columns(bars: pl.DataFrame, columns: Mapping[str, Floats]) -> pl.DataFrame:
    """Return the frame with new prices and volumes; the number of trades follows the volume."""
    growth = pl.Series("growth", columns["volume"]) / bars["volume"]
    scaled = (pl.col("trades") * growth).round()
    trades = pl.when(growth.is_finite() & (growth != 1.0)).then(scaled.clip(lower_bound=1)).otherwise(pl.col("trades"))
    return bars.with_columns(
        *(pl.Series(name, values) for name, values in columns.items()), trades=trades.cast(pl.Int64)
    )


def _label_frame(labels: list[tuple[str, int, str, float, str]]) -> pl.DataFrame:
    raw = {**LABEL_SCHEMA, "bar_start": pl.Int64}
    return conform(pl.DataFrame(labels, schema=raw, orient="row"), LABEL_SCHEMA).sort("symbol", "bar_start")
