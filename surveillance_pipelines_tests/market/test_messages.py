import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.market import Refusal, Tick
from surveillance_pipelines.market.messages import (
    MAX_BODY_CHARACTERS,
    MAX_PRICE,
    MAX_VOLUME,
    MIN_PRICE,
    REFUSAL_CODES,
    decode_tick,
    encode_tick,
)

SENT = to_us(datetime(2024, 1, 15, 10, 30, 1, tzinfo=UTC))
GOOD: dict[str, Any] = {
    "symbol": "AAPL",
    "price": 150.25,
    "volume": 1000000,
    "timestamp": "2024-01-15T10:30:00Z",
    "change": 2.5,
    "change_percent": 1.69,
}


def body(**changes: Any) -> str:
    return json.dumps({name: value for name, value in (GOOD | changes).items() if value is not ...})


def text(field: str, literal: str) -> str:
    """Return the valid message with a literal in place of a field that ``json.dumps`` would not write."""
    return body(**{field: "@"}).replace('"@"', literal)


@pytest.mark.requirement("SCH-01")
def test_decode_tick_accepts_the_message_of_the_contract() -> None:
    tick = decode_tick(body(), sent_at=SENT)
    assert tick == Tick("AAPL", 150.25, 1e6, to_us(datetime(2024, 1, 15, 10, 30, tzinfo=UTC)), 2.5, 1.69)


@pytest.mark.requirement("SCH-01")
@pytest.mark.parametrize(
    "changes",
    [
        {"change": ..., "change_percent": ...},
        {"change": None, "change_percent": None},
        {"venue": "XNAS", "conditions": ["@", "F"]},
        {"venue": [[["deep"]]] * 40},
        {"venue": "[{" * 500},
        {"volume": 0},
        {"price": 151},
        {"symbol": "9988.HK"},
        {"symbol": "^GSPC"},
        {"symbol": "XRP/ETH"},
        {"timestamp": "2024-01-15T05:30:00.123456789-05:00"},
        {"timestamp": "2024-01-15T10:35:00Z"},
    ],
)
def test_decode_tick_harmless_variation_is_accepted(changes: dict[str, Any]) -> None:
    assert isinstance(decode_tick(body(**changes), sent_at=SENT), Tick)


SNS = {
    "Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:us-east-1:000000000000:ticks", "Message": body(),
    "Timestamp": "2024-01-15T10:30:00.000Z", "SignatureVersion": "1",
}  # fmt: skip
EVENT = {
    "version": "0", "id": "1", "detail-type": "Tick", "source": "feed", "account": "000000000000",
    "time": "2024-01-15T10:30:00Z", "region": "us-east-1", "resources": [], "detail": GOOD,
}  # fmt: skip


def wrapped(content: str) -> str:
    return json.dumps({**SNS, "Message": content})


@pytest.mark.parametrize(
    "message",
    [
        wrapped(body()), json.dumps(EVENT), wrapped(json.dumps(EVENT)), json.dumps(body()),
        base64.b64encode(body().encode()).decode(), base64.b64encode(json.dumps(EVENT).encode()).decode() + "\n",
        body(price="150.25", volume="1000000", change="2.5", change_percent="1.69"), body(price="1.5025e2"),
    ],
    ids=["SNS", "EventBridge", "EventBridge over SNS", "JSON in a string", "base64", "base64 of EventBridge",
         "quoted numbers", "quoted number with an exponent"],
)  # fmt: skip
def test_decode_tick_unambiguous_envelope_is_removed(message: str) -> None:
    assert decode_tick(message, sent_at=SENT) == decode_tick(body(), sent_at=SENT)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (wrapped("hello"), "turn on raw message delivery"),
        (json.dumps({**EVENT, "detail": 5}), "set the input path $.detail"),
        (json.dumps({**SNS, "Type": "SubscriptionConfirmation"}), "confirm the subscription"),
    ],
)
def test_decode_tick_reason_of_an_envelope_names_the_fix(message: str, remedy: str) -> None:
    refusal = decode_tick(message, sent_at=SENT)
    assert isinstance(refusal, Refusal)
    assert remedy in refusal.reason


def test_decode_tick_message_with_a_symbol_is_no_envelope() -> None:
    assert isinstance(decode_tick(body(Type="Notification", TopicArn="x", Message="y"), sent_at=SENT), Tick)


MALFORMED = [
    ("empty", "", "not_json"),
    ("words", "AAPL 150.25", "not_json"),
    ("cut off", body()[:-5], "not_json"),
    ("trailing text", body() + "}", "not_json"),
    ("single quotes", body().replace('"', "'"), "not_json"),
    ("byte order mark", "\ufeff" + body(), "not_json"),
    ("utf-16 read as latin-1", body().encode("utf-16").decode("latin-1"), "not_json"),
    ("null byte", body().replace("AAPL", "AA\0PL"), "not_json"),
    ("depth bomb", "[" * 16_000, "not_json"),
    ("deep object", '{"price":' * 1_700, "not_json"),
    ("65 levels in an extra field", text("venue", "[" * 64 + "]" * 64), "not_json"),
    ("256 KiB", body(venue="x" * 262_144), "too_large"),
    ("array", f"[{body()}]", "not_object"),
    ("bare number", "150.25", "not_object"),
    ("bare null", "null", "not_object"),
    ("text in a string", json.dumps("AAPL 150.25"), "not_json"),
    ("number in a string", json.dumps("150.25"), "wrapped"),
    ("base64 of no JSON", base64.b64encode(b"AAPL 150.25 ").decode(), "not_json"),
    ("confirmation of SNS", json.dumps({**SNS, "Type": "SubscriptionConfirmation"}), "wrapped"),
    ("notification of SNS with text", json.dumps({**SNS, "Message": "hello"}), "not_json"),
    ("notification of SNS with a list", json.dumps({**SNS, "Message": "[]"}), "wrapped"),
    ("event of EventBridge with a text", json.dumps({**EVENT, "detail": 5}), "wrapped"),
    ("four envelopes", wrapped(wrapped(wrapped(wrapped(body())))), "wrapped"),
    ("key twice", body()[:-1] + ',"price":1}', "duplicate_key"),
    ("no symbol", body(symbol=...), "missing_field"),
    ("no price", body(price=...), "missing_field"),
    ("null volume", body(volume=None), "missing_field"),
    ("no timestamp", body(timestamp=...), "missing_field"),
    ("capital field names", body().replace('"price"', '"Price"'), "missing_field"),
    ("price with a comma", body(price="150,25"), "wrong_type"),
    ("price with a unit", body(price="150.25 USD"), "wrong_type"),
    ("price in hexadecimal", body(price="0x10"), "wrong_type"),
    ("price with an underscore", body(price="1_000"), "wrong_type"),
    ("price NaN in quotes", body(price="NaN"), "wrong_type"),
    ("quoted zero price", body(price="0"), "out_of_bounds"),
    ("price true", body(price=True), "wrong_type"),
    ("volume false", body(volume=False), "wrong_type"),
    ("price list", body(price=[150.25]), "wrong_type"),
    ("symbol number", body(symbol=600519), "wrong_type"),
    ("epoch timestamp", body(timestamp=1705314600), "wrong_type"),
    ("change as text", body(change="+2.5"), "wrong_type"),
    ("NaN", text("price", "NaN"), "non_finite"),
    ("Infinity", text("volume", "Infinity"), "non_finite"),
    ("-Infinity in an extra field", text("venue", "-Infinity"), "non_finite"),
    ("overflowing float", text("price", "1e999"), "non_finite"),
    ("zero price", body(price=0), "out_of_bounds"),
    ("negative price", body(price=-37.63), "out_of_bounds"),
    ("absurd price", body(price=1e13), "out_of_bounds"),
    ("vanishing price", body(price=1e-320), "out_of_bounds"),
    ("negative volume", body(volume=-1), "out_of_bounds"),
    ("absurd volume", body(volume=10**17), "out_of_bounds"),
    ("integer of 400 digits", text("price", "9" * 400), "out_of_bounds"),
    ("integer of 5,000 digits", text("volume", "9" * 5_000), "out_of_bounds"),
    ("lost more than everything", body(change_percent=-100.1), "out_of_bounds"),
    ("lower case symbol", body(symbol="aapl"), "bad_symbol"),
    ("blank symbol", body(symbol=""), "bad_symbol"),
    ("symbol with a line feed", body(symbol="AAPL\n"), "bad_symbol"),
    ("endless symbol", body(symbol="A" * 33), "bad_symbol"),
    ("symbol in other digits", body(symbol="AAPL٣"), "bad_symbol"),
    ("lone surrogate", text("symbol", '"\\ud800"'), "bad_symbol"),
    ("no time zone", body(timestamp="2024-01-15T10:30:00"), "bad_timestamp"),
    ("a date", body(timestamp="2024-01-15"), "bad_timestamp"),
    ("month 13", body(timestamp="2024-13-15T10:30:00Z"), "bad_timestamp"),
    ("leap second", body(timestamp="2024-01-15T10:30:60Z"), "bad_timestamp"),
    ("before 1970", body(timestamp="0001-01-01T00:00:00+23:59"), "bad_timestamp"),
    ("ten minutes ahead", body(timestamp="2024-01-15T10:40:01Z"), "future_timestamp"),
    ("the last year", body(timestamp="9999-12-31T23:59:59-23:59"), "future_timestamp"),
]


@pytest.mark.requirement("SCH-01")
@pytest.mark.parametrize(("message", "code"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_decode_tick_malformed_message_is_refused_with_code_and_reason(message: str, code: str) -> None:
    refusal = decode_tick(message, sent_at=SENT)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    assert refusal.reason.startswith("expected ")
    assert " got " in refusal.reason
    assert len(refusal.reason) < 400
    refusal.reason.encode()  # can be stored and logged


@pytest.mark.parametrize("levels", [1, 62, 63, 64, 900, 980, 990, 1_000, 1_700])
def test_decode_tick_result_does_not_depend_on_the_depth_of_the_call_stack(levels: int) -> None:
    message = text("venue", "[" * levels + "]" * levels)

    def below(frames: int) -> Tick | Refusal:
        return below(frames - 1) if frames else decode_tick(message, sent_at=SENT)

    answers = {below(frames) for frames in (0, 1, 50, 300)}
    assert len(answers) == 1
    assert isinstance(answers.pop(), Tick) == (levels < 64)


def test_malformed_cases_cover_every_code() -> None:
    assert {code for _, _, code in MALFORMED} == set(REFUSAL_CODES)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.text())
def test_decode_tick_any_text_never_raises(message: str) -> None:
    assert isinstance(decode_tick(message, sent_at=SENT), Tick | Refusal)


@given(st.dictionaries(st.sampled_from([*GOOD, "venue"]), JSON_VALUES))
def test_decode_tick_any_json_value_in_any_field_never_raises(changes: dict[str, Any]) -> None:
    result = decode_tick(json.dumps(GOOD | changes), sent_at=SENT)
    if isinstance(result, Tick):
        assert MIN_PRICE <= result.price <= MAX_PRICE
        assert 0.0 <= result.volume <= MAX_VOLUME
    else:
        assert result.code in REFUSAL_CODES


@given(
    price=st.floats(MIN_PRICE, MAX_PRICE),
    volume=st.floats(0.0, MAX_VOLUME),
    event_time=st.integers(0, SENT),
    change=st.none() | st.floats(-MAX_PRICE, MAX_PRICE),
)
def test_encode_tick_decodes_to_the_same_tick(
    price: float, volume: float, event_time: int, change: float | None
) -> None:
    tick = Tick("BRK-B", price, volume, event_time, change)
    message = encode_tick(tick)
    assert len(message) < MAX_BODY_CHARACTERS
    assert decode_tick(message, sent_at=SENT) == tick
