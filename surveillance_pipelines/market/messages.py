"""The market message of the input queue (SCH-01), read strictly: JSON text in, ``Tick`` or ``Refusal`` out.

Missing optional fields and extra fields are accepted; anything malformed is refused with a stable code and a sentence.
The producer's side of the contract is docs/producer-contract.md.
"""

import json
import math
import re
from collections.abc import Container
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from surveillance_pipelines.clock import MICROSECONDS, to_iso, to_us
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.market import Refusal, Tick

RefusalCode = Literal[
    "too_large",
    "not_json",
    "not_object",
    "duplicate_key",
    "missing_field",
    "wrong_type",
    "non_finite",
    "out_of_bounds",
    "bad_symbol",
    "bad_timestamp",
    "future_timestamp",
]
REFUSAL_CODES: Final[tuple[RefusalCode, ...]] = get_args(RefusalCode)
"""Every code that ``decode_tick`` can give; dead-letter rows and dashboards count by them, so they never change."""

MAX_BODY_CHARACTERS: Final = 16_384
"""A message takes about 150 characters. SQS lets 262,144 through; parsing those would hold up a whole micro-batch."""
MAX_DEPTH: Final = 64
"""Levels of lists and objects. Left to the interpreter, the answer would depend on how deep the caller stands."""
MAX_PRICE: Final = 1e12
"""Above every quoted price: a bitcoin in Vietnamese dong is about 3e9."""
MIN_PRICE: Final = 1e-12
"""Below every quoted price: the smallest tokens quoted in bitcoin are about 1e-11."""
MAX_VOLUME: Final = 1e16
"""Above every daily volume: the busiest tokens trade about 1e14 units a day. Every whole number below is near exact."""
MAX_CHANGE_PERCENT: Final = 1e7
"""A hundred-thousand-fold move in a day is a unit error, not a market."""
MIN_EVENT_TIME: Final = to_us(datetime(1970, 1, 1, tzinfo=UTC))
"""Earlier trades were not stamped to the second; what is older is a parsing accident such as the year 1."""
MAX_FUTURE_SECONDS: Final = 300.0
"""Clocks of exchange, producer and platform may disagree this much. A tick from beyond would close bars too early."""
SYMBOL_PATTERN: Final = re.compile(r"[A-Z0-9^][A-Z0-9.^=/_-]{0,31}", re.ASCII)
"""Upper case, so that one instrument has one spelling, one message group and one queue."""

_SHOWN: Final = 60
_NESTING: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)  # a string cut off goes to the end: linear time


class _RefusedError(SurveillanceError, code=ErrorCode.INVALID_INPUT):
    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code, reason)


def decode_tick(body: str, *, received_at: int) -> Tick | Refusal:
    """Return the tick in a message body, or why it is refused. Never raises.

    Args:
        body: the message text.
        received_at: microseconds since the epoch when the platform got it; event times too far past it are refused.
    """
    try:
        return _tick(_object(body), received_at)
    except _RefusedError as error:
        return error.refusal


def read_tick(body: str, *, received_at: int, instruments: Container[str] | None) -> Tick | Refusal:
    """Return ``decode_tick``'s answer, or a refusal of a symbol that is not among the instruments; None knows all."""
    tick = decode_tick(body, received_at=received_at)
    if isinstance(tick, Refusal) or instruments is None or tick.symbol in instruments:
        return tick
    return Refusal(
        "unknown_symbol",
        f"expected a registered instrument, got {tick.symbol!r}: add it to SYMBOLS or set UNKNOWN_SYMBOLS=register",
    )


def encode_tick(tick: Tick) -> str:
    """Return a tick as the JSON text of SCH-01; optional fields that are None are left out."""
    message: dict[str, Any] = {
        "symbol": tick.symbol,
        "price": tick.price,
        "volume": tick.volume,
        "timestamp": to_iso(tick.event_time),
    }
    if tick.change is not None:
        message["change"] = tick.change
    if tick.change_percent is not None:
        message["change_percent"] = tick.change_percent
    return json.dumps(message, separators=(",", ":"), allow_nan=False)


def _object(body: str) -> dict[str, Any]:
    if len(body) > MAX_BODY_CHARACTERS:
        raise _RefusedError(
            "too_large",
            f"expected a message of at most {MAX_BODY_CHARACTERS} characters, got {len(body)}: send one tick a message",
        )
    if body.count("[") + body.count("{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise _RefusedError("not_json", f"expected a flat JSON object, got one nested deeper than {MAX_DEPTH} levels")
    try:
        value = _DECODER.decode(body)
    except json.JSONDecodeError as error:
        raise _RefusedError(
            "not_json", f"expected one JSON object in UTF-8, got {_show(body)} ({error.msg} at character {error.pos})"
        ) from error
    except ValueError as error:  # an integer past the interpreter's limit of 4,300 digits
        raise _RefusedError(
            "out_of_bounds", "expected numbers of a sane length, got one of thousands of digits"
        ) from error
    if not isinstance(value, dict):
        raise _RefusedError("not_object", f"expected a JSON object, got {_kind(value)}: wrap the fields in braces")
    return value


def _depth(body: str) -> int:
    """Return how deep the brackets outside strings are nested."""
    depth = deepest = 0
    for found in _NESTING.findall(body):
        if found[0] != '"':
            depth += 1 if found in "[{" else -1
            deepest = max(deepest, depth)
    return deepest


def _refuse_constant(name: str) -> Any:
    raise _RefusedError("non_finite", f"expected finite numbers, got the literal {name}: leave the message out")


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _RefusedError(
            "duplicate_key", f"expected each field once, got {_show(repeated)} more than once: send one value"
        )
    return fields


# The C scanner serves both hooks; a decoder is safe to share.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_refuse_repeats, parse_constant=_refuse_constant)


def _tick(fields: dict[str, Any], received_at: int) -> Tick:
    change, change_percent = fields.get("change"), fields.get("change_percent")
    return Tick(
        _symbol(_required(fields, "symbol")),
        _number("price", _required(fields, "price"), MIN_PRICE, MAX_PRICE),
        _number("volume", _required(fields, "volume"), 0.0, MAX_VOLUME),
        _event_time(_required(fields, "timestamp"), received_at),
        None if change is None else _number("change", change, -MAX_PRICE, MAX_PRICE),
        None if change_percent is None else _number("change_percent", change_percent, -100.0, MAX_CHANGE_PERCENT),
    )


def _required(fields: dict[str, Any], name: str) -> Any:
    value = fields.get(name)
    if value is None:
        came = "null" if name in fields else f"the fields {_show(sorted(fields))}"
        raise _RefusedError("missing_field", f"expected the field {name!r}, got {came}: send it with every tick")
    return value


def _symbol(value: Any) -> str:
    if not isinstance(value, str):
        raise _RefusedError("wrong_type", f"expected symbol as a string, got {_kind(value)} {_show(value)}")
    if not SYMBOL_PATTERN.fullmatch(value):
        raise _RefusedError(
            "bad_symbol",
            f"expected 1 to 32 of A-Z 0-9 . ^ = / _ - as symbol, got {_show(value)}: send it in upper case, trimmed",
        )
    return value


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _RefusedError(
            "wrong_type", f"expected {name} as a JSON number, got {_kind(value)} {_show(value)}: send it unquoted"
        )
    # Comparing first keeps an integer of hundreds of digits away from float().
    if low <= value <= high:
        return float(value) + 0.0  # -0.0 becomes 0.0
    if isinstance(value, float) and not math.isfinite(value):
        raise _RefusedError("non_finite", f"expected {name} as a finite number, got {value}")
    raise _RefusedError(
        "out_of_bounds", f"expected {name} between {low:g} and {high:g}, got {_show(value)}: check unit and sign"
    )


def _event_time(value: Any, received_at: int) -> int:
    if not isinstance(value, str):
        raise _RefusedError(
            "wrong_type", f"expected timestamp as an ISO 8601 string, got {_kind(value)} {_show(value)}"
        )
    try:
        instant = to_us(datetime.fromisoformat(value))
    except (ValueError, OverflowError) as error:
        raise _RefusedError(
            "bad_timestamp", f"expected ISO 8601 with a time zone such as 2024-01-15T10:30:00Z, got {_show(value)}"
        ) from error
    if instant < MIN_EVENT_TIME:
        raise _RefusedError("bad_timestamp", f"expected a timestamp from 1970 on, got {_show(value)}")
    if instant > received_at + MAX_FUTURE_SECONDS * MICROSECONDS:
        raise _RefusedError(
            "future_timestamp",
            f"expected a timestamp at most {MAX_FUTURE_SECONDS:g} s past {to_iso(received_at)}, got {_show(value)}: "
            "check the producer's clock and time zone",
        )
    return instant


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def _show(value: Any) -> str:
    text = ascii(value)  # the decoder reads no integer that is too long to print
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
