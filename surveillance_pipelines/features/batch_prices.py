"""Features of prices for whole columns, bit-identical to ``kernel.step``.

``kernel.step`` computes one bar at a time, window by window. Here, each feature is one loop over bars that the compiler
vectorises, so that a register holds the windows of several bars. Within a window, additions have the same order as in
``kernel``, so sums are bit-identical. Only exponential averages, runs and session sums depend on all bars since the
state was zero; these are recomputed from the history for each UTC day.

numba's on-disk cache checks one file for changes, so this module uses no function or constant of another file.
"""

import math
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
_compiled = njit(cache=True, error_model="numpy", nogil=True)

(OPEN, HIGH, LOW, CLOSE, VOLUME, SESSION_ID, MINUTE, SESSION_MINUTES, PEERS_RETURN, PEERS) = range(10)
(
    LOG_RETURN, RANGE, GAP, SMA_20, EMA_12, EMA_26, MACD, MACD_SIGNAL, RSI_14, ATR_14, BOLLINGER_Z, VOLUME_Z,
    VOLUME_RATIO, REALISED_VOLATILITY, RETURN_Z, RANGE_RATIO, SMA_DISTANCE, MACD_RELATIVE, VWAP_DISTANCE, MINUTE_SIN,
    MINUTE_COS, SESSION_PROGRESS, IN_SESSION, MINUTES_TO_CLOSE, NEW_SESSION, HAS_VOLUME, MARKET_RETURN,
    RELATIVE_RETURN, PEER_CORRELATION, PEERS_PRESENT, MARKET_RETURN_Z, DIVERGENCE_Z_15, RETURN_Z_5, RETURN_Z_15, GAP_Z,
    SIGN_BALANCE_10, RUN_LENGTH, VOLUME_Z_5, FLOW_BALANCE_10, PRICE_VOLUME_DIVERGENCE, ILLIQUIDITY_Z, DRAWDOWN_15,
    RUNUP_15, ROUND_TRIP_30, VOLATILITY_RATIO, ATR_RELATIVE, CLOSE_LOCATION, WICK_RATIO,
) = range(48)  # fmt: skip

# Rows of ``series`` (one column per bar from the start of the history) and of ``scratch`` (one column per bar of the
# block); each function reuses the rows A to D.
RETURNS, RANGES = range(2)
SIGMA, A, B, C, D = range(5)

# State carried from block to block.
FAST, SLOW, SIGNAL, GAIN, LOSS, TRUE_RANGE, VALUE, TRADED, RUN = range(9)

RETURN_FLOOR = 1e-5
RUN_LIMIT = 20.0


@_compiled
def extend(inputs: Array, begin: int, start: int, stop: int, series: Array) -> None:
    """Write log returns and ranges of bars ``start`` to ``stop`` to ``series``, f8[2, n] from ``begin`` on."""
    high, low, close = inputs[HIGH], inputs[LOW], inputs[CLOSE]
    returns, ranges = series[RETURNS], series[RANGES]
    for i in range(stop - start):
        ranges[start - begin + i] = (high[start + i] - low[start + i]) / close[start + i]
    if start == begin:
        returns[0] = 0.0  # no return: used only where a sign or an absolute value is needed, in no other window
    now = max(start, begin + 1)
    last, close_now, moves = close[now - 1 :], close[now:], returns[now - begin : max(stop - begin, now - begin)]
    for i in range(len(moves)):
        moves[i] = close_now[i] / last[i]
    _logarithms(moves)


@_compiled
def prices(
    inputs: Array, begin: int, start: int, stop: int, days: Integers, chosen: Flags, carry: Array, series: Array,
    scratch: Array, out: Array, at: int,
) -> None:  # fmt: skip
    """Extend the series by one block of bars of one symbol and write their features; blocks must be consecutive.

    Args:
        inputs: f8[10, N], rows contiguous, in the order of ``kernel.INPUTS``.
        begin: column of the first bar of the symbol's history.
        start: column of the block's first bar.
        stop: column after its last bar.
        days: int64[d, 3], ascending: per UTC day, the first column of its history, its first column, and the column
            after its last bar. A bar outside these days gets no exponential average, run length or VWAP.
        chosen: bool[48], mask of the requested features. Some other features are also written.
        carry: f8[9], state of the previous block.
        series: f8[2, n], extended up to ``start``.
        scratch: f8[5, block + 64], overwritten; afterwards, row 0 is the volatility before each bar.
        out: f8[48, M], rows contiguous; the block's first bar is written to column ``at``.
        at: see ``out``.
    """
    extend(inputs, begin, start, stop, series)
    wanted = start - begin
    high, low, close = inputs[HIGH][begin:stop], inputs[LOW][begin:stop], inputs[CLOSE][begin:stop]
    _shape(inputs[OPEN][begin:stop], high, low, close, wanted, series, out, at)
    _volatility(wanted, stop - begin, series, scratch, out, at)
    _recursive(inputs, begin, start, stop, days, series, carry, scratch, out, at)
    _trend(close, wanted, scratch, out, at)
    if chosen[SMA_20] or chosen[SMA_DISTANCE] or chosen[BOLLINGER_Z]:
        _averages(close, wanted, out, at)
    _horizons(close, wanted, series, scratch, out, at)
    if chosen[DRAWDOWN_15] or chosen[RUNUP_15]:
        _extremes(high, low, close, wanted, scratch, out, at)
    if chosen[ROUND_TRIP_30]:
        _round_trip(high, low, close, wanted, scratch, out, at)


@_compiled
def _clean(value: float) -> float:
    return math.nan if value != value else value  # noqa: PLR0124 (one bit pattern for every NaN, as in the kernel)


@_compiled
def _column(out: Array, feature: int, at: int, wanted: int, needed: int, count: int) -> Array:
    """Return the column from bar ``max(wanted, needed)`` on; set earlier bars, whose window is not full, to NaN."""
    start = min(max(wanted, needed), count)
    out[feature][at : at + start - wanted] = math.nan
    return out[feature][at + start - wanted : at + count - wanted]


@_compiled
def _means_20(x: Array, out: Array, windows: int) -> None:
    for t in range(windows):
        pivot = x[t]
        a = b = c = d = 0.0
        for k in range(0, 20, 4):
            a += x[t + k] - pivot
            b += x[t + k + 1] - pivot
            c += x[t + k + 2] - pivot
            d += x[t + k + 3] - pivot
        out[t] = pivot + ((a + b) + (c + d)) / 20


@_compiled
def _deviations_20(x: Array, means: Array, out: Array, windows: int) -> None:
    for t in range(windows):
        mean = means[t]
        a = b = c = d = 0.0
        for k in range(0, 20, 4):
            a += (x[t + k] - mean) * (x[t + k] - mean)
            b += (x[t + k + 1] - mean) * (x[t + k + 1] - mean)
            c += (x[t + k + 2] - mean) * (x[t + k + 2] - mean)
            d += (x[t + k + 3] - mean) * (x[t + k + 3] - mean)
        out[t] = math.sqrt(((a + b) + (c + d)) / 20)


def _lanes_of(length: int) -> Callable[[Array, Array, int], None]:
    @_compiled
    def lanes(x: Array, out: Array, windows: int) -> None:
        for t in range(windows):
            total = 0.0
            for k in range(length):
                total += x[t + 4 * k]
            out[t] = total

    return lanes


_lanes_5, _lanes_15 = _lanes_of(5), _lanes_of(15)


@_compiled
def _logarithms(x: Array) -> None:
    for t in range(len(x)):
        x[t] = math.log(x[t])


@_compiled
def _sign(value: float) -> float:
    return (1.0 if value > 0.0 else 0.0) - (1.0 if value < 0.0 else 0.0)


@_compiled
def _shape(
    opens: Array, high: Array, low: Array, close: Array, wanted: int, series: Array, out: Array, at: int
) -> None:
    """Write features of single bars, of the gap to the previous close, and of the range relative to 20 bars."""
    count = len(close)
    width, location, wick = out[RANGE][at:], out[CLOSE_LOCATION][at:], out[WICK_RATIO][at:]
    o, h, w, c, ranges = opens[wanted:], high[wanted:], low[wanted:], close[wanted:], series[RANGES][wanted:]
    for t in range(count - wanted):
        height = h[t] - w[t]
        width[t] = _clean(ranges[t])
        location[t] = _clean((c[t] - w[t]) / height - 0.5) if height > 0.0 else 0.0
        wick[t] = _clean(1.0 - abs(c[t] - o[t]) / height) if height > 0.0 else 0.0
    moves, gaps = _column(out, LOG_RETURN, at, wanted, 1, count), _column(out, GAP, at, wanted, 1, count)
    start = count - len(moves)
    o, last, returns = opens[start:], close[max(start - 1, 0) :], series[RETURNS][start:]
    for t in range(len(moves)):
        moves[t] = _clean(returns[t])
        gaps[t] = o[t] / last[t]
    _logarithms(gaps)
    ratio = _column(out, RANGE_RATIO, at, wanted, 20, count)
    start = count - len(ratio)
    _means_20(series[RANGES][max(start - 20, 0) :], ratio, len(ratio))
    ranges = series[RANGES][start:]
    for t in range(len(ratio)):
        ratio[t] = _clean(ranges[t] / max(ratio[t], RETURN_FLOOR))


@_compiled
def _volatility(wanted: int, count: int, series: Array, scratch: Array, out: Array, at: int) -> None:
    """Write root mean squares of returns. Windows share interleaved partial sums, so each is computed once."""
    squares, lanes, sigma = scratch[A], scratch[B], scratch[SIGMA]
    realised = _column(out, REALISED_VOLATILITY, at, wanted, 20, count)
    _squares(series[RETURNS][max(count - len(realised) - 19, 0) : count], squares)
    _lanes_5(squares, lanes, len(realised) + 3)
    for t in range(len(realised)):
        realised[t] = _clean(math.sqrt(((lanes[t] + lanes[t + 1]) + (lanes[t + 2] + lanes[t + 3])) / 20))
    ratio = _column(out, VOLATILITY_RATIO, at, wanted, 61, count)
    windows = len(ratio)
    start = count - windows
    sigma[: start - wanted] = math.nan
    sigma = sigma[start - wanted :]
    _squares(series[RETURNS][max(start - 60, 0) : count], squares)
    _lanes_15(squares, lanes, windows + 3)
    x = squares[56:]
    for t in range(windows):
        mean = ((lanes[t] + lanes[t + 1]) + (lanes[t + 2] + lanes[t + 3])) / 60
        sigma[t] = max(math.sqrt(mean), RETURN_FLOOR)
        mean = (((x[t] + x[t + 4]) + x[t + 1]) + (x[t + 2] + x[t + 3])) / 5
        ratio[t] = _clean(math.sqrt(mean) / sigma[t])


@_compiled
def _squares(x: Array, out: Array) -> None:
    for t in range(len(x)):
        out[t] = x[t] * x[t]


@_compiled
def _recursive(
    inputs: Array, begin: int, first: int, end: int, days: Integers, series: Array, carry: Array, scratch: Array,
    out: Array, at: int,
) -> None:  # fmt: skip
    """Compute values that depend on all bars of a day's history: exponential averages, session sums and runs."""
    for day in range(len(days)):
        history, start, stop = days[day, 0], days[day, 1], days[day, 2]
        if stop <= first or start >= end:
            continue
        if start >= first:
            _advance(inputs, begin, history, history, start, start, series, carry, scratch, out, at)
        now = max(start, first)
        _advance(inputs, begin, history, now, min(stop, end), first, series, carry, scratch, out, at)


@_compiled
def _advance(
    inputs: Array, begin: int, history: int, start: int, stop: int, first: int, series: Array, carry: Array,
    scratch: Array, out: Array, at: int,
) -> None:  # fmt: skip
    high, low, close, volume, session = inputs[HIGH], inputs[LOW], inputs[CLOSE], inputs[VOLUME], inputs[SESSION_ID]
    fast, slow, signal, gain = carry[FAST], carry[SLOW], carry[SIGNAL], carry[GAIN]
    loss, true_range, value, traded, run = carry[LOSS], carry[TRUE_RANGE], carry[VALUE], carry[TRADED], carry[RUN]
    fasts, slows, signals, ranges = out[EMA_12][at:], out[EMA_26][at:], out[MACD_SIGNAL][at:], out[ATR_14][at:]
    runs, gains, losses, values, volumes = out[RUN_LENGTH][at:], scratch[A], scratch[B], scratch[C], scratch[D]
    for i in range(start, stop):
        seen = i - history
        if seen == 0:
            fast = slow = close[i]
            gain = loss = true_range = value = traded = run = 0.0
        else:
            last = close[i - 1]
            change = close[i] - last
            width = max(high[i] - low[i], abs(high[i] - last), abs(low[i] - last))
            gain = _smooth(gain, max(change, 0.0), seen)
            loss = _smooth(loss, max(-change, 0.0), seen)
            true_range = _smooth(true_range, width, seen)
            fast = (close[i] - fast) * (2.0 / 13.0) + fast
            slow = (close[i] - slow) * (2.0 / 27.0) + slow
            sign = _sign(series[RETURNS, i - begin])
            run = (run if run * sign > 0.0 else 0.0) + sign
            if session[i] != session[i - 1]:
                value = traded = 0.0
        if seen >= 25:
            macd = fast - slow
            signal = (macd - signal) * (2.0 / 10.0) + signal if seen > 25 else macd
        if volume[i] > 0.0:
            value += volume[i] * ((high[i] + low[i] + close[i]) / 3.0)
            traded += volume[i]
        t = i - first
        if t >= 0:
            fasts[t], slows[t], signals[t], ranges[t] = fast, slow, signal, true_range
            gains[t], losses[t], values[t], volumes[t] = gain, loss, value, traded
            runs[t] = max(-RUN_LIMIT, min(RUN_LIMIT, run)) if seen > 0 else math.nan
    carry[FAST], carry[SLOW], carry[SIGNAL], carry[GAIN] = fast, slow, signal, gain
    carry[LOSS], carry[TRUE_RANGE], carry[VALUE], carry[TRADED], carry[RUN] = loss, true_range, value, traded, run


@_compiled
def _smooth(average: float, value: float, seen: int) -> float:
    if seen < 14:
        return average + value
    return (average + value) / 14.0 if seen == 14 else (average * 13.0 + value) / 14.0


@_compiled
def _trend(close: Array, wanted: int, scratch: Array, out: Array, at: int) -> None:
    """Write features of the exponential averages and the session sums."""
    count = len(close)
    vwap, c, value, traded = out[VWAP_DISTANCE][at:], close[wanted:], scratch[C], scratch[D]
    for t in range(count - wanted):
        vwap[t] = _clean(c[t] / (value[t] / traded[t]) - 1.0) if traded[t] > 0.0 else math.nan
    rsi, relative = _column(out, RSI_14, at, wanted, 14, count), _column(out, ATR_RELATIVE, at, wanted, 14, count)
    atr = _column(out, ATR_14, at, wanted, 14, count)
    start = count - len(rsi)
    c, gains, losses = close[start:], scratch[A][start - wanted :], scratch[B][start - wanted :]
    for t in range(len(rsi)):
        both = gains[t] + losses[t]
        rsi[t] = _clean(100.0 * gains[t] / both) if both > 0.0 else 50.0
        atr[t] = _clean(atr[t])
        relative[t] = _clean(atr[t] / c[t])
    fast, slow = _column(out, EMA_12, at, wanted, 11, count), _column(out, EMA_26, at, wanted, 25, count)
    macd, over_range = _column(out, MACD, at, wanted, 25, count), _column(out, MACD_RELATIVE, at, wanted, 25, count)
    signal = _column(out, MACD_SIGNAL, at, wanted, 33, count)
    c, ahead = close[count - len(slow) :], fast[len(fast) - len(slow) :]
    atr = atr[len(atr) - len(slow) :]
    for t in range(len(slow)):
        macd[t] = _clean(ahead[t] - slow[t])
        over_range[t] = _clean(macd[t] / max(atr[t], RETURN_FLOOR * c[t]))
    for column in (fast, slow, signal):
        for t in range(len(column)):
            column[t] = _clean(column[t])


@_compiled
def _averages(close: Array, wanted: int, out: Array, at: int) -> None:
    count = len(close)
    sma, distance = _column(out, SMA_20, at, wanted, 19, count), _column(out, SMA_DISTANCE, at, wanted, 19, count)
    bollinger = _column(out, BOLLINGER_Z, at, wanted, 19, count)
    start = count - len(sma)
    c, x = close[start:], close[max(start - 19, 0) :]
    _means_20(x, sma, len(sma))
    _deviations_20(x, sma, bollinger, len(sma))
    for t in range(len(sma)):
        distance[t] = _clean(c[t] / sma[t] - 1.0)
        bollinger[t] = _clean((c[t] - sma[t]) / max(bollinger[t], RETURN_FLOOR * c[t]))
        sma[t] = _clean(sma[t])


@_compiled
def _horizons(close: Array, wanted: int, series: Array, scratch: Array, out: Array, at: int) -> None:
    """Write returns over several horizons in units of the volatility before the bar."""
    count = len(close)
    balance = _column(out, SIGN_BALANCE_10, at, wanted, 10, count)
    signs, x = scratch[A], series[RETURNS][max(count - len(balance) - 9, 0) : count]
    for t in range(len(x)):
        signs[t] = _sign(x[t])
    for t in range(len(balance)):
        total = 0.0
        for k in range(10):
            total += signs[t + k]
        balance[t] = total / 10.0
    z, gap_z = _column(out, RETURN_Z, at, wanted, 61, count), _column(out, GAP_Z, at, wanted, 61, count)
    z_5, z_15 = _column(out, RETURN_Z_5, at, wanted, 61, count), _column(out, RETURN_Z_15, at, wanted, 61, count)
    start = count - len(z)
    sigma, moves, gaps = scratch[SIGMA][start - wanted :], series[RETURNS][start:], out[GAP][at + start - wanted :]
    c, c_5, c_15 = close[start:], close[max(start - 5, 0) :], close[max(start - 15, 0) :]
    for t in range(len(z)):
        z[t] = _clean(moves[t] / sigma[t])
        gap_z[t] = _clean(gaps[t] / sigma[t])
        z_5[t] = c[t] / c_5[t]
        z_15[t] = c[t] / c_15[t]
    _logarithms(z_5)
    _logarithms(z_15)
    for t in range(len(z)):
        z_5[t] = _clean(z_5[t] / (sigma[t] * math.sqrt(5.0)))
        z_15[t] = _clean(z_15[t] / (sigma[t] * math.sqrt(15.0)))


@_compiled
def _extremes(high: Array, low: Array, close: Array, wanted: int, scratch: Array, out: Array, at: int) -> None:
    count = len(close)
    down, up = _column(out, DRAWDOWN_15, at, wanted, 61, count), _column(out, RUNUP_15, at, wanted, 61, count)
    start = count - len(down)
    c, h, w, sigma = close[start:], high[max(start - 14, 0) :], low[max(start - 14, 0) :], scratch[SIGMA]
    sigma = sigma[start - wanted :]
    for t in range(len(down)):
        top, bottom = 0.0, math.inf
        for k in range(15):
            top = max(top, h[t + k])
            bottom = min(bottom, w[t + k])
        down[t] = top / c[t]
        up[t] = c[t] / bottom
    _logarithms(down)
    _logarithms(up)
    for t in range(len(down)):
        down[t] = _clean(down[t] / (sigma[t] * math.sqrt(15.0)))
        up[t] = _clean(up[t] / (sigma[t] * math.sqrt(15.0)))


@_compiled
def _round_trip(high: Array, low: Array, close: Array, wanted: int, scratch: Array, out: Array, at: int) -> None:
    trip = _column(out, ROUND_TRIP_30, at, wanted, 61, len(close))
    start = len(close) - len(trip)
    h, w, c = high[max(start - 29, 0) :], low[max(start - 29, 0) :], close[start:]
    sigma = scratch[SIGMA][start - wanted :]
    for t in range(len(trip)):
        peak, floor, bottom = h[t], w[t], w[t]
        for k in range(1, 30):
            higher = h[t + k] > peak
            peak = h[t + k] if higher else peak
            floor = bottom if higher else floor
            bottom = min(bottom, w[t + k])
        trip[t] = min(peak / floor, peak / c[t])
    _logarithms(trip)
    for t in range(len(trip)):
        trip[t] = _clean(trip[t] / (sigma[t] * math.sqrt(30.0)))
