import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock, to_datetime
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.market.client import FIRST_WAIT_SECONDS, FetchResult
from surveillance_pipelines.market.row_checks import widen_to_rounding
from surveillance_pipelines.market.yahoo import YahooClient, _split_table, fetch_bars, undo_splits

NOW = datetime(2025, 6, 1, tzinfo=UTC)
MINUTES = "chart-AAPL-2024-10-02-to-2024-10-03-includePrePost-false-interval-1m.json.gz"
WEEKEND = "chart-AAPL-2025-02-01-to-2025-02-02-includePrePost-false-interval-1m.json.gz"
NO_TIMESTAMP = "chart-notimestamp-quotes-length.fake.json.gz"
DAYS_WITH_SPLIT = "chart-AAPL-2020-08-31-to-2020-11-07.json.gz"
UNKNOWN = {"chart": {"result": None, "error": {"code": "Not Found", "description": "No data found, symbol delisted"}}}


@dataclass(frozen=True)
class Response:
    text: str
    status_code: int
    url: str

    def json(self) -> Any:
        return json.loads(self.text)  # parse again: yfinance modifies the result

    def raise_for_status(self) -> None:
        from yfinance.data import requests

        if self.status_code >= 400:
            raise requests.exceptions.HTTPError(f"HTTP Error {self.status_code}")


@dataclass
class Yahoo:
    """Yahoo's responses by symbol: a body, an exception to raise, or a function of the attempt that returns either."""

    answers: dict[str, Any]
    asked: dict[str, int] = field(default_factory=dict)

    def get(self, url: str, params: dict[str, Any] | None = None, timeout: float = 30) -> Response:
        symbol = url.rsplit("/", 1)[-1]
        answer = self.answers[symbol]
        if callable(answer):
            self.asked[symbol] = self.asked.get(symbol, 0) + 1
            answer = answer(self.asked[symbol])
        if isinstance(answer, Exception):
            raise answer
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return Response(text, 404 if answer == UNKNOWN else 200, url)


@pytest.fixture
def recorded(shared_data: Path) -> Callable[[str], Any]:
    def read(name: str) -> Any:
        with gzip.open(shared_data / "yahoo_http" / name) as file:
            return json.load(file)["body"]

    return read


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Yahoo]:
    def start(**answers: Any) -> Yahoo:
        yahoo = Yahoo(answers)
        for name in ("get", "cache_get"):
            monkeypatch.setattr(f"yfinance.data.YfData.{name}", lambda _data, *args, **named: yahoo.get(*args, **named))
        return yahoo

    return start


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yfinance")


def rate_limit(_attempt: int) -> Exception:
    from yfinance.exceptions import YFRateLimitError

    return YFRateLimitError()


def fetch(folder: Path, symbols: list[str], clock: ManualClock | None = None, **options: Any) -> FetchResult:
    days: dict[str, Any] = {"start": date(2024, 10, 2), "end": date(2024, 10, 3)} | options
    return fetch_bars(symbols, cache_folder=folder, clock=clock or ManualClock(NOW), **days)


@pytest.mark.shared_data
@pytest.mark.requirement("ING-02")
def test_fetch_bars_recorded_minutes_land_with_source_and_adjustment(recorded, serve, cache_folder) -> None:
    serve(AAPL=recorded(MINUTES))
    result = fetch(cache_folder, ["AAPL"])
    assert result.outcomes["AAPL"].outcome == "ok"
    assert result.frame.schema == BAR_SCHEMA
    assert set(result.frame["source"]) == {"yfinance"}
    assert set(result.frame["adjustment"]) == {"split"}
    assert result.frame["bar_start"][0] == datetime(2024, 10, 2, 13, 30, tzinfo=UTC)
    assert result.rows_in == 390 == result.frame.height + len(result.refusals)
    assert [refusal.code for refusal in result.refusals] == ["missing_value"]  # 15:15 has no prices in the recording


@pytest.mark.shared_data
@pytest.mark.requirement("ING-02")
@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("weekend", "empty"),
        ("no_timestamp", "malformed"),
        ("web_page", "malformed"),
        ("unknown", "unknown_symbol"),
        ("refused", "rate_limited"),
        ("offline", "unreachable"),
    ],
)
def test_fetch_bars_failing_symbol_has_an_outcome_and_does_not_affect_others(
    recorded, serve, cache_folder, name: str, outcome: str
) -> None:
    answers = {
        "weekend": lambda: recorded(WEEKEND),
        "no_timestamp": lambda: recorded(NO_TIMESTAMP),
        "web_page": lambda: "<html>Sorry</html>",
        "unknown": lambda: UNKNOWN,
        "refused": lambda: rate_limit,
        "offline": lambda: ConnectionError("no route to host"),
    }
    serve(AAPL=recorded(MINUTES), MSFT=answers[name]())
    result = fetch(cache_folder, ["AAPL", "MSFT"])
    assert result.outcomes["MSFT"].outcome == outcome
    assert "MSFT" in result.outcomes["MSFT"].reason
    assert result.missing == ("MSFT",)
    assert set(result.frame["symbol"]) == {"AAPL"}


@pytest.mark.shared_data
@pytest.mark.requirement("ING-02")
def test_fetch_bars_temporary_rate_limit_is_retried(recorded, serve, cache_folder) -> None:
    body, clock = recorded(MINUTES), ManualClock(NOW)
    # The first three requests query the symbol's time zone.
    yahoo = serve(AAPL=lambda attempt: rate_limit(attempt) if attempt < 3 else body)
    result = fetch(cache_folder / "fresh", ["AAPL"], clock, max_attempts=4)
    assert (result.outcomes["AAPL"].outcome, result.outcomes["AAPL"].attempts) == ("ok", 3)
    waited = (to_datetime(clock.now_us()) - NOW).total_seconds()
    assert 3 * FIRST_WAIT_SECONDS <= waited <= 4.5 * FIRST_WAIT_SECONDS
    assert yahoo.asked["AAPL"] >= 3


@pytest.mark.requirement("ING-02")
def test_fetch_bars_permanent_rate_limit_ends_after_the_attempts(serve, cache_folder) -> None:
    clocks = [ManualClock(NOW), ManualClock(NOW)]
    serve(AAPL=rate_limit)
    results = [fetch(cache_folder, ["AAPL"], clock, max_attempts=3, seed=5) for clock in clocks]
    assert results[0].outcomes["AAPL"].attempts == 3
    assert results[0].frame.is_empty()
    assert results[0].frame.schema == BAR_SCHEMA
    assert clocks[0].now_us() == clocks[1].now_us()  # the jitter is seeded


@pytest.mark.shared_data
def test_fetch_bars_adjustments_are_recorded_and_differ(recorded, serve, cache_folder) -> None:
    serve(AAPL=recorded(DAYS_WITH_SPLIT))
    days: dict[str, Any] = {"start": date(2020, 8, 31), "end": date(2020, 11, 7), "interval": "1d"}
    none, split, dividend = (
        fetch(cache_folder, ["AAPL"], adjustment=how, **days).frame for how in ("none", "split", "split+dividend")
    )
    assert [frame["adjustment"][0] for frame in (none, split, dividend)] == ["none", "split", "split+dividend"]
    assert none["close"].to_list() == split["close"].to_list()  # the split of 31 August precedes every bar
    assert dividend["close"][0] < split["close"][0]  # a dividend was paid in November
    assert split["bar_start"][0] == datetime(2020, 8, 31, tzinfo=UTC)


@pytest.mark.shared_data
def test_fetch_bars_intraday_dividend_adjustment_is_not_claimed(recorded, serve, cache_folder) -> None:
    serve(AAPL=recorded(MINUTES))
    result = fetch(cache_folder, ["AAPL"], adjustment="split+dividend")
    assert set(result.frame["adjustment"]) == {"split"}
    assert result.notes


@pytest.mark.shared_data
def test_fetch_bars_unfinished_interval_is_left_out_and_counted(recorded, serve, cache_folder) -> None:
    serve(AAPL=recorded(MINUTES))
    during = ManualClock(datetime(2024, 10, 2, 14, 0, 30, tzinfo=UTC))
    result = fetch(cache_folder, ["AAPL"], during)
    assert result.frame["bar_start"].max() == datetime(2024, 10, 2, 13, 59, tzinfo=UTC)
    assert result.rows_in == result.frame.height + len(result.refusals) + result.unfinished


def test_undo_splits_bar_before_a_split_trades_at_the_old_price() -> None:
    days = [datetime(2020, 8, day, tzinfo=UTC) for day in (28, 31)]
    rows = pl.DataFrame({"bar_start": days, **dict.fromkeys(("open", "high", "low", "close"), 125.0), "volume": 400.0})
    splits = pl.DataFrame({"at": [days[1]], "ratio": [4.0]})
    undone = undo_splits(rows, splits)
    assert undone["close"].to_list() == [500.0, 125.0]
    assert undone["volume"].to_list() == [100.0, 400.0]


@pytest.mark.parametrize(
    ("interval", "first_new"),
    [("1m", datetime(2024, 6, 9, 14, tzinfo=UTC)), ("1d", datetime(2024, 6, 10, tzinfo=UTC))],
)
def test_split_table_starts_at_midnight_of_the_exchange(interval: Any, first_new: datetime) -> None:
    import pandas as pd

    days = pd.DatetimeIndex(["2024-06-07", "2024-06-10"], tz="Australia/Sydney")
    assert _split_table(pd.Series([0.0, 4.0], index=days), interval).rows() == [(first_new, 4.0)]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("HTTP Error 404: Not Found", "unknown_symbol"),
        ("no route to https://yahoo/chart/AAPL?period1=1404914040", "unreachable"),
        ("HTTP Error 429: Too Many Requests", "rate_limited"),
    ],
)
def test_failure_matches_the_status_and_no_other_digits(cache_folder: Path, text: str, outcome: str) -> None:
    assert YahooClient(cache_folder).failure("AAPL", ConnectionError(text)).outcome == outcome


def test_widen_to_rounding_corrects_the_last_bit_only() -> None:
    above = float(np.nextafter(10.0, 11.0))
    rows = pl.DataFrame({"open": [10.5, 10.5], "high": [10.5, 10.5], "low": [above, 10.1], "close": [10.0, 10.0]})
    assert widen_to_rounding(rows)["low"].to_list() == [10.0, 10.1]


@pytest.mark.parametrize("options", [{"interval": "4h"}, {"end": date(2024, 10, 2)}])
def test_fetch_bars_with_invalid_arguments_raises(cache_folder, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        fetch(cache_folder, ["AAPL"], **options)
