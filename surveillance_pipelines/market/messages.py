"""Strict decoder of the input queue's market message (SCH-01): JSON text to ``Tick`` or ``Refusal``.

Missing optional fields, extra fields, quoted numbers and messages in known envelopes are accepted; malformed messages
are refused with a stable code and a message. docs/producer-contract.md is the contract for producers.
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
from surveillance_pipelines.market.envelopes import (
    MAX_ENVELOPES,
    content_of,
    decoded_base64,
    is_sns_confirmation,
    remedy_of,
)
from surveillance_pipelines.market.instants import parse_instant
from surveillance_pipelines.symbols import SYMBOL_RULE, is_symbol

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
    "wrapped",
]
REFUSAL_CODES: Final[tuple[RefusalCode, ...]] = get_args(RefusalCode)
"""All codes that ``decode_tick`` can return. Dead-letter rows and dashboards group by them, so they never change."""

MAX_BODY_CHARACTERS: Final = 16_384
"""Maximum length. A message has about 150 characters. SQS allows 262,144, which would delay a whole micro-batch."""
MAX_DEPTH: Final = 64
"""Maximum nesting of lists and objects. The interpreter's limit depends on the depth of the call stack."""
MAX_PRICE: Final = 1e12
"""Above every quoted price: a bitcoin in Vietnamese dong is about 3e9."""
MIN_PRICE: Final = 1e-12
"""Below every quoted price: the smallest tokens quoted in bitcoin are about 1e-11."""
MAX_VOLUME: Final = 1e16
"""Above every daily volume: the most active tokens trade about 1e14 units a day. Float64 is almost exact below."""
MAX_CHANGE_PERCENT: Final = 1e7
"""A daily change by a factor of 100,000 is a unit error."""
MIN_EVENT_TIME: Final = to_us(datetime(1970, 1, 1, tzinfo=UTC))
"""Earlier times are parsing errors such as the year 1; trades before 1970 have no timestamps to the second."""
MAX_FUTURE_SECONDS: Final = 300.0
"""Tolerated clock difference between producer and queue. Later ticks would close their symbol's bars too early."""

_SHOWN: Final = 60
_NESTING: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL
)  # an unterminated string extends to the end: linear time


class _RefusedError(SurveillanceError, code=ErrorCode.INVALID_INPUT):
    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code, reason)


def decode_tick(body: str, *, sent_at: int | None) -> Tick | Refusal:
    """Return the tick in a message body, or the reason for its refusal. Never raises.

    Args:
        body: the message text.
        sent_at: time at which the queue accepted the message, microseconds since the epoch; later event times are
            refused beyond ``MAX_FUTURE_SECONDS``. None for a message that was accepted before, by the rules of that
            time: neither its event time nor the spelling of its symbol is checked.
    """
    try:
        return _tick(_object(body), sent_at)
    except _RefusedError as error:
        return error.refusal


def read_tick(body: str, *, sent_at: int | None, instruments: Container[str] | None) -> Tick | Refusal:
    """Return the result of ``decode_tick``, and refuse a symbol that is not in ``instruments``; None allows all."""
    tick = decode_tick(body, sent_at=sent_at)
    if isinstance(tick, Refusal) or instruments is None or tick.symbol in instruments:
        return tick
    return Refusal(
        "unknown_symbol",
        f"expected a registered instrument, got {tick.symbol!r}: register it with `surveillance instruments add "
        "SYMBOL`, or set UNKNOWN_SYMBOLS=register",
    )


def encode_tick(tick: Tick) -> str:
    """Return a tick as the JSON text of SCH-01; optional fields that are None are omitted."""
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
    """Return the message's fields, also from within envelopes."""
    value, envelope = _json(body), ""
    for _ in range(MAX_ENVELOPES):
        found = content_of(value)
        if found is None:
            break
        content, envelope = found
        value = _json(content, envelope) if isinstance(content, str) else content
    if content_of(value) is not None:
        raise _RefusedError("wrapped", f"expected at most {MAX_ENVELOPES} envelopes around a tick, got more")
    if isinstance(value, dict):
        if is_sns_confirmation(value):
            raise _RefusedError(
                "wrapped",
                f"expected a tick, got a {value['Type']} of SNS: confirm the subscription at its SubscribeURL",
            )
        return value
    if envelope:
        raise _RefusedError(
            "wrapped", f"expected a JSON object in {envelope}, got {_kind(value)}: {remedy_of(envelope)}"
        )
    raise _RefusedError("not_object", f"expected a JSON object, got {_kind(value)}: wrap the fields in braces")


def _json(text: str, envelope: str = "") -> Any:
    """Return the JSON value of a text, or of base64 of JSON."""
    if len(text) > MAX_BODY_CHARACTERS:
        raise _RefusedError(
            "too_large",
            f"expected a message of at most {MAX_BODY_CHARACTERS} characters, got {len(text)}: send one tick a message",
        )
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise _RefusedError("not_json", f"expected a flat JSON object, got one nested deeper than {MAX_DEPTH} levels")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        if not envelope and (inner := decoded_base64(text)) is not None:
            return _json(inner, "base64")
        where, fix = (f" in {envelope}", f"; {remedy_of(envelope)}") if envelope else ("", "")
        raise _RefusedError(
            "not_json",
            f"expected one JSON object in UTF-8{where}, got {_show(text)} ({error.msg} at character {error.pos}){fix}",
        ) from error
    except ValueError as error:  # an integer past the interpreter's limit of 4,300 digits
        raise _RefusedError(
            "out_of_bounds", "expected numbers of a sane length, got one of thousands of digits"
        ) from error


def _depth(body: str) -> int:
    """Return the nesting depth of the brackets outside strings."""
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


_QUOTED_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
"""A JSON number in quotes; the length is limited like that of a plausible number."""
# The C scanner supports both hooks; a decoder can be shared between threads.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_refuse_repeats, parse_constant=_refuse_constant)


def _tick(fields: dict[str, Any], sent_at: int | None) -> Tick:
    change, change_percent = fields.get("change"), fields.get("change_percent")
    return Tick(
        _symbol(_required(fields, "symbol"), is_new=sent_at is not None),
        _number("price", _required(fields, "price"), MIN_PRICE, MAX_PRICE),
        _number("volume", _required(fields, "volume"), 0.0, MAX_VOLUME),
        _event_time(_required(fields, "timestamp"), sent_at),
        None if change is None else _number("change", change, -MAX_PRICE, MAX_PRICE),
        None if change_percent is None else _number("change_percent", change_percent, -100.0, MAX_CHANGE_PERCENT),
    )


def _required(fields: dict[str, Any], name: str) -> Any:
    value = fields.get(name)
    if value is None:
        found = "null" if name in fields else f"the fields {_show(sorted(fields))}"
        raise _RefusedError("missing_field", f"expected the field {name!r}, got {found}: send it with every tick")
    return value


def _symbol(value: Any, *, is_new: bool) -> str:
    if not isinstance(value, str):
        raise _RefusedError("wrong_type", f"expected symbol as a string, got {_kind(value)} {_show(value)}")
    if is_new and not is_symbol(value):
        raise _RefusedError(
            "bad_symbol", f"expected {SYMBOL_RULE} as symbol, got {_show(value)}: send it in upper case, trimmed"
        )
    return value


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, str) and _QUOTED_NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _RefusedError(
            "wrong_type", f"expected {name} as a JSON number, got {_kind(value)} {_show(value)}: send it unquoted"
        )
    # Compare before converting: float() raises for an integer of hundreds of digits.
    if low <= value <= high:
        return float(value) + 0.0  # -0.0 becomes 0.0
    if isinstance(value, float) and not math.isfinite(value):
        raise _RefusedError("non_finite", f"expected {name} as a finite number, got {value}")
    raise _RefusedError(
        "out_of_bounds", f"expected {name} between {low:g} and {high:g}, got {_show(value)}: check unit and sign"
    )


def _event_time(value: Any, sent_at: int | None) -> int:
    if not isinstance(value, str):
        raise _RefusedError(
            "wrong_type", f"expected timestamp as an ISO 8601 string, got {_kind(value)} {_show(value)}"
        )
    try:
        instant = parse_instant(value)
    except (ValueError, OverflowError) as error:
        raise _RefusedError(
            "bad_timestamp", f"expected ISO 8601 with a time zone such as 2024-01-15T10:30:00Z, got {_show(value)}"
        ) from error
    if instant < MIN_EVENT_TIME:
        raise _RefusedError("bad_timestamp", f"expected a timestamp from 1970 on, got {_show(value)}")
    if sent_at is not None and instant > sent_at + MAX_FUTURE_SECONDS * MICROSECONDS:
        raise _RefusedError(
            "future_timestamp",
            f"expected a timestamp at most {MAX_FUTURE_SECONDS:g} s after {to_iso(sent_at)}, the time of sending by "
            f"the queue's clock, got {_show(value)}: check the producer's clock and time zone",
        )
    return instant


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def _show(value: Any) -> str:
    text = ascii(value)  # the decoder rejects integers that are too long to print
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
