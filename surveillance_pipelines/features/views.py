"""Feature views: named, frozen lists of columns, each with the kernel that computes them.

A released view does not change. New columns, windows or formulas require a new view with a new name, because models,
snapshots and alerts record the name of their view.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.features import kernel
from surveillance_pipelines.hashing import sha256_file, sha256_json

HISTORY_BARS: Final = 512
"""Number of revision-0 bars from which a symbol's state is rebuilt at the start of a UTC day. The slowest decay in the
kernel is Wilder's average, which keeps (13/14)^512 = 3e-17 of its weight after this many bars."""

_DESCRIPTIONS: Final = {
    "log_return": "ln(close / previous close)",
    "range": "(high − low) / close",
    "gap": "ln(open / previous close)",
    "sma_20": "mean close of 20 bars [price]",
    "ema_12": "exponential mean of close, span 12 [price]",
    "ema_26": "exponential mean of close, span 26 [price]",
    "macd": "ema_12 − ema_26 [price]",
    "macd_signal": "exponential mean of macd, span 9 [price]",
    "rsi_14": "Wilder's relative strength of 14 bars [0 to 100]",
    "atr_14": "Wilder's average true range of 14 bars [price]",
    "bollinger_z": "close above sma_20 [standard deviations of 20 closes]",
    "volume_z": "ln(1 + volume) above its mean of the 60 bars with volume before [standard deviations]",
    "volume_ratio": "volume / mean volume of the 20 bars with volume before",
    "realised_volatility": "root mean square log return of 20 bars [per bar]",
    "return_z": "log_return [volatility of the 60 returns before]",
    "range_ratio": "range / mean range of the 20 bars before",
    "sma_distance": "close / sma_20 − 1",
    "macd_relative": "macd / atr_14",
    "vwap_distance": "close / volume-weighted mean price of the session − 1",
    "minute_sin": "sine of the minutes since the session opened, 1440 to the circle",
    "minute_cos": "cosine of the minutes since the session opened, 1440 to the circle",
    "session_progress": "minutes since the session opened / its length [below 0 before, from 1 after it]",
    "in_session": "1 inside the session, 0 before and after",
    "minutes_to_close": "minutes from the bar's start to the session's close [negative after it]",
    "new_session": "1 on the first bar of a session",
    "has_volume": "1 when the source reports volume, else 0",
    "market_return": "mean log return of the other symbols, one minute before",
    "relative_return": "own log return of the bar before − market_return",
    "peer_correlation": "correlation of own and market return over 30 pairs, one bar before [−1 to 1]",
    "peers_present": "1 when some other symbol had a bar the minute before",
    "market_return_z": "market_return [volatility of the 60 own returns before]",
    "divergence_z_15": "sum of relative_return over 15 pairs [volatility × √15]",
    "return_z_5": "log return over 5 bars [volatility × √5]",
    "return_z_15": "log return over 15 bars [volatility × √15]",
    "gap_z": "gap [volatility of the 60 returns before]",
    "sign_balance_10": "(rising − falling bars) / 10 over 10 bars [−1 to 1]",
    "run_length": "bars in a row that moved the same way, signed [−20 to 20]",
    "volume_z_5": "mean volume_z of 5 bars with volume",
    "flow_balance_10": "volume of rising − of falling bars, share of all, over 10 bars with volume [−1 to 1]",
    "price_volume_divergence": "|return_z| − volume_z",
    "illiquidity_z": "log of Amihud's |return| per money traded, above its mean of 60 bars [standard deviations]",
    "drawdown_15": "fall from the high of 15 bars, logarithmic [volatility × √15]",
    "runup_15": "rise from the low of 15 bars, logarithmic [volatility × √15]",
    "round_trip_30": "smaller of the rise to the peak of 30 bars and the fall since, logarithmic [volatility × √30]",
    "volatility_ratio": "root mean square of 5 returns / volatility of the 60 returns before",
    "atr_relative": "atr_14 / close",
    "close_location": "where the close lies in the bar [−0.5 at the low, 0.5 at the high]",
    "wick_ratio": "share of the bar's height outside open to close [0 to 1]",
}

_PRICE_COLUMNS: Final = frozenset({"sma_20", "ema_12", "ema_26", "macd", "macd_signal", "atr_14"})


@dataclass(frozen=True)
class FeatureView:
    """A released set of features.

    Attributes:
        name: name recorded in rows, snapshots and bundles.
        descriptions: column → description, with the unit in brackets if it has one, in the kernel's order.
        model_columns: columns that a model may use for any symbol, that is, without price or volume level.
        inputs: names of the columns of a kernel input row, f8[10].
        state_size: length of the kernel's state, f8.
        step: ``(state, bar, out)`` advances the state by one bar.
        run: ``(state, bars, out)`` advances the state by many bars.
        peek: ``(state, scratch, bar, out)`` computes features without changing the state.
        source: the kernel's file. The batch form (``batch.BATCH_KERNELS``) is bit-identical and has no hash.
        other_sources: further files that determine a value. Those of ``core_v1`` are not in its hash, which older
            bundles and snapshots record.
        market_centre: which centre of the peers' returns the kernel's ``market_return`` is.
    """

    name: str
    descriptions: dict[str, str]
    model_columns: tuple[str, ...]
    inputs: tuple[str, ...]
    state_size: int
    step: Callable[..., Any]
    run: Callable[..., Any]
    peek: Callable[..., Any]
    source: Path
    other_sources: tuple[Path, ...] = ()
    market_centre: MarketCentre = "mean"

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in the kernel's order."""
        return tuple(self.descriptions)

    @cached_property
    def source_hash(self) -> str:
        """Hash of the source files, comments included; a state is valid for exactly one hash."""
        own = sha256_file(self.source)
        return sha256_json([own, *map(sha256_file, self.other_sources)]) if self.other_sources else own


CORE_V1: Final = FeatureView(
    name="core_v1",
    descriptions=_DESCRIPTIONS,
    model_columns=tuple(name for name in _DESCRIPTIONS if name not in _PRICE_COLUMNS),
    inputs=kernel.INPUTS,
    state_size=kernel.STATE_SIZE,
    step=kernel.step,
    run=kernel.run,
    peek=kernel.peek,
    source=Path(kernel.__file__),
)

CORE_V2: Final = replace(
    CORE_V1,
    name="core_v2",
    descriptions=_DESCRIPTIONS | {"market_return": "median log return of the other symbols, one minute before"},
    other_sources=tuple(Path(__file__).with_name(name) for name in ("market.py", "inputs.py")),
    market_centre="median",
)
"""The columns of ``core_v1`` with the median of the peers' returns, which one bad print among them hardly moves."""

VIEWS: Final[dict[str, FeatureView]] = {view.name: view for view in (CORE_V1, CORE_V2)}
