"""Labels of the direction after a bar: SELL, HOLD or BUY; HOLD is a move that does not cover costs."""

from typing import Final

import polars as pl

HORIZON_MINUTES: Final = 15
"""Horizon of a signal."""

COST_FLOOR: Final = 2e-4
"""Minimum width of the HOLD band: 2 basis points, the spread and fees of a round trip in a liquid stock."""

BAND_VOLATILITIES: Final = 0.45
"""Width of the HOLD band in standard deviations of the horizon's return; 1/3 of normal moves are within ±0.43."""


def direction_labels(forward_return: pl.Expr, realised_volatility: pl.Expr) -> pl.Expr:
    """Return class numbers in the order of ``DIRECTIONS``; null where the return is null.

    Args:
        forward_return: log return over the horizon.
        realised_volatility: root mean square log return per bar; if NaN or null, the band is the cost floor.
    """
    usual = realised_volatility.fill_nan(None).fill_null(0.0) * (BAND_VOLATILITIES * HORIZON_MINUTES**0.5)
    band = pl.max_horizontal(usual, pl.lit(COST_FLOOR))
    label = pl.when(forward_return > band).then(2).when(forward_return < -band).then(0).otherwise(1)
    return pl.when(forward_return.is_null()).then(None).otherwise(label).cast(pl.Int64)


def forward_returns(bars: pl.DataFrame, horizon_minutes: int = HORIZON_MINUTES) -> pl.Series:
    """Return the log return of each bar's close to the last close at most ``horizon_minutes`` later.

    The result is null if the symbol has no bar in the last third of the horizon on the same UTC date. A label never
    crosses into another day, so days can be split without an overlap.

    Args:
        bars: columns symbol, date, bar_start, close; any order, each symbol and bar_start once.
        horizon_minutes: length of the horizon.
    """
    ahead = pl.duration(minutes=horizon_minutes)
    rows = bars.select("symbol", "date", "bar_start", "close").with_row_index("row")
    later = rows.select(
        "symbol", "date", pl.col("bar_start").alias("later_start"), pl.col("close").alias("later_close")
    )
    joined = (
        rows.with_columns(target=pl.col("bar_start") + ahead)
        .sort("target")
        .join_asof(
            later.sort("later_start"),
            left_on="target",
            right_on="later_start",
            by=["symbol", "date"],
            strategy="backward",
            tolerance=f"{horizon_minutes // 3}m",
            check_sortedness=False,  # sorted above; polars cannot verify this per group
        )
    )
    moves = joined.sort("row").select((pl.col("later_close") / pl.col("close")).log().alias("forward_return"))
    return moves["forward_return"]
