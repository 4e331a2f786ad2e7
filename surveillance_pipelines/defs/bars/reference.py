"""Assets of reference data: instruments and trading sessions."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

import dagster as dg

from surveillance_pipelines.clock import now
from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.contracts.market import FIRST_DAY
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.metadata import stored_schema
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    import polars as pl

_AHEAD: Final = timedelta(days=200)
"""Exchanges publish their holidays about a year ahead, so the calendar library is reliable for this period."""


@dg.asset(
    group_name="reference",
    kinds={"postgresql"},
    owners=OWNERS,
    tags=tags("warehouse", "postgresql"),
    code_version=code_version("market.calendars", "stores.instruments"),
    check_specs=[
        dg.AssetCheckSpec(
            "instruments_are_registered",
            asset="instruments",
            blocking=True,
            description="Every symbol of SYMBOLS is registered.",
        )
    ],
)
def instruments(platform: PlatformResource) -> dg.MaterializeResult:
    """Watched symbols (`SYMBOLS` and ingested ones) with their trading calendars."""
    from surveillance_pipelines.market.calendars import guess_calendar
    from surveillance_pipelines.stores.instruments import load_instruments, register_instruments

    settings = platform.settings
    with platform.connect() as connection:
        for symbol in settings.symbols:
            calendar = guess_calendar(symbol, settings.default_calendar)
            register_instruments(connection, [symbol], calendar, "settings", platform.clock)
        known = load_instruments(connection)
        schema = stored_schema(connection, "instruments", {"source": "Origin of the registration, such as settings"})
    missing = sorted(set(settings.symbols) - {instrument.symbol for instrument in known})
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(known),
            "dagster/column_schema": schema,
            "symbols": ", ".join(sorted(row.symbol for row in known)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="instruments_are_registered", passed=not missing, metadata={"missing": ", ".join(missing)}
            )
        ],
    )


@dg.asset(
    group_name="reference",
    kinds={"postgresql"},
    owners=OWNERS,
    deps=["instruments"],
    tags=tags("warehouse", "postgresql"),
    code_version=code_version("market.calendars", "stores.sessions"),
    check_specs=[
        dg.AssetCheckSpec(
            "sessions_reach_ahead",
            asset="trading_sessions",
            description="The sessions of the coming weeks are known for every calendar.",
        )
    ],
)
def trading_sessions(platform: PlatformResource) -> dg.MaterializeResult:
    """Opening and closing instants of the sessions of all calendars in use, from exchange_calendars.

    A calendar that is unknown or does not reach far enough ahead causes a warning; the other calendars are stored.
    """
    from surveillance_pipelines.stores.instruments import load_instruments
    from surveillance_pipelines.stores.sessions import last_sessions, save_sessions

    last = now(platform.clock).date() + _AHEAD
    with platform.connect() as connection:
        used = {row.calendar for row in load_instruments(connection)}
        calendars = sorted(used | {platform.settings.default_calendar})
        rows, problems = _build(calendars, last)
        save_sessions(connection, rows)
        reach = last_sessions(connection)
        schema = stored_schema(connection, "sessions")
    enough = last - timedelta(days=30)
    problems |= {
        name: f"calendar {name} ends on {reach[name]}: a newer release of exchange_calendars may reach further"
        for name in calendars
        if name in reach and reach[name] < enough
    }
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": rows.height,
            "dagster/column_schema": schema,
            "calendars": ", ".join(calendars),
            "last_session": str(min((reach[name] for name in calendars if name in reach), default="none")),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="sessions_reach_ahead",
                passed=not problems,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(problems.values()) or None,
            )
        ],
    )


def _build(calendars: list[str], last: date) -> "tuple[pl.DataFrame, dict[str, str]]":
    """Return the sessions of the calendars up to a date, and calendar → problem."""
    import polars as pl

    from surveillance_pipelines.contracts.frames import SESSION_SCHEMA
    from surveillance_pipelines.market.calendars import build_sessions

    built, problems = [SESSION_SCHEMA.to_frame()], dict[str, str]()
    for calendar in calendars:
        try:
            built.append(build_sessions(calendar, FIRST_DAY, last))
        except ValueError as error:
            problems[calendar] = str(error)
    return pl.concat(built), problems
