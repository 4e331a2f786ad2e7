"""The spelling of symbols is the same wherever one enters, and no symbol is a path or an option."""

import json

import polars as pl
import pytest
from pydantic import ValidationError

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.market.messages import decode_tick
from surveillance_pipelines.market.row_checks import check_ticks
from surveillance_pipelines.services.instruments import require_symbols
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.symbols import is_symbol
from surveillance_pipelines_tests.market.decoder_oracle import SENT

REAL = (
    "AAPL", "BRK.B", "BRK-B", "BRK/B", "^GSPC", "ES=F", "EURUSD=X", "BTC-USD", "BTC/USD", "BTC_USDT", "0700.HK",
    "600519.SS", "BP.", "BP/", "CIT-", "ABC=", "ABC^", "BF.A", "1810.HK", "CL1/CL2", "A" * 32,
)  # fmt: skip
HOSTILE = (
    "", ".", "..", "../X", "/X", "-X", "-", "--HELP", "=X", "_X", "A/../../B", "A/..", "A/.", "A//B", "A/.HIDDEN",
    "A/-RF",     "A\\B", "A B", "A\0", "A\n", "A:B", "A~", "$HOME", "A;B", "A%2F", "a", "A" * 33,
)  # fmt: skip


@pytest.mark.parametrize("symbol", REAL)
def test_symbol_of_a_real_instrument_is_accepted_everywhere(symbol: str) -> None:
    assert _accepted(symbol) == [True] * 5


@pytest.mark.parametrize("symbol", HOSTILE)
def test_symbol_that_is_a_path_or_an_option_is_refused_everywhere(symbol: str) -> None:
    found = _accepted(symbol)
    if symbol in ("", "A\n", "a"):  # a list in a command or a setting is stripped; a command folds the case
        found = found[:3]
    assert not any(found)


def _accepted(symbol: str) -> list[bool]:
    """Return whether the function, a message, a file, a command and the settings accept a symbol."""
    body = json.dumps({"symbol": symbol, "price": 1.0, "volume": 1.0, "timestamp": "2024-01-15T10:30:00Z"})
    rows = pl.DataFrame({"symbol": [symbol], "event_time": [SENT], "price": [1.0], "volume": [1.0]})
    return [
        is_symbol(symbol),
        isinstance(decode_tick(body, sent_at=SENT), Tick),
        check_ticks(rows.cast({"event_time": UTC_MICROSECONDS})).good.height == 1,
        _is_accepted_by_commands(symbol),
        _is_accepted_by_settings(symbol),
    ]


def _is_accepted_by_commands(symbol: str) -> bool:
    try:
        return require_symbols([symbol]) == (symbol,)
    except InvalidInputError:
        return False


def _is_accepted_by_settings(symbol: str) -> bool:
    try:
        return Settings(_env_file=None, symbols=(symbol,)).symbols == (symbol,)  # pyright: ignore[reportCallIssue]
    except ValidationError:
        return False
