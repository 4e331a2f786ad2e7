"""Assets of reference data: instruments and trading sessions."""

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.metadata import stored_schema
from surveillance_pipelines.defs.resources import PlatformResource


@dg.asset(
    group_name="reference",
    kinds={"postgresql"},
    owners=OWNERS,
    tags=tags("warehouse", "postgresql"),
    code_version=code_version("services.instruments"),
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
    from surveillance_pipelines.services.instruments import register_watched

    known = register_watched(platform)
    with platform.connect() as connection:
        schema = stored_schema(connection, "instruments", {"source": "Origin of the registration, such as settings"})
    missing = sorted(set(platform.settings.symbols) - set(known))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(known),
            "dagster/column_schema": schema,
            "symbols": ", ".join(known),
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
    code_version=code_version("services.trading_sessions"),
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
    from surveillance_pipelines.services.trading_sessions import save_known_sessions

    saved = save_known_sessions(platform)
    with platform.connect() as connection:
        schema = stored_schema(connection, "sessions")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": saved.rows,
            "dagster/column_schema": schema,
            "calendars": ", ".join(sorted(saved.reach.keys() | saved.problems.keys())),
            "last_session": str(min(saved.reach.values(), default="none")),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="sessions_reach_ahead",
                passed=not saved.problems,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(saved.problems.values()) or None,
            )
        ],
    )
