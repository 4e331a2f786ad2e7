"""Features of volume, peers' returns and session clock for whole columns, bit-identical to ``kernel.step``.

Runs after ``batch_prices``. Windows over volume and over peers' returns count only bars that have these values. The
values are first compacted, so that those of a window are adjacent.

numba's on-disk cache checks one file for changes, so this module uses no function or constant of another file.
"""

import math
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
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

# Rows of ``series``, of ``counts`` (number of filled values), and of ``scratch``; each function reuses the rows A to F.
OWN_RETURNS, MARKET_RETURNS, VOLUMES, LOG_VOLUMES, SIGNED_VOLUMES, ILLIQUIDITIES = range(6)
PAIRS_SEEN, VOLUMES_SEEN = range(2)
SIGMA, A, B, C, D, E, F = range(7)

RETURN_FLOOR = 1e-5
LOG_VOLUME_FLOOR = 0.05


@_compiled
def extend(inputs: Array, begin: int, start: int, stop: int, returns: Array, series: Array, counts: Counts) -> None:
    """Append pairs and volumes of the bars ``start`` to ``stop`` (exclusive) of one symbol to ``series``.

    Args:
        inputs: f8[10, N], rows contiguous, in the order of ``kernel.INPUTS``.
        begin: column of the first bar of the symbol's history.
        start: column of the first bar.
        stop: column after the last bar.
        returns: f8[n], from ``begin`` on; 0 for the history's first bar.
        series: f8[6, n].
        counts: int64[2], numbers of pairs and volumes in ``series``.
    """
    close, volume, market = inputs[CLOSE], inputs[VOLUME], inputs[PEERS_RETURN]
    pairs = counts[PAIRS_SEEN]
    for i in range(max(start, begin + 2), stop):
        if math.isfinite(market[i]):
            series[OWN_RETURNS, pairs], series[MARKET_RETURNS, pairs] = returns[i - begin - 1], market[i]
            pairs += 1
    counts[PAIRS_SEEN] = pairs
    before = seen = counts[VOLUMES_SEEN]
    for i in range(start, stop):
        if volume[i] > 0.0:
            move = returns[i - begin]
            series[VOLUMES, seen] = volume[i]
            series[LOG_VOLUMES, seen] = 1.0 + volume[i]
            series[SIGNED_VOLUMES, seen] = volume[i] * _sign(move)
            series[ILLIQUIDITIES, seen] = (abs(move) + RETURN_FLOOR) / (volume[i] * close[i])
            seen += 1
    _logarithms(series[LOG_VOLUMES][before:seen])
    _logarithms(series[ILLIQUIDITIES][before:seen])
    counts[VOLUMES_SEEN] = seen


@_compiled
def context(
    inputs: Array, begin: int, start: int, stop: int, chosen: Flags, counts: Counts, returns: Array,
    series: Array, scratch: Array, clock: Array, out: Array, at: int,
) -> None:  # fmt: skip
    """Extend the series by one block of bars of one symbol and write their features; blocks must be consecutive.

    Args:
        inputs: f8[10, N], rows contiguous, in the order of ``kernel.INPUTS``.
        begin: column of the first bar of the symbol's history.
        start: column of the block's first bar.
        stop: column after its last bar.
        chosen: bool[48], mask of the requested features. Some other features are also written.
        counts: int64[2], numbers of pairs and volumes in ``series``.
        returns: f8[n], from ``begin`` on.
        series: f8[6, n], extended up to ``start``.
        scratch: f8[7, block + 64]; row 0 is the volatility before each bar, the others are overwritten.
        clock: f8[2, 1440], initially NaN: sine and cosine of each minute of a session.
        out: f8[48, M], rows contiguous, with ``RETURN_Z`` filled; the block's first bar is written to column ``at``.
        at: see ``out``.
    """
    pairs, volumes = counts[PAIRS_SEEN], counts[VOLUMES_SEEN]
    extend(inputs, begin, start, stop, returns, series, counts)
    market, wanted = inputs[PEERS_RETURN][begin:stop], start - begin
    _market(market, inputs[PEERS][begin:stop], wanted, returns, scratch, out, at)
    if chosen[PEER_CORRELATION] or chosen[DIVERGENCE_Z_15]:
        _pairs(market, wanted, pairs, counts[PAIRS_SEEN], series, scratch, out, at)
    if chosen[MINUTE_SIN] or chosen[MINUTE_COS]:
        _angles(inputs[MINUTE][start:stop], clock, out, at)
    if chosen[SESSION_PROGRESS] or chosen[IN_SESSION] or chosen[MINUTES_TO_CLOSE] or chosen[NEW_SESSION]:
        _session(inputs, begin, start, stop, out, at)
    _volume(inputs[VOLUME][start:stop], volumes, counts[VOLUMES_SEEN], series, scratch, out, at)


@_compiled
def _clean(value: float) -> float:
    return math.nan if value != value else value  # noqa: PLR0124 (one bit pattern for every NaN, as in the kernel)


@_compiled
def _column(out: Array, feature: int, at: int, wanted: int, needed: int, count: int) -> Array:
    """Return the column from bar ``max(wanted, needed)`` on; set earlier bars, whose window is not full, to NaN."""
    start = min(max(wanted, needed), count)
    out[feature][at : at + start - wanted] = math.nan
    return out[feature][at + start - wanted : at + count - wanted]


def _means_of(count: int) -> Callable[[Array, Array, int], None]:
    @_compiled
    def means(x: Array, out: Array, windows: int) -> None:
        for t in range(windows):
            pivot = x[t]
            a = b = c = d = 0.0
            for k in range(count // 4):
                a += x[t + 4 * k] - pivot
                b += x[t + 4 * k + 1] - pivot
                c += x[t + 4 * k + 2] - pivot
                d += x[t + 4 * k + 3] - pivot
            for k in range(count // 4 * 4, count):
                a += x[t + k] - pivot
            out[t] = pivot + ((a + b) + (c + d)) / count

    return means


def _deviations_of(count: int) -> Callable[[Array, Array, Array, int], None]:
    @_compiled
    def deviations(x: Array, means: Array, out: Array, windows: int) -> None:
        for t in range(windows):
            mean = means[t]
            a = b = c = d = 0.0
            for k in range(count // 4):
                a += (x[t + 4 * k] - mean) * (x[t + 4 * k] - mean)
                b += (x[t + 4 * k + 1] - mean) * (x[t + 4 * k + 1] - mean)
                c += (x[t + 4 * k + 2] - mean) * (x[t + 4 * k + 2] - mean)
                d += (x[t + 4 * k + 3] - mean) * (x[t + 4 * k + 3] - mean)
            out[t] = math.sqrt(((a + b) + (c + d)) / count)

    return deviations


_means_5, _means_20, _means_30, _means_60 = _means_of(5), _means_of(20), _means_of(30), _means_of(60)
_deviations_60 = _deviations_of(60)


@_compiled
def _logarithms(x: Array) -> None:
    for t in range(len(x)):
        x[t] = math.log(x[t])


@_compiled
def _sign(value: float) -> float:
    return (1.0 if value > 0.0 else 0.0) - (1.0 if value < 0.0 else 0.0)


@_compiled
def _market(market: Array, peers: Array, wanted: int, returns: Array, scratch: Array, out: Array, at: int) -> None:
    """Write features of the peers' return, and of the symbol's own return, of the previous bar."""
    count = len(market)
    sigma, m, p = scratch[SIGMA], market[wanted:], peers[wanted:]
    plain, z, present = out[MARKET_RETURN][at:], out[MARKET_RETURN_Z][at:], out[PEERS_PRESENT][at:]
    for t in range(count - wanted):
        plain[t] = _clean(m[t])
        z[t] = _clean(m[t] / sigma[t])
        present[t] = 1.0 if p[t] > 0.0 else 0.0
    relative = _column(out, RELATIVE_RETURN, at, wanted, 2, count)
    start = count - len(relative)
    own, m = returns[max(start - 1, 0) :], market[start:]
    for t in range(len(relative)):
        relative[t] = _clean(own[t] - m[t]) if math.isfinite(m[t]) else math.nan


@_compiled
def _pairs(
    market: Array, wanted: int, before: int, pairs: int, series: Array, scratch: Array, out: Array, at: int
) -> None:
    """Write features of windows over pairs; the number of pairs up to a bar determines its windows."""
    own_means, market_means, correlation, totals = scratch[A], scratch[B], scratch[C], scratch[D]
    own_squares, market_squares, sigma = scratch[E], scratch[F], scratch[SIGMA]
    first = max(before, 15)
    x, y, t_15 = series[OWN_RETURNS][first - 15 :], series[MARKET_RETURNS][first - 15 :], totals[first - before :]
    for t in range(pairs + 1 - first):
        total = 0.0
        for k in range(15):
            total += x[t + k] - y[t + k]
        t_15[t] = total
    first = max(before, 30)
    windows = pairs + 1 - first
    x, y, both = series[OWN_RETURNS][first - 30 :], series[MARKET_RETURNS][first - 30 :], correlation[first - before :]
    _means_30(x, own_means, windows)
    _means_30(y, market_means, windows)
    _products(x, y, own_means, market_means, both, own_squares, market_squares, windows)
    for t in range(windows):
        own, peer = own_squares[t], market_squares[t]
        value = max(-1.0, min(1.0, both[t] / (math.sqrt(own) * math.sqrt(peer))))
        both[t] = math.nan if own <= 0.0 or peer <= 0.0 else _clean(value)
    divergence, correlations = out[DIVERGENCE_Z_15][at:], out[PEER_CORRELATION][at:]
    seen = before
    for t in range(len(market) - wanted):
        seen += wanted + t >= 2 and math.isfinite(market[wanted + t])
        divergence[t] = totals[seen - before] if seen >= 15 else math.nan
        correlations[t] = correlation[seen - before] if seen >= 30 else math.nan
    for t in range(len(market) - wanted):
        divergence[t] = _clean(divergence[t] / (sigma[t] * math.sqrt(15.0)))


@_compiled
def _products(
    x: Array, y: Array, x_means: Array, y_means: Array, both: Array, x_squares: Array, y_squares: Array, windows: int
) -> None:
    for t in range(windows):
        x_mean, y_mean = x_means[t], y_means[t]
        xy = xx = yy = xy_2 = xx_2 = yy_2 = 0.0
        # Three short loops: the compiler unrolls them and can then vectorise over several windows.
        for k in range(5):
            own, peer = x[t + 2 * k] - x_mean, y[t + 2 * k] - y_mean
            own_2, peer_2 = x[t + 2 * k + 1] - x_mean, y[t + 2 * k + 1] - y_mean
            xy += own * peer
            xx += own * own
            yy += peer * peer
            xy_2 += own_2 * peer_2
            xx_2 += own_2 * own_2
            yy_2 += peer_2 * peer_2
        for k in range(5, 10):
            own, peer = x[t + 2 * k] - x_mean, y[t + 2 * k] - y_mean
            own_2, peer_2 = x[t + 2 * k + 1] - x_mean, y[t + 2 * k + 1] - y_mean
            xy += own * peer
            xx += own * own
            yy += peer * peer
            xy_2 += own_2 * peer_2
            xx_2 += own_2 * own_2
            yy_2 += peer_2 * peer_2
        for k in range(10, 15):
            own, peer = x[t + 2 * k] - x_mean, y[t + 2 * k] - y_mean
            own_2, peer_2 = x[t + 2 * k + 1] - x_mean, y[t + 2 * k + 1] - y_mean
            xy += own * peer
            xx += own * own
            yy += peer * peer
            xy_2 += own_2 * peer_2
            xx_2 += own_2 * own_2
            yy_2 += peer_2 * peer_2
        both[t], x_squares[t], y_squares[t] = xy + xy_2, xx + xx_2, yy + yy_2


@_compiled
def _volume(volume: Array, before: int, seen: int, series: Array, scratch: Array, out: Array, at: int) -> None:
    """Compute volume features over windows of bars with volume, which are adjacent in ``series``."""
    base = max(before - 4, 0)
    means, z, illiquidity, usual, flow, z_5 = scratch[A], scratch[B], scratch[C], scratch[D], scratch[E], scratch[F]
    logged, illiquid, traded, signed = (
        series[LOG_VOLUMES], series[ILLIQUIDITIES], series[VOLUMES], series[SIGNED_VOLUMES]
    )  # fmt: skip
    first = max(base, 60)
    _scores(logged[first - 60 :], means, z[min(first - base, len(z)) :], seen - first)
    first = max(before, 60)
    _scores(illiquid[first - 60 :], means, illiquidity[min(first - base, len(z)) :], seen - first)
    first = max(before, 20)
    _means_20(traded[first - 20 :], usual[first - base :], seen - first)
    first = max(before, 64)
    _means_5(z[min(first - base - 4, len(z)) :], z_5[min(first - base, len(z)) :], seen - first)
    first = max(before, 9)
    x, y, f = signed[first - 9 :], traded[first - 9 :], flow[first - base :]
    for t in range(seen - first):
        up = total = 0.0
        for k in range(10):
            up += x[t + k]
            total += y[t + k]
        f[t] = up / total
    _spread(volume, before, base, scratch, out, at)


@_compiled
def _scores(x: Array, means: Array, scores: Array, windows: int) -> None:
    _means_60(x, means, windows)
    _deviations_60(x, means, scores, windows)
    for t in range(windows):
        scores[t] = (x[t + 60] - means[t]) / max(scores[t], LOG_VOLUME_FLOOR)


@_compiled
def _spread(volume: Array, seen: int, base: int, scratch: Array, out: Array, at: int) -> None:
    """Write features computed over bars with volume to the columns of these bars."""
    z, illiquidity, usual, flow, z_5 = scratch[B], scratch[C], scratch[D], scratch[E], scratch[F]
    has, ratio, volume_z = out[HAS_VOLUME][at:], out[VOLUME_RATIO][at:], out[VOLUME_Z][at:]
    volume_z_5, flows, return_z = out[VOLUME_Z_5][at:], out[FLOW_BALANCE_10][at:], out[RETURN_Z][at:]
    divergence, illiquidity_z = out[PRICE_VOLUME_DIVERGENCE][at:], out[ILLIQUIDITY_Z][at:]
    for t in range(len(volume)):
        present = volume[t] > 0.0
        k = seen - base
        has[t] = 1.0 if present else 0.0
        ratio[t] = _clean(volume[t] / usual[k]) if present and seen >= 20 else math.nan
        full = present and seen >= 60
        volume_z[t] = _clean(z[k]) if full else math.nan
        illiquidity_z[t] = _clean(illiquidity[k]) if full else math.nan
        divergence[t] = _clean(abs(return_z[t]) - z[k]) if full else math.nan
        volume_z_5[t] = _clean(z_5[k]) if present and seen >= 64 else math.nan
        flows[t] = _clean(flow[k]) if present and seen >= 9 else math.nan
        seen += present


@_compiled
def _session(inputs: Array, begin: int, first: int, end: int, out: Array, at: int) -> None:
    minute, length, session = inputs[MINUTE][first:end], inputs[SESSION_MINUTES][first:end], inputs[SESSION_ID]
    progress, inside, left = out[SESSION_PROGRESS][at:], out[IN_SESSION][at:], out[MINUTES_TO_CLOSE][at:]
    new = out[NEW_SESSION][at:]
    for t in range(end - first):
        progress[t] = _clean(minute[t] / length[t])
        inside[t] = 1.0 if (minute[t] >= 0.0) & (minute[t] < length[t]) else 0.0
        left[t] = _clean(length[t] - minute[t])
    for t in range(end - first):
        i = first + t
        new[t] = 1.0 if i == begin or session[i] != session[i - 1] else 0.0


@_compiled
def _angles(minute: Array, clock: Array, out: Array, at: int) -> None:
    """Write sine and cosine of the session's clock; those of whole minutes are cached on first use."""
    sine, cosine = out[MINUTE_SIN][at:], out[MINUTE_COS][at:]
    for t in range(len(minute)):
        angle = 2.0 * math.pi * minute[t] / 1440.0
        slot = int(minute[t]) if 0.0 <= minute[t] < 1440.0 else -1
        if slot < 0 or minute[t] != slot:
            sine[t], cosine[t] = _clean(math.sin(angle)), _clean(math.cos(angle))
            continue
        if math.isnan(clock[0, slot]):
            clock[0, slot], clock[1, slot] = math.sin(angle), math.cos(angle)
        sine[t], cosine[t] = clock[0, slot], clock[1, slot]
