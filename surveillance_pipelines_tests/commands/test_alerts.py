"""``surveillance alerts``: list, filter and explain alerts from the database."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surveillance_pipelines.batch.scoring import SCORES_SCHEMA, DayScores
from surveillance_pipelines.batch.storage import store_scores
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.contracts.outputs import Anomaly
from surveillance_pipelines.engine.scoring_rows import Candidate, anomaly_row
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.services import alerts as alerts_service
from surveillance_pipelines.services.alerts import explanation_tables
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, stream
from surveillance_pipelines_tests.engine.test_engine import make_config
from surveillance_pipelines_tests.live_lane_fixtures import LiveLane
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle


def anomaly(symbol: str, minute: int, kind: str, status: Any = "confirmed", **changes: Any) -> Anomaly:
    """Return a row of an alert of the session's minute; ``opened`` is scored on the bar in progress."""
    values = np.zeros(len(CORE_V1.columns))
    start, provisional = OPEN + minute * MINUTE, status == "opened"
    bar = Candidate(
        symbol=symbol, bar_start=start, bar_status="provisional" if provisional else "final",
        event_time=start + (MINUTE // 2 if provisional else MINUTE - 1), knowledge_time=start + MINUTE, source="file",
        source_message_id=None, price=1.52e-06 if symbol == "SHIB-USD" else 100.0, volume=7.0, features=values,
        trigger_message_id="m1" if provisional else None,
    )  # fmt: skip
    row = anomaly_row(make_config().rows, bar, WarmupRules().predict(values[np.newaxis, :]), 0, kind=kind,
                      status=status)  # fmt: skip
    return replace(row, **changes)


def store(platform: Platform, *rows: Anomaly) -> list[str]:
    with platform.connect() as connection:
        store_scores(connection, DayScores(list(rows), [], [], SCORES_SCHEMA.to_frame()))
    return [row.id for row in rows]


@pytest.fixture
def stored(platform: Platform) -> list[str]:
    """Four alerts: one opened and confirmed, one opened and retracted, one confirmed at once, one of the next day."""
    return store(
        platform,
        anomaly("AAPL", 1, "volume_spike", "opened", score=0.6),
        anomaly("AAPL", 1, "volume_spike", score=0.9),
        anomaly("MSFT", 2, "price_gap", "opened", score=0.7),
        anomaly("MSFT", 2, "price_gap", "retracted", score=0.2),
        anomaly("SHIB-USD", 3, "volume_spike", score=0.8, explanation={"outside_training": {"calendar": "24/7"}}),
        anomaly("AAPL", 3 + 1440, "ramping", score=0.75),
        anomaly("AAPL", 4, "ramping", score=0.99, tenant="another"),
    )


def listed(answer: Any) -> list[tuple[str, str, str]]:
    assert answer.exit_code == 0, answer.output
    rows = [json.loads(line) for line in answer.output.splitlines()]
    return [(row["symbol"], row["kind"], row["alert_status"]) for row in rows]


SPIKE, GAP = ("AAPL", "volume_spike", "confirmed"), ("MSFT", "price_gap", "retracted")
COIN, LATE = ("SHIB-USD", "volume_spike", "confirmed"), ("AAPL", "ramping", "confirmed")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [LATE, COIN, GAP, SPIKE]),
        (("--symbols", "aapl,MSFT"), [LATE, GAP, SPIKE]),
        (("--kind", "volume_spike"), [COIN, SPIKE]),
        (("--status", "retracted"), [GAP]),
        (("--status", "opened"), []),
        (("--day", "2024-03-05"), [COIN, GAP, SPIKE]),
        (("--since", "2024-03-06"), [LATE]),
        (("--until", "2024-03-05"), [COIN, GAP, SPIKE]),
        (("--since", "2024-03-05", "--until", "2024-03-06"), [LATE, COIN, GAP, SPIKE]),
        (("--min-score", "0.8"), [COIN, SPIKE]),
        (("--limit", "2"), [LATE, COIN]),
        (("--symbols", "AAPL", "--kind", "volume_spike", "--min-score", "0.9"), [SPIKE]),
    ],
)
def test_alerts_are_listed_newest_first_once_each_and_filtered(surveillance, stored, options, expected) -> None:
    assert listed(surveillance("alerts", *options, "--json")) == expected


def test_alerts_table_shows_ids_small_prices_and_how_many_there_are(surveillance, stored) -> None:
    said = surveillance("alerts", "--limit", "3").output
    assert "newest 3 of 4 alerts" in said
    assert "0.00000152" in said
    assert said.count("│ outside") == 1
    assert [stored[index][:12] in said for index in (5, 4, 3, 1)] == [True, True, True, False]


def test_alerts_without_any_says_how_to_get_some(surveillance, bare, platform) -> None:
    answer = surveillance("alerts")
    assert answer.exit_code == 0
    assert "no alerts yet" in answer.output
    assert "surveillance backfill FIRST LAST --job scoring_job" in answer.output
    assert surveillance("alerts", "--json").output == ""


def test_alerts_of_an_untouched_home_starts_no_service(bare, own_folder) -> None:
    answer = bare("alerts")
    assert answer.exit_code == 0
    assert "no alerts yet" in answer.output
    assert bare("alerts", "show", "abcdef12").exit_code == ExitCode.USAGE
    assert not (own_folder / "home").exists()


def test_alerts_that_match_no_filter_says_what_exists(surveillance, stored) -> None:
    said = " ".join(surveillance("alerts", "--symbols", "TSLA").output.split())
    assert "no alert matches the filter. There are 4 alerts" in said
    assert "2024-03-05 14:31 to 2024-03-06 14:33" in said
    assert "AAPL, MSFT, SHIB-USD" in said
    assert "price_gap, ramping, volume_spike" in said


@pytest.mark.parametrize(
    "options",
    [("--day", "2024-03-05", "--since", "2024-03-05"), ("--since", "2024-03-06", "--until", "2024-03-05"),
     ("--status", "closed"), ("--min-score", "2"), ("--day", "5.3.2024")],
)  # fmt: skip
def test_alerts_with_contradicting_or_invalid_options_is_refused(surveillance, options) -> None:
    assert surveillance("alerts", *options).exit_code == ExitCode.USAGE


def test_show_explains_the_row_and_lists_the_rows_of_the_alert(surveillance, stored) -> None:
    opened, confirmed = stored[:2]
    answer = surveillance("alerts", "show", confirmed[:10])
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    assert "alert: volume_spike in AAPL, bar of 2024-03-05 14:31" in said
    assert "0.9, reaches the threshold 0.5" in said
    assert "the warm-up rules" in said
    assert "rules" in said
    assert f"`surveillance replay {confirmed}`" in said
    rows = [line for line in answer.output.splitlines() if opened[:12] in line or f" {confirmed[:12]} " in line]
    assert [("opened" in line, "confirmed" in line, "→" in line) for line in rows] == [
        (True, False, False), (False, True, True),
    ]  # fmt: skip
    assert f"surveillance replay {opened}" in " ".join(surveillance("alerts", "show", opened).output.split())


def test_show_of_the_id_of_an_alert_explains_its_current_row(surveillance, stored) -> None:
    whole = json.loads(surveillance("alerts", "--symbols", "MSFT", "--json").output)
    said = " ".join(surveillance("alerts", "show", whole["alert_id"]).output.split())
    assert "0.2, is below the threshold 0.5" in said
    assert f"surveillance replay {stored[3]}" in said


@pytest.mark.parametrize(
    ("id_", "reason"),
    [("abc", "at least 6"), ("not-an-id", "at least 6"), ("f" * 64, "matches none"), ("f" * 65, "at least 6")],
)
def test_show_of_what_is_no_id_says_where_ids_are(surveillance, stored, id_, reason) -> None:
    answer = surveillance("alerts", "show", id_)
    assert answer.exit_code == ExitCode.USAGE
    assert reason in answer.output
    assert "surveillance alerts" in answer.output


def test_show_of_an_ambiguous_prefix_asks_for_more_of_it(surveillance, platform) -> None:
    store(platform, anomaly("AAPL", 1, "ramping", id="abcdef1" + "0" * 57),
          anomaly("AAPL", 2, "ramping", id="abcdef2" + "0" * 57))  # fmt: skip
    answer = surveillance("alerts", "show", "abcdef")
    assert answer.exit_code == ExitCode.USAGE
    assert "matches 2 alerts" in answer.output
    assert surveillance("alerts", "show", "abcdef2").exit_code == 0


def test_alerts_of_the_live_lane_are_shown_with_bar_and_model_and_stay_on_the_queue(
    surveillance, live_lane: LiveLane, platform: Platform
) -> None:
    path = live_lane.settings.models_path / "v1"
    bundle_hash = build_tiny_bundle(path)
    live_lane.promote(bundle_hash, path)
    live_lane.send(stream(90))
    live_lane.drain(window_seconds=30)
    waiting = platform.queue(platform.endpoints.output_queue_url).depth().visible
    newest = json.loads(surveillance("alerts", "--limit", "1", "--json").output)
    answer = surveillance("alerts", "show", newest["id"])
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    (bar,) = live_lane.query(
        "SELECT open, volume FROM ops.live_bars WHERE symbol = %s AND bar_start = %s AND revision = 0",
        newest["symbol"], newest["bar_start"],
    )  # fmt: skip
    assert f"open {bar[0]:,.4f}".rstrip("0") in said
    assert f"volume {bar[1]:,.0f} (source sqs)" in said
    assert f"v1, bundle {bundle_hash}" in said
    assert "the models were trained on this symbol, calendar and asset class" in said
    assert re.search(r"tail_detector │ +[0-9.]+", answer.output)
    assert re.search(r"reconstruction_error │ +[0-9.]+", answer.output)
    assert "they add up to the score" in said
    assert "would not alert with" in said
    assert platform.queue(platform.endpoints.output_queue_url).depth().visible == waiting > 0
    replayed = surveillance("replay", newest["id"])
    assert replayed.exit_code == 0, replayed.output
    assert "1 equal" in replayed.output


def test_alerts_beyond_the_limit_of_counting_are_listed_without_a_total(
    surveillance, stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_service, "MAX_COUNT", 3)
    assert "newest 2 of more than 3 alerts" in surveillance("alerts", "--limit", "2").output


def test_contributions_and_the_change_are_tables_with_the_meaning_of_each_feature() -> None:
    told = {
        "contributions": [{"name": "volume_ratio", "value": 14.0, "expected": 1.1, "contribution": 0.7}],
        "would_not_alert_if": [{"name": "volume_ratio", "value": 14.0, "instead": 4.2}],
    }
    _, (contributions, changes) = explanation_tables(told, "core_v2", warmup=False)
    meaning = "volume / mean volume of the 20 bars with volume before"
    assert contributions.columns[1:4] == contributions.numbers == ("value", "expected", "contribution")
    assert contributions.rows == [("volume_ratio", 14.0, 1.1, 0.7, meaning)]
    assert changes.numbers == ("value", "instead")
    assert changes.rows == [("volume_ratio", 14.0, 4.2, meaning)]


def test_alert_for_which_no_change_was_found_says_so() -> None:
    _, (table,) = explanation_tables({"would_not_alert_if": None}, "core_v2", warmup=False)
    assert table.rows == [("change that would have prevented the alert", "none found")]


def test_kinds_are_listed_with_the_most_likely_first() -> None:
    kinds = {"ramping": 0.1, "marking_the_close": 0.7, "normal": 0.2}
    _, (table,) = explanation_tables({"kinds": kinds}, "core_v2", warmup=False)
    assert [row[0] for row in table.rows] == ["marking_the_close", "normal", "ramping"]
