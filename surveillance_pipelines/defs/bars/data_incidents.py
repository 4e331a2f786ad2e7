"""The asset of data incidents: faults of the data, apart from incidents of the market."""

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.metadata import counts_table, inline_plot, stored_schema, value_counts
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from surveillance_pipelines.market.data_incidents import DataIncident
    from surveillance_pipelines.market.session_bars import Coverage

CHECK: Final = "data_is_complete"
_SHOWN: Final = 20
_NAMED: Final = 3
_REMEDIES: Final = {
    "feed_silence": "`surveillance ingest` the lost bars, then `surveillance backfill` the day",
    "missing_bars": "`surveillance ingest` the lost bars, then `surveillance backfill` the day; a halt needs nothing",
    "stale_price": "ask the source whether it repeats its last price; a halt needs nothing",
    "possible_split": "ingest the earlier bars again with adjusted prices if it was a split",
}


@dg.asset(
    group_name="bars",
    kinds={"polars", "postgresql"},
    owners=OWNERS,
    partitions_def=DAYS,
    deps=["bars_1m", "instruments", "trading_sessions"],
    tags=tags("warehouse", "postgresql"),
    code_version=code_version("services.data_incidents", "training.coverage_plot"),
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="data_incidents",
            description="No feed was silent, no symbol lacks far more bars than usual or repeats a stale price, and no "
            "price changed by the ratio of a split.",
        )
    ],
)
def data_incidents(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Faults of the data in PostgreSQL: silent feeds, missing bars, stale prices and possible splits, one row each.

    They are measured against the sessions of the calendar and what is usual for the symbol. Incidents of the market are
    in `incidents`.
    """
    from surveillance_pipelines.services.data_incidents import update_data_incidents

    found = update_data_incidents(platform, *days_of_run(context))
    rows = [_row(one) for one in sorted(found.incidents, key=lambda each: -each.minutes)[:_SHOWN]]
    with platform.connect() as connection:
        schema = stored_schema(connection, "data_incidents")
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": len(found.incidents),
            "dagster/column_schema": schema,
            "new_rows": found.new,
            "resolved": found.resolved,
            **value_counts("kinds", [one.kind for one in found.incidents]),
            **({"longest": counts_table(rows)} if rows else {}),
            **_coverage(found.coverage),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK,
                passed=not found.incidents,
                severity=dg.AssetCheckSeverity.WARN,
                description=data_sentence(found.incidents),
                metadata={"incidents": len(found.incidents)} | ({"longest": counts_table(rows)} if rows else {}),
            )
        ],
    )


def data_sentence(incidents: "tuple[DataIncident, ...]") -> str:
    """Return the longest incidents of each kind in words, with symbols, minutes and remedies."""
    if not incidents:
        return "no silent feed, no unusually missing bars, no stale price and no possible split"
    parts = []
    for kind, remedy in _REMEDIES.items():
        some = sorted((one for one in incidents if one.kind == kind), key=lambda each: -each.minutes)
        if some:
            named = "; ".join(f"{one.sentence} ({_when(one)})" for one in some[:_NAMED])
            more = f"; and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
            parts.append(f"{kind}: {named}{more}. Remedy: {remedy}")
    return ". ".join(parts)


def _row(one: "DataIncident") -> dict[str, str | int | float | bool | None]:
    return {"kind": one.kind, "symbol": one.symbol or f"all of {one.calendar}", "utc": _when(one),
            "minutes": one.minutes, "what": one.sentence}  # fmt: skip


def _when(one: "DataIncident") -> str:
    first, last = (to_datetime(instant).astimezone(UTC) for instant in (one.first_minute, one.last_minute))
    return f"{first:%Y-%m-%d %H:%M}" + (f" to {last:%H:%M}" if last > first else "") + " UTC"


def _coverage(coverage: "Coverage | None") -> dict[str, Any]:
    if coverage is None or not coverage.slot.length:
        return {}
    return {"coverage": inline_plot(lambda: _draw(coverage), "minutes with a bar, per symbol")}


def _draw(coverage: "Coverage") -> bytes:
    from surveillance_pipelines.training.coverage_plot import coverage_figure

    return coverage_figure(coverage)
