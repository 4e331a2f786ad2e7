"""Checks on bars: results for the days of an asset's run, and separate checks on the whole table."""

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import dagster as dg

from surveillance_pipelines.clock import day_start_us, to_iso, to_us
from surveillance_pipelines.defs.metadata import counts_table
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.bar_quality import Silence

_SHOWN = 20
_NAMED = 3
_LOOKBACK: Final = timedelta(days=14)
"""Period that is searched for the newest bar of a symbol."""


def uniqueness_result(name: str, bars: "pl.DataFrame") -> dg.AssetCheckResult:
    """Check that symbol, timeframe, start and revision identify a row."""
    from surveillance_pipelines.market.bar_quality import repeated_bars

    repeats = repeated_bars(bars)
    return dg.AssetCheckResult(check_name=name, passed=repeats == 0, metadata={"repeats": repeats})


def silence_result(name: str, bars: "pl.DataFrame", sessions: "SessionTable") -> dg.AssetCheckResult:
    """Warn about symbols without bars for a long time within a session: a halt, an outage or lost data."""
    from surveillance_pipelines.market.bar_quality import LONGEST_SILENCE_MINUTES, silences

    found = sorted(silences(bars, sessions), key=lambda silence: -silence.minutes)
    rows = [{"symbol": row.symbol, "since": to_iso(row.since), "minutes": row.minutes} for row in found[:_SHOWN]]
    return dg.AssetCheckResult(
        check_name=name,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=_silence_sentence(found, LONGEST_SILENCE_MINUTES),
        metadata={"silences": len(found)} | ({"longest": counts_table(rows)} if rows else {}),
    )


def _silence_sentence(longest_first: "list[Silence]", limit: int) -> str:
    if not longest_first:
        return f"no symbol has a gap of more than {limit} minutes within a session"
    worst: dict[str, int] = {}
    for silence in longest_first:
        worst.setdefault(silence.symbol, silence.minutes)
    named = ", ".join(f"{symbol} {minutes} minutes" for symbol, minutes in list(worst.items())[:_NAMED])
    return (
        f"{len(longest_first)} gaps of more than {limit} minutes, in {len(worst)} symbols; longest: {named}. This is "
        "normal for a halt or an illiquid symbol. If bars were lost: `surveillance ingest` them, then `surveillance "
        "backfill` those days"
    )


@dg.asset_check(asset="bars_1m", description="Every symbol of SYMBOLS has bars of the last closed session.")
def bars_are_fresh(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.market.bar_quality import sessions_behind

    days, today, symbols = platform.lake.days("bars_1m"), platform.today(), sorted(set(platform.settings.symbols))
    if not days:
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.WARN, description="the table has no bars"
        )
    since = min(days[-1], today - _LOOKBACK)
    bars = platform.lake.read("bars_1m", days=(since, days[-1]), columns=["symbol", "bar_start"])
    newest = dict(bars.group_by("symbol").max().iter_rows())
    sessions = platform.session_table(since, today)
    rows: list[dict[str, str | int | float | bool]] = []
    for symbol in symbols:
        last_us = to_us(newest[symbol]) if symbol in newest else day_start_us(since)
        behind = sessions_behind(last_us, sessions.for_symbol(symbol), platform.clock.now_us())
        if behind:
            shown = to_iso(last_us) if symbol in newest else f"none since {since}"
            rows.append({"symbol": symbol, "newest_bar": shown, "sessions_behind": behind})
    remedy = f"; ingest them if they were not served, then `surveillance backfill {days[-1]} {today}`" if rows else ""
    return dg.AssetCheckResult(
        passed=not rows,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(rows)} of {len(symbols)} watched symbols have no bars of the last closed session{remedy}",
        metadata={"last_day": str(days[-1])} | ({"behind": counts_table(rows[:_SHOWN])} if rows else {}),
    )


@dg.asset_check(asset="bars_landed", description="Every symbol of the table is registered in `instruments`.")
def landed_symbols_are_known(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.instruments import load_instruments

    lake = platform.lake
    landed = (
        set(lake.scan("bars_landed").select("symbol").unique().collect()["symbol"])
        if lake.exists("bars_landed")
        else set()
    )
    with platform.connect() as connection:
        known = {row.symbol for row in load_instruments(connection)}
    unknown = sorted(landed - known)
    return dg.AssetCheckResult(
        passed=not unknown,
        severity=dg.AssetCheckSeverity.WARN,
        description="unregistered symbols have no trading calendar, so their bars have no session" if unknown else None,
        metadata={"unknown": ", ".join(unknown), "symbols": len(landed)},
    )
