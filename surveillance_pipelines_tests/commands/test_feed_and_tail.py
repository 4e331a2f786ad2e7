import json
from datetime import UTC, datetime

import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock, now, to_datetime, to_us
from surveillance_pipelines.commands import tail
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.market.bars_to_ticks import ticks_from_bars
from surveillance_pipelines.market.messages import decode_tick
from surveillance_pipelines.services.feeding import send_ticks
from surveillance_pipelines.transports.queue_routing import queue_for_symbol
from surveillance_pipelines_tests.market.markets import market_bars, minute


@pytest.fixture
def ticks() -> pl.DataFrame:
    bars = market_bars().filter(pl.col("bar_start") < minute(14, 35))
    return ticks_from_bars(bars, 4, seed=1)


def drain(queue) -> list:
    taken = []
    while batch := queue.receive(10, wait_seconds=0, visibility_seconds=60):
        taken += batch
        queue.delete([received.receipt_handle for received in batch])
    return taken


def test_feed_file_of_bars_puts_its_ticks_on_the_queue(surveillance, platform, tmp_path) -> None:
    bars = market_bars().filter(pl.col("bar_start") < minute(14, 35))
    bars.select("symbol", "bar_start", "open", "high", "low", "close", "volume").write_parquet(
        tmp_path / "bars.parquet"
    )
    answer = surveillance("feed", tmp_path / "bars.parquet", "--symbols", "AAPL,SPY")
    assert answer.exit_code == 0, answer.output
    taken = drain(platform.queue(platform.endpoints.queue_urls[0]))
    decoded = [decode_tick(received.body, sent_at=received.sent_at) for received in taken]
    assert all(isinstance(tick, Tick) for tick in decoded)
    assert len(taken) == 4 * bars.filter(pl.col("symbol").is_in(["AAPL", "SPY"])).height
    assert {received.group_id for received in taken} == {"AAPL", "SPY"}


def test_feed_of_no_matching_day_says_what_there_is(surveillance, tmp_path) -> None:
    market_bars().head(20).select("symbol", "bar_start", "open", "high", "low", "close", "volume").write_csv(
        tmp_path / "b.csv"
    )
    answer = surveillance("feed", tmp_path / "b.csv", "--day", "2020-01-01")
    assert answer.exit_code == ExitCode.USAGE
    assert "2024-03-06" in answer.output


@pytest.mark.parametrize("speed", ["0", "-3", "fast"])
def test_feed_speed_that_is_no_speed_is_a_usage_error(surveillance, speed: str) -> None:
    assert surveillance("feed", "simulated", "--speed", speed).exit_code == ExitCode.USAGE


def test_send_ticks_twice_keeps_one_copy_and_another_feed_id_makes_new_ones(platform, ticks) -> None:
    queue = platform.queue(platform.endpoints.queue_urls[0])
    for _ in range(2):
        assert send_ticks(ticks, [queue], speed=None, clock=platform.clock) == ticks.height
    assert len(drain(queue)) == ticks.height
    send_ticks(ticks, [queue], speed=None, clock=platform.clock, feed_id="again")
    assert len(drain(queue)) == ticks.height


def test_send_ticks_to_two_queues_keeps_a_symbol_in_its_own_and_in_order(platform, ticks, make_queue) -> None:
    urls = [make_queue().url, make_queue().url]
    queues = [platform.queue(url) for url in urls]
    send_ticks(ticks, queues, speed=None, clock=platform.clock)
    for queue in queues:
        taken = drain(queue)
        assert {queue_for_symbol(received.group_id, urls) for received in taken} <= {queue.queue_url}
        by_symbol: dict[str, list[str]] = {}
        for received in taken:
            by_symbol.setdefault(received.group_id, []).append(json.loads(received.body)["timestamp"])
        assert all(times == sorted(times) for times in by_symbol.values())


def test_send_ticks_at_a_speed_follows_the_event_times(platform, ticks) -> None:
    clock = ManualClock(to_datetime(0))
    queue = platform.queue(platform.endpoints.queue_urls[0])
    send_ticks(ticks, [queue], speed=10.0, clock=clock)
    span = to_us(ticks["event_time"].max()) - to_us(ticks["event_time"].min())  # pyright: ignore[reportArgumentType]
    assert clock.now_us() == pytest.approx(span / 10.0, abs=500_000)


def serve_bars(platform, *bars: tuple[str, datetime]) -> None:
    """Put bars where the live lane puts those that it closed."""
    with platform.connect() as connection:
        for symbol, start in bars:
            connection.execute(
                "INSERT INTO ops.live_bars VALUES (%(symbol)s, %(start)s, 0, 50, 51, 49, 50, 10, 4, %(start)s,"
                " %(start)s, 'final', %(start)s, 'm', 0, 0, 'sqs', %(queue)s, 'run', %(start)s)",
                {"symbol": symbol, "start": start, "queue": platform.endpoints.queue_urls[0]},
            )


def test_feed_simulated_takes_the_session_after_the_last_one_served(surveillance, platform) -> None:
    serve_bars(platform, ("AAPL", datetime(2024, 3, 8, 20, 59, tzinfo=UTC)), ("AAPL", minute(14, 30)))
    answer = surveillance("feed", "simulated", "--symbols", "AAPL,SPY")
    assert answer.exit_code == 0, answer.output
    assert "served up to" not in answer.output
    taken = [json.loads(received.body) for received in drain(platform.queue(platform.endpoints.queue_urls[0]))]
    assert {body["timestamp"][:10] for body in taken} == {"2024-03-11"}
    first = next(body for body in taken if body["symbol"] == "AAPL")
    assert first["price"] == pytest.approx(50.0, rel=0.1)  # goes on from the last close


def test_feed_simulated_when_the_next_session_is_not_over_says_so_and_sends_nothing(surveillance, platform) -> None:
    serve_bars(platform, ("AAPL", now(platform.clock)))
    answer = surveillance("feed", "simulated", "--symbols", "AAPL")
    assert answer.exit_code == ExitCode.USAGE
    assert "--home" in answer.output
    assert platform.queue(platform.endpoints.queue_urls[0]).depth().total == 0


def test_feed_of_ticks_older_than_what_was_served_warns_before_sending(surveillance, platform, tmp_path) -> None:
    serve_bars(platform, ("AAPL", minute(14, 34)), ("SPY", minute(14, 34)), ("MSFT", minute(14, 29)))
    bars = market_bars().filter(pl.col("bar_start") < minute(14, 35))
    bars.select("symbol", "bar_start", "open", "high", "low", "close", "volume").write_csv(tmp_path / "b.csv")
    said = " ".join(surveillance("feed", tmp_path / "b.csv").output.split())
    assert "AAPL, SPY: already served up to 2024-03-06 14:34; older ticks are recorded as late" in said
    assert said.index("served up to") < said.index("sent ")
    serve_bars(platform, ("NVDA", minute(14, 20)))
    again = surveillance("feed", tmp_path / "b.csv", "--symbols", "NVDA,MSFT")
    assert "served up to" not in again.output


def put_alerts(platform, count: int) -> None:
    queue = platform.queue(platform.endpoints.output_queue_url)
    body = {"type": "anomaly", "symbol": "AAPL", "kind": "price_gap", "bar_start": "2024-03-06T14:30:00Z", "score": 0.9}
    queue.send([SendEntry(json.dumps({**body, "id": str(place)}), "AAPL", str(place)) for place in range(count)])


def test_tail_json_prints_messages_and_takes_them(surveillance, platform) -> None:
    put_alerts(platform, 3)
    answer = surveillance("tail", "--json", "--timeout", "2")
    assert [json.loads(line)["id"] for line in answer.stdout.splitlines()] == ["0", "1", "2"]
    assert "other consumers do not receive them" in " ".join(answer.stderr.split())
    assert platform.queue(platform.endpoints.output_queue_url).depth().total == 0


@pytest.mark.parametrize("body", ["not json", "[1]", "7", "{}", '{"type": ["a"]}', '{"type": "signal", "price": "x"}'])
def test_tail_shows_a_message_that_the_platform_has_not_written(surveillance, platform, body: str) -> None:
    queue = platform.queue(platform.endpoints.output_queue_url)
    queue.send([SendEntry(body, "A", "foreign")])
    put_alerts(platform, 1)
    answer = surveillance("tail", "--count", "2", "--timeout", "20")
    assert answer.exit_code == 0, answer.output
    assert ("foreign" in answer.stdout) == ("signal" not in body)
    assert answer.stdout.splitlines()[-1] == "2 messages"


def test_tail_peek_leaves_messages_for_their_consumer(surveillance, platform) -> None:
    put_alerts(platform, 3)
    answer = surveillance("tail", "--peek", "--count", "3")
    assert answer.stdout.count("price_gap") == 3
    assert answer.stdout.startswith("bar  symbol  type")
    assert answer.stdout.splitlines()[-1] == "3 messages"
    assert len(drain(platform.queue(platform.endpoints.output_queue_url))) == 3


def test_tail_peek_ends_before_a_message_comes_again(surveillance, platform, monkeypatch) -> None:
    monkeypatch.setattr(tail, "_PEEK_SECONDS", 2.5)
    monkeypatch.setattr(tail, "_HIDDEN_SECONDS", 5)
    put_alerts(platform, 1)
    answer = surveillance("tail", "--peek", "--timeout", "8")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.count("price_gap") == 1
    (left,) = drain(platform.queue(platform.endpoints.output_queue_url))
    assert left.receive_count == 2
