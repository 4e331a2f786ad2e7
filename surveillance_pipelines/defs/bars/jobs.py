"""From whatever landed to features, for a range of days."""

import dagster as dg

from surveillance_pipelines.defs.bars.assets import RESAMPLES

market_data_job = dg.define_asset_job(
    "market_data_job",
    selection=dg.AssetSelection.assets(
        "instruments",
        "trading_sessions",
        "ticks",
        "yahoo_bars",
        "bars_1m",
        *(f"bars_{timeframe}" for timeframe in RESAMPLES),
        "features_core_v1",
    ),
    description="Ticks, the Yahoo fallback, 1-minute bars, resamples and features of a range of days, as one run.",
    tags={"surveillance/lane": "warehouse"},
)

reference_job = dg.define_asset_job(
    "reference_job",
    selection=dg.AssetSelection.assets("instruments", "trading_sessions"),
    description="Instruments and the sessions of their calendars: what a drain run needs before its first message.",
    tags={"surveillance/lane": "warehouse"},
)
