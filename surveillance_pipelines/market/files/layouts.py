"""Layouts of vendors' files: the meaning of their columns, recognised by the header, or by the form of the first row.

A new layout is one entry of ``LAYOUTS``. Files of no known layout are read by the names of their columns (``ALIASES``).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from surveillance_pipelines.contracts.market import BarStamp, Timeframe

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "symbol": ("symbol", "ticker", "sym", "instrument"),
    "time": (
        "bar_start", "ts", "timestamp", "datetime", "date", "time", "event_time", "ts_event", "date_time",
        "window_start", "open_time", "sip_timestamp", "gmt_time", "unix", "t",
    ),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c", "close/last"),
    "volume": ("volume", "vol", "v", "size", "qty", "quantity", "amount"),
    "price": ("price", "last"),
    "suspicious": ("suspicious",),
    "knowledge_time": ("knowledge_time", "known_at"),
}  # fmt: skip
"""Our name → names of columns; the first match is used. Letter case, spaces and angle brackets do not matter."""

NAMES: Final = frozenset(ALIASES)
_INTEGER: Final = r"\d+"
_NUMBER: Final = r"[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?"
_OHLC: Final = (_NUMBER,) * 4
_WORDS: Final = r"[A-Za-z]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One vendor's form of a file.

    Attributes:
        name: for people.
        header: names of columns, all of which a header of this layout has; empty if its files have no header.
        positions: names of the columns of a file without a header.
        forms: regular expression of each field of the first row of a file without a header.
        columns: our name → the layout's column, where ``ALIASES`` does not find it.
        timezone: zone of its times.
        bar_stamp: whether its bars carry their start or their end.
        price_divisor: divisor of its prices, if they are whole numbers: fixed-point numbers.
        symbol_in_name: regular expression of a file's name, with the group ``symbol``, and ``day`` if rows have only
            the milliseconds of the day.
        timeframe: length of its bars, if all have one.
    """

    name: str
    header: frozenset[str] = frozenset()
    positions: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    timezone: str | None = None
    bar_stamp: BarStamp = "start"
    price_divisor: float | None = None
    symbol_in_name: str = ""
    timeframe: Timeframe | None = None

    def has_header(self, names: Sequence[str]) -> bool:
        return bool(self.header) and self.header <= set(names)

    def has_form(self, fields: Sequence[str], file_name: str) -> bool:
        """Return whether a first row and the file's name are of this layout."""
        if not self.forms or len(fields) != len(self.forms):
            return False
        if "day" in self.symbol_in_name and self.match_name(file_name) is None:
            return False
        return all(re.fullmatch(form, text) for form, text in zip(self.forms, fields, strict=True))

    def match_name(self, file_name: str) -> re.Match[str] | None:
        """Return what a file's name states: ``symbol``, and ``day`` in some layouts; None if it states nothing."""
        return re.match(self.symbol_in_name, file_name, re.IGNORECASE) if self.symbol_in_name else None


GENERIC: Final = Layout(name="columns recognised by their names")
NAMED_BY_USER: Final = Layout(name="columns named by --columns")

_BINANCE_NAME: Final = r"(?P<symbol>[A-Z0-9]{5,20})-(?:\d+[smhdwM]o?|trades|aggTrades)-\d{4}"
_LEAN_NAME: Final = r"(?P<day>\d{8})_(?P<symbol>[a-z0-9.]+)_(?:minute|second|tick|hour)_trade"

LAYOUTS: Final = (
    Layout(
        name="Binance klines",
        positions=(
            "time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
            "taker_buy_volume", "taker_buy_quote_volume", "ignore",
        ),
        forms=(r"\d{13}|\d{16}", *_OHLC, _NUMBER, r"\d{13}|\d{16}", _NUMBER, _INTEGER, _NUMBER, _NUMBER, _NUMBER),
        symbol_in_name=_BINANCE_NAME,
    ),
    Layout(
        name="Binance klines",
        header=frozenset({"open_time", "close_time", "quote_volume"}),
        columns={"time": "open_time"},
        symbol_in_name=_BINANCE_NAME,
    ),
    Layout(
        name="Binance trades",
        positions=("id", "price", "volume", "quote_volume", "time", "is_buyer_maker", "is_best_match"),
        forms=(_INTEGER, _NUMBER, _NUMBER, _NUMBER, r"\d{13}|\d{16}", _WORDS, _WORDS),
        symbol_in_name=_BINANCE_NAME,
    ),
    Layout(
        name="Binance aggregated trades",
        positions=("id", "price", "volume", "first_id", "last_id", "time", "is_buyer_maker", "is_best_match"),
        forms=(_INTEGER, _NUMBER, _NUMBER, _INTEGER, _INTEGER, r"\d{13}|\d{16}", _WORDS, _WORDS),
        symbol_in_name=_BINANCE_NAME,
    ),
    Layout(
        name="Kraken OHLCVT",
        positions=("time", "open", "high", "low", "close", "volume", "trades"),
        forms=(r"\d{9,10}", *_OHLC, _NUMBER, _INTEGER),
        symbol_in_name=r"(?P<symbol>[A-Z0-9]{5,20})_\d+\.csv",
    ),
    Layout(
        name="Kraken trades",
        positions=("time", "price", "volume"),
        forms=(r"\d{9,10}(?:\.\d+)?", _NUMBER, _NUMBER),
        symbol_in_name=r"(?P<symbol>[A-Z0-9]{5,20})\.csv",
    ),
    Layout(
        name="Databento",
        header=frozenset({"ts_event", "rtype", "publisher_id"}),
        columns={"time": "ts_event"},
        price_divisor=1e9,
    ),
    Layout(
        name="Polygon flat file",
        header=frozenset({"ticker", "window_start", "transactions"}),
        columns={"time": "window_start"},
    ),
    Layout(name="Polygon trades", header=frozenset({"ticker", "sip_timestamp", "price", "size"}),
           columns={"time": "sip_timestamp"}),
    Layout(
        name="CryptoDataDownload",
        header=frozenset({"unix", "date", "symbol", "open"}),
        columns={"time": "unix"},
    ),
    Layout(name="MetaTrader 4", positions=("date", "time", "open", "high", "low", "close", "volume"),
           forms=(r"\d{4}\.\d\d\.\d\d", r"\d\d:\d\d(?::\d\d)?", *_OHLC, _NUMBER)),
    Layout(
        name="MetaTrader 5",
        header=frozenset({"date", "open", "high", "low", "close", "tickvol"}),
    ),
    Layout(
        name="MetaTrader 5 ticks",
        header=frozenset({"date", "time", "bid", "ask", "last", "flags"}),
    ),
    Layout(
        name="NinjaTrader minutes",
        positions=("time", "open", "high", "low", "close", "volume"),
        forms=(r"\d{8} \d{6}", *_OHLC, _NUMBER),
        bar_stamp="end",
        timezone="UTC",
    ),
    Layout(
        name="Lean minutes",
        positions=("time", "open", "high", "low", "close", "volume"),
        forms=(r"\d{1,8}", *(_INTEGER,) * 4, _INTEGER),
        timezone="America/New_York",
        price_divisor=1e4,
        symbol_in_name=_LEAN_NAME,
    ),
    Layout(
        name="NinjaTrader days",
        positions=("time", "open", "high", "low", "close", "volume"),
        forms=(r"(?:19|20)\d{6}", *_OHLC, _NUMBER),
        timeframe="1d",
    ),
    Layout(
        name="IBKR",
        header=frozenset({"date", "open", "close", "average", "barcount"}),
        columns={"time": "date"},
    ),
    Layout(name="Stooq", header=frozenset({"ticker", "per", "date", "time", "open", "vol"})),
    Layout(
        name="Lean hours and days",
        positions=("time", "open", "high", "low", "close", "volume"),
        forms=(r"\d{8} \d\d:\d\d", *(_INTEGER,) * 4, _INTEGER),
        timezone="America/New_York",
        price_divisor=1e4,
        symbol_in_name=r"(?P<symbol>[a-z0-9.]+)\.csv",
    ),
    Layout(name="Dukascopy", header=frozenset({"gmt_time", "open", "close"}), columns={"time": "gmt_time"},
           timezone="UTC"),
)  # fmt: skip
"""In the order of recognition; a file is of the first layout whose header or first row it has."""


def of_header(names: Sequence[str]) -> Layout:
    """Return the layout of a file with these names of columns."""
    return next((layout for layout in LAYOUTS if layout.has_header(names)), GENERIC)


def of_row(fields: Sequence[str], file_name: str) -> Layout | None:
    """Return the layout of a file without a header; None if it is not known."""
    return next((layout for layout in LAYOUTS if layout.has_form(fields, file_name)), None)


def normal_name(name: str) -> str:
    """Return a column's name without the differences that do not matter."""
    return re.sub(r"[\s_]+", "_", name.strip().strip("<>'\"").lower()).strip("_")


def is_header(names: Sequence[str]) -> bool:
    """Return whether fields are the names of columns: of a time and of a price."""
    known = {alias for key in ("time", "open", "close", "price", "high", "low") for alias in ALIASES[key]}
    times, prices = set(ALIASES["time"]), known - set(ALIASES["time"])
    return bool(times & set(names)) and bool(prices & set(names))
