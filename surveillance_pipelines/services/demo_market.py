"""The market of the demo: a history without anomalies, and one more day with planted anomalies of every kind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.clock import Clock
from surveillance_pipelines.contracts.errors import OperationFailedError
from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.services.demo_matching import Alert
from surveillance_pipelines.services.instruments import span
from surveillance_pipelines.services.simulation import last_sessions, simulated_bars

if TYPE_CHECKING:
    import polars as pl

HISTORY_SESSIONS: Final = 12
"""Enough bars for training, few enough for a demo of a few minutes."""

TICKS_PER_BAR: Final = 4

_SPARE_SESSIONS: Final = 3
"""Past sessions after the served one, for `surveillance feed simulated`."""
_PER_SYMBOL: Final = 2.0
_MAX_ATTEMPTS: Final = 50


@dataclass(frozen=True, slots=True)
class DemoMarket:
    """A simulated market in two parts.

    Attributes:
        history: ``BAR_SCHEMA``, the sessions before the served day.
        served: ``BAR_SCHEMA``, the served day with planted anomalies.
        planted: ``PLAN_SCHEMA``, the planted anomalies.
        day: the served UTC day.
    """

    history: "pl.DataFrame"
    served: "pl.DataFrame"
    planted: "pl.DataFrame"
    day: date

    @property
    def first(self) -> date:
        return span(self.history["date"])[0]

    @property
    def last(self) -> date:
        """The last day of the history."""
        return span(self.history["date"])[1]


def build_market(symbols: Sequence[str], seed: int, clock: Clock) -> DemoMarket:
    """Return the market of a seed; a few past sessions remain after its served day, for further feeds."""
    import polars as pl

    from surveillance_pipelines.training.injection import plant

    sessions = last_sessions(HISTORY_SESSIONS + 1 + _SPARE_SESSIONS, clock=clock).head(HISTORY_SESSIONS + 1)
    day: date = sessions["session_date"][-1]
    bars = simulated_bars(symbols, sessions, seed)
    served = bars.filter(pl.col("date") == day)
    plan = _plan(served, seed)
    return DemoMarket(bars.filter(pl.col("date") < day), plant(served, plan, seed).bars, plan, day)


def served_ticks(market: DemoMarket, seed: int) -> "pl.DataFrame":
    """Return the served day as ticks, ``TICK_SCHEMA``."""
    from surveillance_pipelines.market.bars_to_ticks import ticks_from_bars

    return ticks_from_bars(market.served, TICKS_PER_BAR, seed)


def served_charts(market: DemoMarket, alerts: Sequence[Alert]) -> Iterator[tuple[str, bytes]]:
    """Yield each symbol of the served day with a PNG: price, planted anomalies, alerts."""
    import polars as pl

    from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
    from surveillance_pipelines.training.price_plot import prices_with_anomalies

    rows = [(alert.symbol, alert.bar_start, alert.kind) for alert in alerts]
    schema = {"symbol": pl.String, "bar_start": pl.Int64, "kind": pl.String}
    marks = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("bar_start").cast(UTC_MICROSECONDS))
    for symbol in market.served["symbol"].unique().sort().to_list():
        bars = market.served.filter(pl.col("symbol") == symbol)
        title = f"{symbol} on the served day: planted anomalies and alerts of the output queue"
        yield symbol, prices_with_anomalies(bars, marks, title=title, planted=market.planted)


def _plan(served: "pl.DataFrame", seed: int) -> "pl.DataFrame":
    """Return the plan of the first seed, from ``seed`` upwards, that contains every kind of anomaly."""
    from surveillance_pipelines.training.injection_plan import plan_injections

    for attempt in range(_MAX_ATTEMPTS):
        plan = plan_injections(served, per_symbol_day=_PER_SYMBOL, seed=seed + attempt)
        if set(plan["kind"]) == set(ANOMALY_KINDS):
            return plan
    raise OperationFailedError(
        f"expected a plan with every kind of anomaly, got none in {_MAX_ATTEMPTS} attempts from seed {seed}",
        remedy="set another --seed",
    )
