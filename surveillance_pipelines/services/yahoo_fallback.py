"""The fallback: bars from Yahoo for sessions in which a watched symbol lacks some."""

from dataclasses import dataclass
from datetime import date, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from surveillance_pipelines.contracts.market import LANDED_TABLE
from surveillance_pipelines.services.ingestion import Ingestion, ingest_yahoo
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.market.availability import FillPlan


@dataclass(frozen=True, slots=True)
class Fallback:
    """What the fallback did.

    Attributes:
        gaps: sessions of a symbol that Yahoo can fill.
        gaps_too_old: those it no longer can.
        ingestion: of Yahoo's answer; None where Yahoo was not asked.
        reason: why it was not asked; empty if it was.
        degraded: whether gaps stay although they should not.
    """

    gaps: int = 0
    gaps_too_old: int = 0
    ingestion: Ingestion | None = None
    reason: str = ""
    degraded: bool = False


def fill_gaps(stores: Stores, first: date, last: date, *, to_the_minute: bool) -> Fallback:
    """Ask Yahoo for the bars that watched symbols lack between two days, and land them.

    Args:
        stores: settings, lake and database.
        first: first UTC day.
        last: last UTC day, included.
        to_the_minute: count also the last few minutes as a gap; otherwise the source gets time to deliver.
    """
    from surveillance_pipelines.market.availability import days_of

    if not stores.settings.fallback_to_yfinance:
        return Fallback(reason="switched off: FALLBACK_TO_YFINANCE is false")
    plan = _plan(stores, first, last, to_the_minute=to_the_minute)
    gaps, too_old = plan.fill, len(plan.too_old)
    if not gaps:
        return Fallback(
            gaps_too_old=too_old, reason=f"no gap that Yahoo could fill; {too_old} are older than it remembers"
        )
    if find_spec("yfinance") is None:
        remedy = "install the extra `yahoo`, or set FALLBACK_TO_YFINANCE=false"
        reason = f"yfinance is not installed, {len(gaps)} gaps stay: {remedy}"
        return Fallback(len(gaps), too_old, reason=reason, degraded=True)
    days = days_of(gaps)
    symbols = sorted({gap.symbol for gap in gaps})
    return Fallback(len(gaps), too_old, ingest_yahoo(stores, symbols, days[0], days[-1], fallback=True))


def _plan(stores: Stores, first: date, last: date, *, to_the_minute: bool) -> "FillPlan":
    import polars as pl

    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.market.availability import EDGE_MINUTES, gaps_to_fill
    from surveillance_pipelines.stores.live_rows import read_live_bars

    # A session may begin or end on a neighbouring UTC day.
    around = first - timedelta(days=1), last + timedelta(days=1)
    with stores.connect() as connection:
        live = read_live_bars(connection, *around)
    landed = stores.lake.read(LANDED_TABLE, days=around, schema=BAR_SCHEMA)
    return gaps_to_fill(
        pl.concat([landed, live]),
        stores.session_table(first, last),
        stores.settings.symbols,
        first=first,
        last=last,
        now=stores.clock.now_us(),
        edge_minutes=0 if to_the_minute else EDGE_MINUTES,
    )
