"""The market of a canary run: a recent real day of the served symbols, and the history before it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import polars as pl
import psycopg

from surveillance_pipelines.contracts.errors import NotReadyError
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.instruments import load_instruments
from surveillance_pipelines.stores.live_rows import read_live_bars

REACH: Final = timedelta(days=10)
"""Days before today that are searched for a day with bars, and read as history."""

MOST_SYMBOLS: Final = 24
"""Symbols per run. Each run draws others, so that all have their turn."""

MOST_BARS: Final = 480
"""Bars per symbol: a whole session of stocks, and eight hours of a market that never closes."""

FED_SHARE: Final = 0.2
"""A symbol whose day has less than this share of its usual number of bars counts as not fed."""

_INSIDE: Final = 0.9
_COVERED: Final = 0.5
"""A calendar does not fit if fewer than ``_INSIDE`` of a day's bars are in its session, and they fill less than
``_COVERED`` of the session. Bars before and after the session alone, or illiquid symbols alone, fail only one."""


@dataclass(frozen=True, slots=True, eq=False)
class CanaryMarket:
    """A recent day of the served symbols.

    Attributes:
        day: the UTC day.
        bars: ``BAR_SCHEMA``, revision 0, of ``chosen`` on the day, within the session; what the run sends.
        history: ``BAR_SCHEMA``, revision 0: of each symbol before its first bar in ``bars``, of the other symbols
            before the first of all.
        served: symbols that the platform serves, as far as bars or the instrument table show.
        chosen: symbols of this run.
        problems: symbol → why the feed or the calendar of the symbol is wrong.
    """

    day: date
    bars: pl.DataFrame
    history: pl.DataFrame
    served: tuple[str, ...]
    chosen: tuple[str, ...]
    problems: Mapping[str, str]


def read_market(stores: Stores, connection: psycopg.Connection[Any], sessions: SessionTable, seed: int) -> CanaryMarket:
    """Read the newest finished day with bars: those of the live lane, then those of the lake.

    Args:
        stores: settings, lake and clock.
        connection: connection to PostgreSQL.
        sessions: sessions of the instruments' calendars.
        seed: seed of the choice of symbols.

    Raises:
        NotReadyError: if no day has bars.
    """
    bars = recent_bars(stores, connection)
    if bars.is_empty():
        raise NotReadyError(
            f"expected bars of the last {REACH.days} days, found none",
            remedy="send messages to a queue, or `surveillance ingest PATH` and `surveillance backfill FIRST LAST`",
        )
    days = sorted(bars["date"].unique())
    day = max((each for each in days if each < stores.today()), default=days[-1])
    served = served_symbols(stores.settings, connection, bars)
    of_day = bars.filter((pl.col("date") == day) & pl.col("symbol").is_in(served))
    problems = _unfed(bars, day, served, sessions) | _misfit(of_day, sessions)
    chosen = _chosen(sorted(of_day["symbol"].unique()), seed)
    sent = pl.concat([_window(of_day.filter(pl.col("symbol") == symbol), symbol, sessions) for symbol in chosen])
    return CanaryMarket(day, sent, _before(bars, sent), served, chosen, problems)


def recent_bars(stores: Stores, connection: psycopg.Connection[Any]) -> pl.DataFrame:
    """Return the revision-0 bars of the last days, ``BAR_SCHEMA`` sorted by symbol and start.

    A bar of the live lane replaces that of the lake.
    """
    today = stores.today()
    newest = max((day for day in stores.lake.days("bars_1m") if day <= today), default=today)
    first = newest - REACH
    live = read_live_bars(connection, first, today)
    landed = stores.lake.read("bars_1m", days=(first, today), schema=BAR_SCHEMA)
    other = landed.join(live, on=["symbol", "bar_start"], how="anti")
    known = pl.concat([live, other.select(live.columns)]).filter(pl.col("revision") == 0)
    return known.sort("symbol", "bar_start")


def served_symbols(settings: Settings, connection: psycopg.Connection[Any], bars: pl.DataFrame) -> tuple[str, ...]:
    """Return the symbols that should be served: those with recent bars of the live lane, ``SYMBOLS``, and instruments.

    A symbol whose bars arrived until recently counts even if its instrument is missing now. Disabled instruments do not
    count, because a user has disabled them.
    """
    instruments = load_instruments(connection)
    disabled = {row.symbol for row in instruments if not row.active}
    known = {row.symbol for row in instruments} | set(settings.symbols) | set(bars["symbol"].unique())
    return tuple(sorted(known - disabled))


def _unfed(bars: pl.DataFrame, day: date, served: Collection[str], sessions: SessionTable) -> dict[str, str]:
    """Return the symbols that had bars before, and have none or few on the day although their market was open."""
    counts = bars.filter(pl.col("date") <= day).group_by("symbol", "date").len()
    usual = dict(counts.filter(pl.col("date") < day).group_by("symbol").agg(pl.col("len").median()).iter_rows())
    found = dict(counts.filter(pl.col("date") == day).select("symbol", "len").iter_rows())
    return {
        symbol: f"{found.get(symbol, 0)} bars on {day}, usually {usual[symbol]:.0f}"
        for symbol in served
        if symbol in usual
        and found.get(symbol, 0) < FED_SHARE * usual[symbol]
        and day.toordinal() in sessions.for_symbol(symbol).session_ids
    }


def _misfit(bars: pl.DataFrame, sessions: SessionTable) -> dict[str, str]:
    """Return the symbols whose bars do not fit the session of their calendar."""
    found = {}
    for (symbol,), part in bars.partition_by("symbol", as_dict=True).items():
        table = sessions.for_symbol(str(symbol))
        _, minute, length = table.positions(part["bar_start"].dt.timestamp("us").to_numpy())
        inside = (minute >= 0) & (minute < length)
        covered = inside.sum() / max(float(np.max(length)), 1.0)
        if inside.mean() < _INSIDE and covered < _COVERED:
            found[str(symbol)] = (
                f"{inside.mean():.0%} of its bars are in the session of {table.calendar}, and fill {covered:.0%} of it"
            )
    return found


def _before(bars: pl.DataFrame, sent: pl.DataFrame) -> pl.DataFrame:
    begin = sent.group_by("symbol").agg(begin=pl.col("bar_start").min())
    known = bars.join(begin, on="symbol", how="left", maintain_order="left")
    return known.filter(pl.col("bar_start") < pl.col("begin").fill_null(sent["bar_start"].min())).drop("begin")


def _chosen(symbols: Sequence[str], seed: int) -> tuple[str, ...]:
    if len(symbols) <= MOST_SYMBOLS:
        return tuple(symbols)
    return tuple(sorted(np.random.default_rng(seed).choice(symbols, MOST_SYMBOLS, replace=False).tolist()))


def _window(bars: pl.DataFrame, symbol: str, sessions: SessionTable) -> pl.DataFrame:
    """Return the bars within the session, or all if none is, and at most ``MOST_BARS``."""
    _, minute, length = sessions.for_symbol(symbol).positions(bars["bar_start"].dt.timestamp("us").to_numpy())
    inside = bars.filter(pl.Series((minute >= 0) & (minute < length)))
    return (bars if inside.is_empty() else inside).tail(MOST_BARS)
