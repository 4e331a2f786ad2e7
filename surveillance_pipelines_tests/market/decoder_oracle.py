"""The guarantees of the decoder for every body, checked by property tests and by the fuzzer."""

from datetime import UTC, datetime
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS, to_us
from surveillance_pipelines.contracts.market import Refusal, Tick
from surveillance_pipelines.contracts.text import storable
from surveillance_pipelines.market.messages import (
    MAX_BODY_CHARACTERS,
    MAX_FUTURE_SECONDS,
    MAX_PRICE,
    MAX_VOLUME,
    MIN_EVENT_TIME,
    MIN_PRICE,
    REFUSAL_CODES,
    decode_tick,
    encode_tick,
    read_tick,
)
from surveillance_pipelines.symbols import is_symbol

SENT: Final = to_us(datetime(2024, 1, 15, 10, 30, 1, tzinfo=UTC))
INSTRUMENTS: Final = frozenset({"AAPL", "9988.HK", "^GSPC"})
LONGEST_REASON: Final = 400
ENDS: Final = (*REFUSAL_CODES, "unknown_symbol", "accepted")
"""All possible results of decoding a body."""


def checked_outcome(body: str) -> str:
    """Decode a body, check all guarantees of the result, and return the refusal's code or ``accepted``.

    Raises:
        AssertionError: if a guarantee is violated.
    """
    answer = decode_tick(body, sent_at=SENT)
    assert decode_tick(body, sent_at=SENT) == answer, "decoding is not deterministic"
    known = read_tick(body, sent_at=SENT, instruments=INSTRUMENTS)
    kept = storable(body)
    assert "\x00" not in kept, "PostgreSQL stores no NUL"
    kept.encode()
    if isinstance(answer, Refusal):
        assert known == answer
        assert answer.code in REFUSAL_CODES
        return _refused(answer)
    assert isinstance(answer, Tick)
    _accepted(body, answer)
    return "accepted" if known == answer else _refused(known)


def _refused(answer: Tick | Refusal) -> str:
    assert isinstance(answer, Refusal)
    assert answer.reason.startswith("expected "), "a reason starts with the expected value"
    assert len(answer.reason) < LONGEST_REASON
    assert storable(answer.reason) == answer.reason, "a reason can be stored and logged"
    return answer.code


def _accepted(body: str, tick: Tick) -> None:
    assert len(body) <= MAX_BODY_CHARACTERS
    assert is_symbol(tick.symbol)
    assert MIN_PRICE <= tick.price <= MAX_PRICE
    assert 0.0 <= tick.volume <= MAX_VOLUME
    assert MIN_EVENT_TIME <= tick.event_time <= SENT + MAX_FUTURE_SECONDS * MICROSECONDS
    assert all(type(number) is float for number in (tick.price, tick.volume))
    assert decode_tick(encode_tick(tick), sent_at=SENT) == tick, "encoding and decoding changes the tick"
