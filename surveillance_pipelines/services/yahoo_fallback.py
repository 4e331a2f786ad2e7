"""The Yahoo fallback: fills gaps in the bars of watched symbols."""

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
    """Result of the fallback.

    Attributes:
        gaps: number of sessions with missing bars that Yahoo can fill, counted per symbol.
        gaps_too_old: number of those that are too old for Yahoo.
        ingestion: result of the ingestion; None if no request was sent.
        reason: reason why no request was sent; empty otherwise.
        degraded: whether gaps remain because the fallback cannot work.
    """

    gaps: int = 0
    gaps_too_old: int = 0
    ingestion: Ingestion | None = None
    reason: str = ""
    degraded: bool = False


def fill_gaps(stores: Stores, first: date, last: date, *, to_the_minute: bool) -> Fallback:
    """Ingest the missing bars of watched symbols in a range of days from Yahoo.

    Args:
        stores: settings, lake and database.
        first: first UTC day.
        last: last UTC day, included.
        to_the_minute: also count the last few minutes as a gap; otherwise the source has time to deliver them.
    """
    from surveillance_pipelines.market.availability import days_of

    if not stores.settings.fallback_to_yfinance:
        return Fallback(reason="disabled: FALLBACK_TO_YFINANCE is false")
    plan = _plan(stores, first, last, to_the_minute=to_the_minute)
    gaps, too_old = plan.fill, len(plan.too_old)
    if not gaps:
        return Fallback(
            gaps_too_old=too_old, reason=f"no gaps that Yahoo can fill; {too_old} gaps are too old for Yahoo"
        )
    if find_spec("yfinance") is None:
        remedy = "install the extra `yahoo`, or set FALLBACK_TO_YFINANCE=false"
        reason = f"yfinance is not installed, so {len(gaps)} gaps remain: {remedy}"
        return Fallback(len(gaps), too_old, reason=reason, degraded=True)
    days = days_of(gaps)
    symbols = sorted({gap.symbol for gap in gaps})
    return Fallback(len(gaps), too_old, ingest_yahoo(stores, symbols, days[0], days[-1], fallback=True))


def _plan(stores: Stores, first: date, last: date, *, to_the_minute: bool) -> "FillPlan":
    import polars as pl

    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.market.availability import EDGE_MINUTES, gaps_to_fill
    from surveillance_pipelines.stores.live_rows import read_live_bars

    # A session may begin or end on an adjacent UTC day.
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
