"""Data incidents while they happen: silent feeds and symbols that stop, from the live lane's bars and messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.clock import MICROSECONDS, to_datetime, utc_date
from surveillance_pipelines.services.data_incidents import HISTORY, bars_and_breaks
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl
    import psycopg

    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.data_incidents import DataIncident

MAX_WATCHED: Final = 500
"""Symbols that are watched; the asset judges all of them."""
LATENCY_US: Final = 5 * MICROSECONDS
"""A minute is judged this long after its end, so that its last messages have arrived."""
ONGOING_US: Final = 3 * 60 * MICROSECONDS
"""An incident whose last minute is older than this is over."""
_RECENT: Final = timedelta(minutes=10)
"""Bars of the live lane close within this time; minutes after it are also known from the messages."""
_SERVED: Final = """
    SELECT symbol, bar_start, open, high, low, close, volume FROM ops.live_bars
    WHERE revision = 0 AND bar_start >= %s AND symbol = ANY(%s)
"""
_HEARD: Final = """
    SELECT symbol, date_trunc('minute', event_time) FROM ops.inbox
    WHERE event_time >= %s AND symbol = ANY(%s) GROUP BY 1, 2
"""
_WATCHED_KINDS: Final = ("feed_silence", "missing_bars")


@dataclass(frozen=True, slots=True)
class FeedState:
    """What the watch found.

    Attributes:
        open: whether the market of a watched symbol is open.
        incidents: data incidents of the sessions in progress that have not ended.
        new: number of them that were not known.
    """

    open: bool
    incidents: "tuple[DataIncident, ...]" = ()
    new: int = 0


def watch_feeds(stores: Stores, *, backlog: bool) -> FeedState:
    """Judge the sessions in progress up to the last whole minute, and store new data incidents.

    Outside sessions, on holidays and after the close of a half day there is nothing to judge.

    Args:
        stores: settings, clock, lake and database.
        backlog: whether messages wait in a queue; then only minutes up to the newest received message are judged,
            because the feed is not silent, but the platform is late.
    """
    from surveillance_pipelines.stores.data_incidents import save_data_incidents

    now, symbols = stores.clock.now_us(), sorted(set(stores.settings.symbols))[:MAX_WATCHED]
    # A session may have begun on the UTC day before.
    first, last = utc_date(now) - timedelta(days=1), utc_date(now)
    sessions = stores.session_table(first - HISTORY, last)
    watched = [symbol for symbol in symbols if sessions.for_symbol(symbol).is_open(now)]
    if not watched:
        return FeedState(open=False)
    with stores.connect() as connection:
        live = _live_minutes(connection, watched, now)
    if backlog and live.height:
        newest = live["bar_start"].max()
        now = min(now, round(newest.timestamp() * MICROSECONDS))  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    found = _ongoing(stores, live, sessions, watched, now)
    with stores.connect() as connection:
        new = save_data_incidents(connection, found, found_by="live", at=stores.clock.now_us())
    return FeedState(open=True, incidents=tuple(found), new=new)


def _ongoing(
    stores: Stores, live: "pl.DataFrame", sessions: "SessionTable", symbols: Sequence[str], now: int
) -> "list[DataIncident]":
    import polars as pl

    from surveillance_pipelines.market.data_incidents import find_data_incidents

    first, last = utc_date(now) - timedelta(days=1), utc_date(now)
    stored, breaks = bars_and_breaks(stores, sessions, first - HISTORY, last, symbols=symbols)
    bars = pl.concat([live.select(stored.columns), stored])  # a bar of the live lane takes precedence
    found = find_data_incidents(bars, sessions, first=first, last=last, now=now - LATENCY_US, breaks=breaks)
    return [one for one in found if one.kind in _WATCHED_KINDS and now - one.last_minute <= ONGOING_US]


def _live_minutes(connection: "psycopg.Connection", symbols: Sequence[str], now: int) -> "pl.DataFrame":
    """Return the bars of the last two days, and one row without prices per later minute with a message."""
    import polars as pl

    from surveillance_pipelines.contracts.frames import BAR_SCHEMA

    names = ["symbol", "bar_start", "open", "high", "low", "close", "volume"]
    schema = {name: BAR_SCHEMA[name] for name in names}
    since = to_datetime(now) - timedelta(days=2)
    served = connection.execute(_SERVED, (since, list(symbols))).fetchall()
    heard = connection.execute(_HEARD, (to_datetime(now) - _RECENT, list(symbols))).fetchall()
    rows = [*served, *((*row, None, None, None, None, None) for row in heard)]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(timeframe=pl.lit("1m"), revision=pl.lit(0, pl.Int32))
