"""Groups of features that measure one property of a bar, and the words for a feature that a reader of alerts knows."""

from collections.abc import Mapping, Sequence
from typing import Final

CONTEXT: Final = frozenset(
    {
        "minute_sin", "minute_cos", "session_progress", "in_session", "minutes_to_close", "new_session", "has_volume",
        "peers_present", "peer_correlation",
    }
)  # fmt: skip
"""Features that place a bar in its session and market. They do not explain an alert, and are never changed."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "volume": ("volume_z", "volume_ratio", "volume_z_5"),
    "price and volume": ("price_volume_divergence", "illiquidity_z", "flow_balance_10"),
    "gap": ("gap_z", "gap"),
    "move of the minute": ("return_z", "log_return"),
    "range": ("range_ratio", "range", "wick_ratio", "close_location"),
    "move of the last minutes": (
        "return_z_15", "return_z_5", "volatility_ratio", "drawdown_15", "runup_15", "round_trip_30",
    ),
    "trend": (
        "sma_distance", "bollinger_z", "macd_relative", "rsi_14", "vwap_distance", "sign_balance_10", "run_length",
    ),
    "volatility": ("realised_volatility", "atr_relative"),
    "peers": ("divergence_z_15", "relative_return", "market_return_z", "market_return"),
}  # fmt: skip
"""Group → its features. Features of one group are computed from the same trades and are changed together."""

READABLE: Final[Mapping[str, str]] = {"volume_z": "volume_ratio"}
"""Feature → the feature that states the same in a unit that a reader of alerts knows."""

_WORDS: Final[Mapping[str, str]] = {
    "volume_z": "volume {value:.1f} standard deviations from its usual size",
    "volume_ratio": "volume {value:.3g} times its usual size",
    "volume_z_5": "volume of 5 minutes {value:.1f} standard deviations from its usual size",
    "price_volume_divergence": "move larger than its volume by {value:.1f} standard deviations",
    "illiquidity_z": "price impact per money traded {value:.1f} standard deviations from its usual size",
    "flow_balance_10": "balance of volume in rising and falling minutes {value:.2g}",
    "gap": "gap of {percent:.2g}%",
    "gap_z": "gap of {value:.1f} standard deviations",
    "log_return": "move of {percent:.2g}% in the minute",
    "return_z": "move of {value:.1f} standard deviations in the minute",
    "return_z_5": "move of {value:.1f} standard deviations in 5 minutes",
    "return_z_15": "move of {value:.1f} standard deviations in 15 minutes",
    "range": "range of {percent:.2g}% in the minute",
    "range_ratio": "range {value:.3g} times its usual size",
    "drawdown_15": "fall of {value:.1f} standard deviations from the high of 15 minutes",
    "runup_15": "rise of {value:.1f} standard deviations from the low of 15 minutes",
    "round_trip_30": "rise and fall of {value:.1f} standard deviations in 30 minutes",
    "volatility_ratio": "volatility of 5 minutes {value:.3g} times that of the hour",
    "divergence_z_15": "distance of {value:.1f} standard deviations from the peers in 15 minutes",
    "sign_balance_10": "balance of rising and falling minutes {value:.2g}",
    "run_length": "{value:.0f} minutes in a row in one direction",
}


def groups_of(columns: Sequence[str]) -> list[list[int]]:
    """Return the positions of the features of each group, without empty groups; other features are one more group."""
    place = {name: position for position, name in enumerate(columns)}
    known = {name for names in GROUPS.values() for name in names} | CONTEXT
    groups = [[place[name] for name in names if name in place] for names in GROUPS.values()]
    return [group for group in (*groups, [place[name] for name in columns if name not in known]) if group]


def in_words(name: str, value: float) -> str:
    """Return the value of a feature in words, such as "volume 14 times its usual size"."""
    words = _WORDS.get(name)
    return f"{name} {value:.3g}" if words is None else words.format(value=value, percent=100.0 * value)
