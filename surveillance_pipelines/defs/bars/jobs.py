"""Jobs of market data and reference data."""

from typing import Final

import dagster as dg

from surveillance_pipelines.defs.bars.assets import RESAMPLES

_REFERENCE: Final = ("instruments", "trading_sessions")
_MARKET_DATA: Final = (
    "ticks",
    "yahoo_bars",
    "bars_1m",
    *(f"bars_{timeframe}" for timeframe in RESAMPLES),
    "data_incidents",
    "features_core_v1",
    "features_core_v2",
)

market_data_job = dg.define_asset_job(
    "market_data_job",
    selection=dg.AssetSelection.assets(*_REFERENCE, *_MARKET_DATA),
    description="Compute ticks, the Yahoo fallback, bars, data incidents and features of a range of days.",
    tags={"surveillance/lane": "warehouse"},
)

yahoo_fallback_job = dg.define_asset_job(
    "yahoo_fallback_job",
    selection=dg.AssetSelection.assets(*_MARKET_DATA, "scores", "anomalies", "incidents", "signals"),
    description="Load bars from Yahoo and score the day while a queue is silent or unreachable.",
    tags={"surveillance/lane": "warehouse"},
)

reference_job = dg.define_asset_job(
    "reference_job",
    selection=dg.AssetSelection.assets(*_REFERENCE),
    description="Register the symbols of SYMBOLS and compute the sessions of their calendars, as drain runs require.",
    tags={"surveillance/lane": "warehouse"},
)
