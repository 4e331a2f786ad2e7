import polars as pl

from surveillance_pipelines.clock import to_iso, to_us
from surveillance_pipelines.services.demo_matching import ECHO_MINUTES, SLACK_BARS, Alert, alerts_of, compare
from surveillance_pipelines.training.injection import PLAN_SCHEMA
from surveillance_pipelines_tests.market.markets import minute

START = to_us(minute(15, 0))
MINUTE = 60_000_000


def message(status: str, *, alert: str = "a", bar: int = 0, kind: str = "price_gap", score: float = 0.8) -> dict:
    return {
        "type": "anomaly", "alert_id": alert, "symbol": "AAPL", "bar_start": to_iso(START + bar * MINUTE), "kind": kind,
        "alert_status": status, "score": score,
    }  # fmt: skip


def planted(bars: int = 2) -> pl.DataFrame:
    rows = [("p", "AAPL", minute(15, 0), "price_gap", 9.0, bars)]
    return pl.DataFrame(rows, schema=PLAN_SCHEMA, orient="row")


def test_alerts_of_takes_the_last_word_and_leaves_out_the_retracted() -> None:
    said = [message("opened"), message("confirmed"), message("opened", alert="b"), message("retracted", alert="b")]
    assert [(alert.kind, alert.status) for alert in alerts_of(said)] == [("price_gap", "confirmed")]


def test_alerts_of_repeated_opening_after_the_confirmation_changes_nothing() -> None:
    said = [message("opened"), message("confirmed"), message("opened")]
    assert [alert.status for alert in alerts_of(said)] == ["confirmed"]


def test_alerts_of_signals_are_no_alerts() -> None:
    assert alerts_of([{"type": "signal"}]) == []


def test_compare_alert_on_the_bars_or_shortly_after_is_a_hit() -> None:
    late = Alert("AAPL", START + (1 + SLACK_BARS) * MINUTE, "ramping", "confirmed", 0.7)
    match = compare(planted(), [late]).matches[0]
    assert (match.found, match.delay_bars, match.detected_kind, match.score) == (True, 1 + SLACK_BARS, "ramping", 0.7)
    assert compare(planted(), [late]).false_alerts == ()


def test_compare_prefers_the_alert_of_the_planted_kind() -> None:
    alerts = [
        Alert("AAPL", START, "ramping", "confirmed", 0.9),
        Alert("AAPL", START + MINUTE, "price_gap", "confirmed", 0.6),
    ]
    match = compare(planted(), alerts).matches[0]
    assert (match.detected_kind, match.delay_bars) == ("price_gap", 0)


def test_compare_alert_too_late_or_of_another_symbol_is_false() -> None:
    alerts = [
        Alert("AAPL", START + (2 + SLACK_BARS) * MINUTE, "price_gap", "confirmed", 0.9),
        Alert("MSFT", START, "price_gap", "confirmed", 0.9),
    ]
    comparison = compare(planted(), alerts)
    assert comparison.found == 0
    assert set(comparison.false_alerts) == set(alerts)


def test_comparison_bar_within_an_hour_after_a_planted_anomaly_is_an_echo() -> None:
    comparison = compare(planted(bars=2), [])
    assert comparison.is_echo("AAPL", START + (ECHO_MINUTES + 1) * MINUTE)
    assert not comparison.is_echo("AAPL", START + (ECHO_MINUTES + 2) * MINUTE)
    assert not comparison.is_echo("AAPL", START - MINUTE)
    assert not comparison.is_echo("MSFT", START)
