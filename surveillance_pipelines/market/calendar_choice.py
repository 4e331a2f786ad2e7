"""The trading calendar of a symbol, chosen by its spelling, with the basis of the choice. No choice is silent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

Basis = Literal["stated", "registered", "suffix", "venue", "crypto pair", "currency pair", "future", "index", "default"]
AssetClass = Literal["equity", "crypto", "fx", "future", "index"]

ALWAYS_OPEN: Final = "24/7"
"""Calendar of crypto pairs: each UTC day is a session."""
WEEKDAYS: Final = "24/5"
"""Calendar of currency pairs: each UTC weekday is a session."""

CLASSES: Final[Mapping[str, AssetClass]] = {
    ALWAYS_OPEN: "crypto", WEEKDAYS: "fx", "CMES": "future", "IEPA": "future", "XEUR": "future",
}  # fmt: skip
"""Calendar → asset class of all its instruments."""

SUFFIXES: Final[Mapping[str, str]] = {
    "AS": "XAMS", "AT": "ASEX", "AX": "XASX", "BA": "XBUE", "BD": "XBUD", "BE": "XFRA", "BK": "XBKK", "BO": "XBOM",
    "BR": "XBRU", "CL": "XBOG", "CO": "XCSE", "DE": "XETR", "DU": "XFRA", "F": "XFRA", "HE": "XHEL", "HK": "XHKG",
    "HM": "XFRA", "HU": "XBUD", "IC": "XICE", "IL": "XLON", "IR": "XDUB", "IS": "XIST", "JK": "XIDX", "JO": "XJSE",
    "JP": "XTKS", "KL": "XKLS", "KQ": "XKRX", "KS": "XKRX", "L": "XLON", "LM": "XLIM", "LS": "XLIS", "MC": "XMAD",
    "ME": "XMOS", "MI": "XMIL", "MU": "XFRA", "MX": "XMEX", "NE": "XTSE", "NS": "XBOM", "NZ": "XNZE", "OL": "XOSL",
    "PA": "XPAR", "PL": "XWAR", "PR": "XPRA", "RO": "XBSE", "SA": "BVMF", "SG": "XFRA", "SI": "XSES", "SN": "XSGO",
    "SR": "XSAU", "SS": "XSHG", "ST": "XSTO", "SW": "XSWX", "SZ": "XSHG", "T": "XTKS", "TA": "XTAE", "TO": "XTSE",
    "TW": "XTAI", "TWO": "XTAI", "UK": "XLON", "US": "XNYS", "V": "XTSE", "VI": "XWBO", "WA": "XWAR",
}  # fmt: skip
"""Suffix of Yahoo and Stooq after the last dot → calendar. Exchanges of one city share the calendar of the largest."""

VENUES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "BINANCE", "BINANCEUS", "BITFINEX", "BITFLYER", "BITGET", "BITHUMB", "BITMEX", "BITSTAMP", "BITTREX",
            "BYBIT", "COINBASE", "CRYPTOCOM", "DERIBIT", "DYDX", "FTX", "GATE", "GATEIO", "GDAX", "GEMINI", "HTX",
            "HUOBI", "HYPERLIQUID", "KRAKEN", "KUCOIN", "OKEX", "OKX", "POLONIEX", "UPBIT",
        ),
        ALWAYS_OPEN,
    ),
    **dict.fromkeys(("NYSE", "NASDAQ", "AMEX", "ARCA", "BATS", "IEX"), "XNYS"),
    "LSE": "XLON", "TSE": "XTKS", "TSX": "XTSE", "HKEX": "XHKG", "ASX": "XASX", "SIX": "XSWX", "XETRA": "XETR",
    "CME": "CMES", "CBOT": "CMES", "NYMEX": "CMES", "COMEX": "CMES", "GLOBEX": "CMES", "EUREX": "XEUR", "ICE": "IEPA",
}  # fmt: skip
"""Name of a venue between or after dots → calendar."""

INDICES: Final[Mapping[str, str]] = {
    "AEX": "XAMS", "ATX": "XWBO", "AXJO": "XASX", "BFX": "XBRU", "BSESN": "XBOM", "BVSP": "BVMF", "DJI": "XNYS",
    "FCHI": "XPAR", "FTMC": "XLON", "FTSE": "XLON", "GDAXI": "XETR", "GSPC": "XNYS", "GSPTSE": "XTSE", "HSI": "XHKG",
    "IBEX": "XMAD", "IXIC": "XNYS", "JKSE": "XIDX", "KLSE": "XKLS", "KQ11": "XKRX", "KS11": "XKRX", "MXX": "XMEX",
    "N225": "XTKS", "NDX": "XNYS", "NSEI": "XBOM", "NYA": "XNYS", "NZ50": "XNZE", "OEX": "XNYS", "OMX": "XSTO",
    "RUT": "XNYS", "SPX": "XNYS", "SSMI": "XSWX", "STI": "XSES", "STOXX50E": "XETR", "TA125": "XTAE", "TNX": "XNYS",
    "TWII": "XTAI", "VIX": "XNYS", "XAX": "XNYS",
}  # fmt: skip
"""Yahoo's name of an index after the caret → calendar of its exchange."""

_COINS: Final = frozenset(
    {
        "1INCH", "AAVE", "ADA", "ALGO", "APE", "APT", "ARB", "ATOM", "AVAX", "AXS", "BAT", "BCH", "BNB", "BONK", "BTC",
        "CHZ", "COMP", "CRO", "CRV", "DASH", "DOGE", "DOT", "EGLD", "ENJ", "EOS", "ETC", "ETH", "FET", "FIL", "FLOW",
        "FTM", "GALA", "GRT", "HBAR", "ICP", "IMX", "INJ", "JUP", "KAVA", "KSM", "LDO", "LINK", "LRC", "LTC", "LUNA",
        "MANA", "MATIC", "MKR", "NEAR", "NEO", "ONDO", "OP", "ORDI", "PAXG", "PENDLE", "PEPE", "POL", "QNT", "RENDER",
        "RNDR", "RUNE", "SAND", "SEI", "SHIB", "SNX", "SOL", "STX", "SUI", "SUSHI", "TAO", "THETA", "TIA", "TON",
        "TRUMP", "TRX", "UNI", "VET", "WBTC", "WIF", "WLD", "XBT", "XLM", "XMR", "XRP", "XTZ", "YFI", "ZEC", "ZIL",
        "ZRX",
    }
)  # fmt: skip
_STABLECOINS: Final = frozenset({"BUSD", "DAI", "FDUSD", "TUSD", "USDC", "USDD", "USDE", "USDT"})
_CURRENCIES: Final = frozenset(
    {
        "AED", "ARS", "AUD", "BRL", "CAD", "CHF", "CLP", "CNH", "CNY", "COP", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF",
        "IDR", "ILS", "INR", "JPY", "KRW", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "RON", "RUB", "SAR", "SEK", "SGD",
        "THB", "TRY", "TWD", "USD", "VND", "XAG", "XAU", "ZAR",
    }
)  # fmt: skip
_ICE_FUTURES: Final = frozenset({"BZ", "CC", "CT", "DX", "G", "KC", "OJ", "SB"})
_SEPARATED: Final = re.compile(r"([A-Z0-9]+)[-/_]([A-Z0-9]+)")
_CODES: Final = frozenset({*SUFFIXES.values(), *VENUES.values(), *INDICES.values()} - {ALWAYS_OPEN})
"""Codes of exchanges that a symbol may carry itself, such as ``AIR.XPAR``."""

_REASONS: Final[Mapping[Basis, str]] = {
    "stated": "as stated",
    "registered": "as registered",
    "suffix": "by the suffix",
    "venue": "by the name of the venue",
    "crypto pair": "a crypto pair",
    "currency pair": "a currency pair",
    "future": "a future",
    "index": "an index",
    "default": "assumed from DEFAULT_CALENDAR: the symbol names no market",
}


@dataclass(frozen=True, slots=True)
class CalendarChoice:
    """The calendar of a symbol.

    Attributes:
        calendar: a name of ``exchange_calendars``, ``24/7`` or ``24/5``.
        basis: what the choice is based on; ``default`` is an assumption.
        asset_class: class of the instrument by its spelling; None if the spelling tells none.
    """

    calendar: str
    basis: Basis
    asset_class: AssetClass | None = None

    @property
    def is_assumed(self) -> bool:
        return self.basis == "default"

    @property
    def sentence(self) -> str:
        """The calendar and its basis, for people."""
        return f"{self.calendar} ({_REASONS[self.basis]})"


def choose_calendar(symbol: str, *, stated: str | None = None, default: str = "XNYS") -> CalendarChoice:
    """Return the calendar of a symbol.

    Args:
        symbol: the symbol, in a vendor's spelling.
        stated: calendar that the user stated.
        default: calendar of a symbol whose spelling tells none.
    """
    by_spelling = _by_spelling(symbol)
    if stated is not None:
        return CalendarChoice(stated, "stated", by_spelling.asset_class if by_spelling else None)
    return by_spelling or CalendarChoice(default, "default")


def recorded_choice(calendar: str, basis: str | None) -> CalendarChoice:
    """Return the choice that was recorded with an instrument; instruments of earlier releases have no basis."""
    known: Basis = next((each for each in get_args(Basis) if each == basis), "registered")
    return CalendarChoice(calendar, known)


def _by_spelling(symbol: str) -> CalendarChoice | None:
    if symbol.startswith("^"):
        calendar = INDICES.get(symbol[1:])
        return None if calendar is None else CalendarChoice(calendar, "index", "index")
    if symbol.endswith("=F"):
        return CalendarChoice("IEPA" if symbol[:-2] in _ICE_FUTURES else "CMES", "future", "future")
    if symbol.endswith("=X"):
        return CalendarChoice(WEEKDAYS, "currency pair", "fx")
    return _by_parts(symbol)


def _by_parts(symbol: str) -> CalendarChoice | None:
    """Return the calendar that the parts of a symbol between dots tell."""
    name, *parts = symbol.split(".")
    pair = _pair(name)
    for part in parts:
        if (calendar := VENUES.get(part)) is not None:
            return CalendarChoice(calendar, "venue", _class_at(calendar, pair))
        if part in _CODES:
            return CalendarChoice(part, "venue", _class_at(part, pair))
    if parts and (calendar := SUFFIXES.get(parts[-1])) is not None:
        return CalendarChoice(calendar, "suffix", "equity")
    return pair


def _class_at(calendar: str, pair: CalendarChoice | None) -> AssetClass:
    return CLASSES.get(calendar) or (pair.asset_class if pair else None) or "equity"


def _pair(name: str) -> CalendarChoice | None:
    """Return the calendar of a pair of coins or currencies; None if a name is none."""
    if name.endswith(("-PERP", "-SWAP")):
        return CalendarChoice(ALWAYS_OPEN, "crypto pair", "crypto")
    for base, quote in _splits(name.rstrip("/")):
        if base in _CURRENCIES and quote in _CURRENCIES and base != quote:
            return CalendarChoice(WEEKDAYS, "currency pair", "fx")
        money = quote in _CURRENCIES or quote in _STABLECOINS or quote in _COINS
        if (base in _COINS | _STABLECOINS and money) or (quote in _STABLECOINS and base):
            return CalendarChoice(ALWAYS_OPEN, "crypto pair", "crypto")
    separated = _SEPARATED.fullmatch(name)
    if separated and separated[2] == "USD":  # Yahoo's spelling of any coin
        return CalendarChoice(ALWAYS_OPEN, "crypto pair", "crypto")
    return None


def _splits(name: str) -> list[tuple[str, str]]:
    """Return the possible bases and quotes of a pair, with or without a separator."""
    separated = _SEPARATED.fullmatch(name)
    if separated:
        return [(separated[1], separated[2])]
    if "-" in name or "/" in name:
        return []
    quotes = _STABLECOINS | _CURRENCIES | {"BTC", "ETH", "BNB"}
    return [(name[:-size], name[-size:]) for size in (5, 4, 3) if len(name) > size and name[-size:] in quotes]
