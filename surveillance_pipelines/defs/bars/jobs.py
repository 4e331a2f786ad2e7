"""From whatever landed to features, for a range of days."""

from typing import Final

import dagster as dg

from surveillance_pipelines.defs.bars.assets import RESAMPLES

_REFERENCE: Final = ("instruments", "trading_sessions")
_MARKET_DATA: Final = (
    "ticks",
    "yahoo_bars",
    "bars_1m",
    *(f"bars_{timeframe}" for timeframe in RESAMPLES),
    "features_core_v1",
)

market_data_job = dg.define_asset_job(
    "market_data_job",
    selection=dg.AssetSelection.assets(*_REFERENCE, *_MARKET_DATA),
    description="Ticks, the Yahoo fallback, 1-minute bars, resamples and features of a range of days, as one run.",
    tags={"surveillance/lane": "warehouse"},
)

yahoo_fallback_job = dg.define_asset_job(
    "yahoo_fallback_job",
    selection=dg.AssetSelection.assets(*_MARKET_DATA, "scores", "anomalies", "signals"),
    description="Stands in for the live lane while a queue is silent: bars from Yahoo, features and scores of the day.",
    tags={"surveillance/lane": "warehouse"},
)

reference_job = dg.define_asset_job(
    "reference_job",
    selection=dg.AssetSelection.assets(*_REFERENCE),
    description="Instruments and the sessions of their calendars: what a drain run needs before its first message.",
    tags={"surveillance/lane": "warehouse"},
)
