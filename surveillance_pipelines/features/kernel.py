"""The feature kernel: one symbol's bars in, features out, the same compiled code for training, backfill and live.

The state of a symbol is one float64 array, so a snapshot is its bytes. Every window sum is taken anew from a ring in a
fixed order: no running sum drifts, and the features of a bar depend only on the bars since the state was zero.
numba's on-disk cache watches one file, so nothing here calls a function of another. ``docs/features.md`` has the
formulas.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Division follows IEEE 754 instead of raising, and sums keep their order (no fastmath): the same bits everywhere.
_compiled = njit(cache=True, error_model="numpy")

INPUTS = (
    "open", "high", "low", "close", "volume", "session_id", "minute_of_session", "session_minutes",
    "market_return", "market_peers",
)  # fmt: skip
(OPEN, HIGH, LOW, CLOSE, VOLUME, SESSION_ID, MINUTE, SESSION_MINUTES, PEERS_RETURN, PEERS) = range(10)

# Columns of the output, in order; the same names in capitals as in the feature view.
(
    LOG_RETURN, RANGE, GAP, SMA_20, EMA_12, EMA_26, MACD, MACD_SIGNAL, RSI_14, ATR_14, BOLLINGER_Z, VOLUME_Z,
    VOLUME_RATIO, REALISED_VOLATILITY, RETURN_Z, RANGE_RATIO, SMA_DISTANCE, MACD_RELATIVE, VWAP_DISTANCE, MINUTE_SIN,
    MINUTE_COS, SESSION_PROGRESS, IN_SESSION, MINUTES_TO_CLOSE, NEW_SESSION, HAS_VOLUME, MARKET_RETURN,
    RELATIVE_RETURN, PEER_CORRELATION, PEERS_PRESENT, MARKET_RETURN_Z, DIVERGENCE_Z_15, RETURN_Z_5, RETURN_Z_15, GAP_Z,
    SIGN_BALANCE_10, RUN_LENGTH, VOLUME_Z_5, FLOW_BALANCE_10, PRICE_VOLUME_DIVERGENCE, ILLIQUIDITY_Z, DRAWDOWN_15,
    RUNUP_15, ROUND_TRIP_30, VOLATILITY_RATIO, ATR_RELATIVE, CLOSE_LOCATION, WICK_RATIO,
) = range(48)  # fmt: skip
N_FEATURES = 48

# Scalars of the state.
(
    BARS, RETURNS_SEEN, PAIRS_SEEN, VOLUMES_SEEN, VOLUME_ZS_SEEN, LAST_CLOSE, LAST_SESSION, FAST_EMA, SLOW_EMA,
    SIGNAL_EMA, GAIN, LOSS, TRUE_RANGE, RUN, SESSION_VALUE, SESSION_VOLUME,
) = range(16)  # fmt: skip

# Rings: each value is written twice, CAPACITY apart, so that the newest values always lie side by side.
CAPACITY = 64  # a power of two: positions are masked, which is cheaper than a division
(
    CLOSES, HIGHS, LOWS, RETURNS, RANGES, OWN_RETURNS, MARKET_RETURNS, VOLUMES, LOG_VOLUMES, SIGNED_VOLUMES,
    ILLIQUIDITIES, VOLUME_ZS,
) = range(16, 16 + 12 * 2 * CAPACITY, 2 * CAPACITY)  # fmt: skip
STATE_SIZE = 16 + 12 * 2 * CAPACITY

RETURN_FLOOR = 1e-5  # 0.1 bp: less movement than a tick of any liquid instrument counts as this much
LOG_VOLUME_FLOOR = 0.05  # a dispersion of 5%
RUN_LIMIT = 20.0


@_compiled
def step(state: Array, bar: Array, out: Array) -> None:
    """Advance ``state`` f8[STATE_SIZE] by ``bar`` f8[10] and write its features to ``out`` f8[N_FEATURES]."""
    out[:] = math.nan
    sigma = _volatility(state)
    _market(state, bar, out, sigma)
    _shape(state, bar, out)
    _wilder(state, bar, out)
    _push_prices(state, bar, out)
    _trend(state, bar[CLOSE], out)
    _horizons(state, bar[CLOSE], out, sigma)
    _round_trip(state, bar[CLOSE], out, sigma)
    _session(state, bar, out)
    _volume(state, bar, out)
    state[LAST_CLOSE] = bar[CLOSE]
    for i in range(N_FEATURES):
        if math.isnan(out[i]):
            out[i] = math.nan  # one bit pattern: which NaN an operation yields depends on how it was compiled


@_compiled
def run(state: Array, bars: Array, out: Array) -> None:
    """Advance ``state`` by each row of ``bars`` f8[n, 10], features to the rows of ``out`` f8[n, N_FEATURES]."""
    for i in range(bars.shape[0]):
        step(state, bars[i], out[i])


@_compiled
def peek(state: Array, scratch: Array, bar: Array, out: Array) -> None:
    """Write the features ``bar`` would have to ``out``; ``state`` stays, ``scratch`` f8[STATE_SIZE] is overwritten."""
    scratch[:] = state
    step(scratch, bar, out)


@_compiled
def _push(state: Array, ring: int, seen: int, value: float) -> None:
    position = ring + (seen & (CAPACITY - 1))
    state[position] = state[position + CAPACITY] = value


@_compiled
def _begin(ring: int, seen: int, count: int) -> int:
    """Return where the newest ``count`` of ``seen`` values of a ring begin."""
    return ring + CAPACITY + ((seen - 1) & (CAPACITY - 1)) + 1 - count


# Windows are summed in four lanes, because an addition waits for the one before it and four chains run side by side.
# Which value goes to which lane is fixed, and so are the bits.


@_compiled
def _mean(state: Array, begin: int, count: int) -> float:
    # Sums of differences to one of the values: equal values give their mean exactly, so a flat window has no spread.
    window = state[begin : begin + count]
    pivot = window[0]
    a = b = c = d = 0.0
    for k in range(count >> 2):
        i = k << 2
        a += window[i] - pivot
        b += window[i + 1] - pivot
        c += window[i + 2] - pivot
        d += window[i + 3] - pivot
    for i in range(count & ~3, count):
        a += window[i] - pivot
    return pivot + ((a + b) + (c + d)) / count


@_compiled
def _deviation(state: Array, begin: int, count: int, mean: float) -> float:
    window = state[begin : begin + count]
    a = b = c = d = 0.0
    for k in range(count >> 2):
        i = k << 2
        a += (window[i] - mean) * (window[i] - mean)
        b += (window[i + 1] - mean) * (window[i + 1] - mean)
        c += (window[i + 2] - mean) * (window[i + 2] - mean)
        d += (window[i + 3] - mean) * (window[i + 3] - mean)
    for i in range(count & ~3, count):
        a += (window[i] - mean) * (window[i] - mean)
    return math.sqrt(((a + b) + (c + d)) / count)


@_compiled
def _root_mean_square(state: Array, begin: int, count: int) -> float:
    return _deviation(state, begin, count, 0.0)


@_compiled
def _volatility(state: Array) -> float:
    """Return the root mean square of the 60 returns before this bar, at least the floor; NaN before there are 60."""
    seen = int(state[RETURNS_SEEN])
    if seen < 60:
        return math.nan
    return max(_root_mean_square(state, _begin(RETURNS, seen, 60), 60), RETURN_FLOOR)


@_compiled
def _market(state: Array, bar: Array, out: Array, sigma: float) -> None:
    """Compare the peers' return of the bar before with this symbol's own return of the bar before."""
    market = bar[PEERS_RETURN]
    out[MARKET_RETURN] = market
    out[MARKET_RETURN_Z] = market / sigma
    out[PEERS_PRESENT] = 1.0 if bar[PEERS] > 0.0 else 0.0
    pairs = int(state[PAIRS_SEEN])
    returns = int(state[RETURNS_SEEN])
    if returns > 0 and math.isfinite(market):
        own = state[_begin(RETURNS, returns, 1)]
        out[RELATIVE_RETURN] = own - market
        _push(state, OWN_RETURNS, pairs, own)
        _push(state, MARKET_RETURNS, pairs, market)
        pairs += 1
        state[PAIRS_SEEN] = pairs
    if pairs >= 15:
        begin = _begin(0, pairs, 15)
        total = 0.0
        for i in range(begin, begin + 15):
            total += state[OWN_RETURNS + i] - state[MARKET_RETURNS + i]
        out[DIVERGENCE_Z_15] = total / (sigma * math.sqrt(15.0))
    if pairs >= 30:
        out[PEER_CORRELATION] = _correlation(state, _begin(0, pairs, 30), 30)


@_compiled
def _correlation(state: Array, begin: int, count: int) -> float:
    own_mean = _mean(state, OWN_RETURNS + begin, count)
    market_mean = _mean(state, MARKET_RETURNS + begin, count)
    owns = state[OWN_RETURNS + begin : OWN_RETURNS + begin + count]
    markets = state[MARKET_RETURNS + begin : MARKET_RETURNS + begin + count]
    both = own_square = market_square = 0.0
    both_2 = own_square_2 = market_square_2 = 0.0
    for i in range(0, count - 1, 2):
        own, market = owns[i] - own_mean, markets[i] - market_mean
        own_2, market_2 = owns[i + 1] - own_mean, markets[i + 1] - market_mean
        both += own * market
        both_2 += own_2 * market_2
        own_square += own * own
        own_square_2 += own_2 * own_2
        market_square += market * market
        market_square_2 += market_2 * market_2
    both, own_square, market_square = both + both_2, own_square + own_square_2, market_square + market_square_2
    if own_square <= 0.0 or market_square <= 0.0:
        return math.nan
    return max(-1.0, min(1.0, both / (math.sqrt(own_square) * math.sqrt(market_square))))


@_compiled
def _shape(state: Array, bar: Array, out: Array) -> None:
    """Describe the bar by itself: its width, where it closed, how much of it is wick."""
    height = bar[HIGH] - bar[LOW]
    out[RANGE] = height / bar[CLOSE]
    out[CLOSE_LOCATION] = (bar[CLOSE] - bar[LOW]) / height - 0.5 if height > 0.0 else 0.0
    out[WICK_RATIO] = 1.0 - abs(bar[CLOSE] - bar[OPEN]) / height if height > 0.0 else 0.0
    bars = int(state[BARS])
    if bars >= 20:
        usual = _mean(state, _begin(RANGES, bars, 20), 20)
        out[RANGE_RATIO] = out[RANGE] / max(usual, RETURN_FLOOR)


@_compiled
def _wilder(state: Array, bar: Array, out: Array) -> None:
    """Advance Wilder's averages: the mean of the first 14 values, then 13/14 of itself and 1/14 of the new one."""
    if state[BARS] == 0.0:
        return
    seen = int(state[RETURNS_SEEN]) + 1
    last = state[LAST_CLOSE]
    change = bar[CLOSE] - last
    true_range = max(bar[HIGH] - bar[LOW], abs(bar[HIGH] - last), abs(bar[LOW] - last))
    gain = state[GAIN] = _smooth(state[GAIN], max(change, 0.0), seen)
    loss = state[LOSS] = _smooth(state[LOSS], max(-change, 0.0), seen)
    atr = state[TRUE_RANGE] = _smooth(state[TRUE_RANGE], true_range, seen)
    if seen >= 14:
        out[RSI_14] = 100.0 * gain / (gain + loss) if gain + loss > 0.0 else 50.0
        out[ATR_14] = atr
        out[ATR_RELATIVE] = atr / bar[CLOSE]


@_compiled
def _smooth(average: float, value: float, seen: int) -> float:
    if seen < 14:
        return average + value  # the sum until there are 14
    return (average + value) / 14.0 if seen == 14 else (average * 13.0 + value) / 14.0


@_compiled
def _push_prices(state: Array, bar: Array, out: Array) -> None:
    bars = int(state[BARS])
    if bars > 0:
        move = math.log(bar[CLOSE] / state[LAST_CLOSE])
        out[LOG_RETURN] = move
        out[GAP] = math.log(bar[OPEN] / state[LAST_CLOSE])
        _push(state, RETURNS, int(state[RETURNS_SEEN]), move)
        state[RETURNS_SEEN] += 1.0
        run = state[RUN]
        if move > 0.0:
            state[RUN] = run + 1.0 if run > 0.0 else 1.0
        elif move < 0.0:
            state[RUN] = run - 1.0 if run < 0.0 else -1.0
        else:
            state[RUN] = 0.0
        out[RUN_LENGTH] = max(-RUN_LIMIT, min(RUN_LIMIT, state[RUN]))
    _push(state, CLOSES, bars, bar[CLOSE])
    _push(state, HIGHS, bars, bar[HIGH])
    _push(state, LOWS, bars, bar[LOW])
    _push(state, RANGES, bars, out[RANGE])
    state[BARS] = bars + 1


@_compiled
def _trend(state: Array, close: float, out: Array) -> None:
    bars = int(state[BARS])
    fast = state[FAST_EMA] = _ema(state[FAST_EMA], close, 12, bars == 1)
    slow = state[SLOW_EMA] = _ema(state[SLOW_EMA], close, 26, bars == 1)
    if bars >= 12:
        out[EMA_12] = fast
    if bars >= 20:
        begin = _begin(CLOSES, bars, 20)
        average = _mean(state, begin, 20)
        out[SMA_20] = average
        out[SMA_DISTANCE] = close / average - 1.0
        spread = max(_deviation(state, begin, 20, average), RETURN_FLOOR * close)
        out[BOLLINGER_Z] = (close - average) / spread
    if bars >= 26:
        out[EMA_26] = slow
        out[MACD] = fast - slow
        out[MACD_RELATIVE] = out[MACD] / max(out[ATR_14], RETURN_FLOOR * close)
        state[SIGNAL_EMA] = _ema(state[SIGNAL_EMA], out[MACD], 9, bars == 26)
    if bars >= 34:
        out[MACD_SIGNAL] = state[SIGNAL_EMA]


@_compiled
def _ema(average: float, value: float, span: int, first: bool) -> float:
    return value if first else (value - average) * (2.0 / (span + 1.0)) + average


@_compiled
def _horizons(state: Array, close: float, out: Array, sigma: float) -> None:
    """Measure moves of several lengths in units of the volatility before this bar."""
    seen, bars = int(state[RETURNS_SEEN]), int(state[BARS])
    out[RETURN_Z] = out[LOG_RETURN] / sigma
    out[GAP_Z] = out[GAP] / sigma
    if seen >= 5:
        out[RETURN_Z_5] = math.log(close / state[_begin(CLOSES, bars, 6)]) / (sigma * math.sqrt(5.0))
        out[VOLATILITY_RATIO] = _root_mean_square(state, _begin(RETURNS, seen, 5), 5) / sigma
    if seen >= 10:
        begin = _begin(RETURNS, seen, 10)
        balance = 0
        for i in range(begin, begin + 10):
            balance += (state[i] > 0.0) - (state[i] < 0.0)
        out[SIGN_BALANCE_10] = balance / 10.0
    if seen >= 15:
        unit = sigma * math.sqrt(15.0)
        out[RETURN_Z_15] = math.log(close / state[_begin(CLOSES, bars, 16)]) / unit
        high, low = 0.0, math.inf
        for i in range(_begin(0, bars, 15), _begin(0, bars, 15) + 15):
            high = max(high, state[HIGHS + i])
            low = min(low, state[LOWS + i])
        out[DRAWDOWN_15] = math.log(high / close) / unit
        out[RUNUP_15] = math.log(close / low) / unit
    if seen >= 20:
        out[REALISED_VOLATILITY] = _root_mean_square(state, _begin(RETURNS, seen, 20), 20)


@_compiled
def _round_trip(state: Array, close: float, out: Array, sigma: float) -> None:
    """Find the peak of the last 30 bars: the smaller of the rise before it and the fall since."""
    bars = int(state[BARS])
    if bars < 30:
        return
    begin = _begin(0, bars, 30)
    peak = state[HIGHS + begin]
    low = floor = state[LOWS + begin]
    for i in range(begin + 1, begin + 30):
        if state[HIGHS + i] > peak:
            peak = state[HIGHS + i]
            floor = low
        low = min(low, state[LOWS + i])
    out[ROUND_TRIP_30] = math.log(min(peak / floor, peak / close)) / (sigma * math.sqrt(30.0))


@_compiled
def _session(state: Array, bar: Array, out: Array) -> None:
    minute, length = bar[MINUTE], bar[SESSION_MINUTES]
    angle = 2.0 * math.pi * minute / 1440.0
    out[MINUTE_SIN] = math.sin(angle)
    out[MINUTE_COS] = math.cos(angle)
    out[SESSION_PROGRESS] = minute / length
    out[IN_SESSION] = 1.0 if 0.0 <= minute < length else 0.0
    out[MINUTES_TO_CLOSE] = length - minute
    new = state[BARS] == 1.0 or bar[SESSION_ID] != state[LAST_SESSION]
    out[NEW_SESSION] = 1.0 if new else 0.0
    if new:
        state[SESSION_VALUE] = state[SESSION_VOLUME] = 0.0
    state[LAST_SESSION] = bar[SESSION_ID]
    if bar[VOLUME] > 0.0:
        state[SESSION_VALUE] += bar[VOLUME] * ((bar[HIGH] + bar[LOW] + bar[CLOSE]) / 3.0)
        state[SESSION_VOLUME] += bar[VOLUME]
    if state[SESSION_VOLUME] > 0.0:
        out[VWAP_DISTANCE] = bar[CLOSE] / (state[SESSION_VALUE] / state[SESSION_VOLUME]) - 1.0


@_compiled
def _volume(state: Array, bar: Array, out: Array) -> None:
    """Measure volume against the bars before that had volume; a bar without volume advances nothing here."""
    volume = bar[VOLUME]
    out[HAS_VOLUME] = 1.0 if volume > 0.0 else 0.0
    if not volume > 0.0:
        return
    seen = int(state[VOLUMES_SEEN])
    move = out[LOG_RETURN] if state[BARS] > 1.0 else 0.0
    log_volume = math.log(1.0 + volume)
    illiquidity = math.log((abs(move) + RETURN_FLOOR) / (volume * bar[CLOSE]))
    if seen >= 20:
        out[VOLUME_RATIO] = volume / _mean(state, _begin(VOLUMES, seen, 20), 20)
    if seen >= 60:
        out[VOLUME_Z] = _z(state, _begin(LOG_VOLUMES, seen, 60), log_volume)
        out[ILLIQUIDITY_Z] = _z(state, _begin(ILLIQUIDITIES, seen, 60), illiquidity)
        out[PRICE_VOLUME_DIVERGENCE] = abs(out[RETURN_Z]) - out[VOLUME_Z]
        scored = int(state[VOLUME_ZS_SEEN])
        _push(state, VOLUME_ZS, scored, out[VOLUME_Z])
        state[VOLUME_ZS_SEEN] = scored + 1
        if scored + 1 >= 5:
            out[VOLUME_Z_5] = _mean(state, _begin(VOLUME_ZS, scored + 1, 5), 5)
    _push(state, VOLUMES, seen, volume)
    _push(state, LOG_VOLUMES, seen, log_volume)
    _push(state, ILLIQUIDITIES, seen, illiquidity)
    _push(state, SIGNED_VOLUMES, seen, volume * ((move > 0.0) - (move < 0.0)))
    state[VOLUMES_SEEN] = seen + 1
    if seen + 1 >= 10:
        out[FLOW_BALANCE_10] = _flow_balance(state, _begin(0, seen + 1, 10), 10)


@_compiled
def _z(state: Array, begin: int, value: float) -> float:
    mean = _mean(state, begin, 60)
    return (value - mean) / max(_deviation(state, begin, 60, mean), LOG_VOLUME_FLOOR)


@_compiled
def _flow_balance(state: Array, begin: int, count: int) -> float:
    signed = total = 0.0
    for i in range(begin, begin + count):
        signed += state[SIGNED_VOLUMES + i]
        total += state[VOLUMES + i]
    return signed / total
