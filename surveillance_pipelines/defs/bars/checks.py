"""Promises about bars: those of one day as results of its asset, those of the whole table as checks of their own."""

from typing import TYPE_CHECKING

import dagster as dg

from surveillance_pipelines.clock import to_iso, to_us
from surveillance_pipelines.defs.metadata import counts_table
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.sessions import SessionTable

_SHOWN = 20


def uniqueness_result(name: str, bars: "pl.DataFrame") -> dg.AssetCheckResult:
    """Say whether every row has its own symbol, timeframe, start and revision."""
    from surveillance_pipelines.market.quality import repeated_bars

    repeats = repeated_bars(bars)
    return dg.AssetCheckResult(check_name=name, passed=repeats == 0, metadata={"repeats": repeats})


def silence_result(name: str, bars: "pl.DataFrame", sessions: "SessionTable") -> dg.AssetCheckResult:
    """Warn where a symbol is silent for long inside a session: a halt, an outage or lost data."""
    from surveillance_pipelines.market.quality import LONGEST_SILENCE_MINUTES, silences

    found = sorted(silences(bars, sessions), key=lambda silence: -silence.minutes)
    rows = [{"symbol": row.symbol, "since": to_iso(row.since), "minutes": row.minutes} for row in found[:_SHOWN]]
    return dg.AssetCheckResult(
        check_name=name,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(found)} silences longer than {LONGEST_SILENCE_MINUTES} minutes",
        metadata={"silences": len(found)} | ({"longest": counts_table(rows)} if rows else {}),
    )


@dg.asset_check(asset="bars_1m", description="The newest bar is not older than the last session that closed.")
def bars_are_fresh(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.market.quality import sessions_behind

    days = platform.lake.days("bars_1m")
    if not days:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description="there are no bars")
    newest = platform.lake.read("bars_1m", days=(days[-1], days[-1]), columns=["symbol", "bar_start"])
    last = newest.sort("bar_start").row(-1, named=True)
    last_us = to_us(last["bar_start"])
    sessions = platform.session_table(days[-1], platform.today())
    behind = sessions_behind(last_us, sessions.for_symbol(last["symbol"]), platform.clock.now_us())
    return dg.AssetCheckResult(
        passed=behind == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{behind} sessions have closed since the newest bar",
        metadata={"newest_bar": to_iso(last_us), "symbol": last["symbol"], "sessions_behind": behind},
    )


@dg.asset_check(asset="bars_landed", description="Every symbol that landed is in the instrument table.")
def landed_symbols_are_known(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.storage.instruments import load_instruments

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
        description="unknown symbols have no trading calendar, so their bars have no session" if unknown else None,
        metadata={"unknown": ", ".join(unknown), "symbols": len(landed)},
    )
