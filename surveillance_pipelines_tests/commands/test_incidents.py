"""``surveillance incidents``: list, show and decide about incidents from the database."""

import json
from dataclasses import replace
from datetime import UTC
from typing import Any

import polars as pl
import pytest

from surveillance_pipelines.batch.scoring import SCORES_SCHEMA, DayScores
from surveillance_pipelines.batch.storage import store_scores
from surveillance_pipelines.clock import to_us
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.contracts.outputs import Anomaly
from surveillance_pipelines.engine.incidents import gap_of, incidents_of
from surveillance_pipelines.market.data_incidents import DataIncident
from surveillance_pipelines.services.incidents import IncidentFilter, bars_around, find_incident, list_incidents
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.stores.check_queries import alerts_without_incident
from surveillance_pipelines.stores.data_incidents import save_data_incidents
from surveillance_pipelines_tests.commands.test_alerts import anomaly
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, stream
from surveillance_pipelines_tests.live_lane_fixtures import LiveLane


def store(platform: Platform, *rows: Anomaly, without_incidents: bool = False) -> None:
    incidents = [] if without_incidents else incidents_of(rows, gap_of(None))
    with platform.connect() as connection:
        store_scores(connection, DayScores(list(rows), incidents, [], SCORES_SCHEMA.to_frame()))


@pytest.fixture
def stored(platform: Platform) -> Platform:
    """Three incidents of two days: an early one of two alerts, one of a coin, and a high one of the next day."""
    store(
        platform,
        replace(anomaly("AAPL", 1, "volume_spike", score=0.75), price=100.0),
        replace(anomaly("AAPL", 6, "ramping", score=0.6), price=102.0),
    )
    store(
        platform, anomaly("SHIB-USD", 3, "volume_spike", score=0.6, explanation={"outside_training": {"symbol": "S"}})
    )
    store(platform, anomaly("AAPL", 3 + 1440, "ramping", score=0.95))
    return platform


def listed(answer: Any) -> list[dict[str, Any]]:
    assert answer.exit_code == 0, answer.output
    return [json.loads(line) for line in answer.output.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [("AAPL", "high"), ("SHIB-USD", "low"), ("AAPL", "medium")]),
        (("--min-severity", "medium"), [("AAPL", "high"), ("AAPL", "medium")]),
        (("--symbols", "SHIB-USD"), [("SHIB-USD", "low")]),
        (("--day", "2024-03-05"), [("SHIB-USD", "low"), ("AAPL", "medium")]),
        (("--status", "opened"), []),
        (("--limit", "1"), [("AAPL", "high")]),
    ],
)
def test_incidents_are_listed_newest_first_and_filtered(stored, surveillance, options, expected):
    rows = listed(surveillance("incidents", "--json", *options))
    assert [(row["symbol"], row["severity"]) for row in rows] == expected


def test_list_shows_one_row_per_incident_with_its_extent(stored, surveillance):
    row = listed(surveillance("incidents", "--json", "--symbols", "AAPL", "--day", "2024-03-05"))[0]
    assert (row["alerts"], row["kinds"], row["kind"]) == (2, {"volume_spike": 1, "ramping": 1}, "volume_spike")
    assert (row["first_bar_start"], row["last_bar_start"]) == (
        "2024-03-05T14:31:00.000000Z",
        "2024-03-05T14:36:00.000000Z",
    )
    shown = surveillance("incidents").output
    assert "+2.00%" in shown
    assert "3 incidents" in shown


def test_show_tells_what_happened_and_the_outcome_of_similar_incidents(stored, surveillance):
    rows = listed(surveillance("incidents", "--json"))
    early = next(row for row in rows if row["severity"] == "medium")
    answer = surveillance(
        "incidents", "decide", early["incident_id"][:10], "explained", "--by", "ann", "--note", "earnings"
    )
    assert answer.exit_code == 0, answer.output
    coin = next(row for row in rows if row["symbol"] == "SHIB-USD")
    shown = " ".join(surveillance("incidents", "show", coin["incident_id"]).output.split())
    assert "outside: the models were not trained on symbol S" in shown
    later = find_incident(stored, rows[0]["incident_id"])
    assert later.similar == [], "the earlier incident has another main kind"
    again = find_incident(stored, coin["incident_id"])
    assert [(each["disposition"], each["note"]) for each in again.similar] == [("explained", "earnings")]
    decided = find_incident(stored, early["incident_id"])
    assert decided.sentence.startswith(
        "AAPL, 2024-03-05 14:31 to 14:36 UTC: ramping (1), volume_spike (1); the price went"
    )
    assert [row["decided_by"] for row in decided.dispositions] == ["ann"]
    assert (
        listed(surveillance("incidents", "--json", "--undecided", "--min-severity", "medium"))[0]["severity"] == "high"
    )


@pytest.mark.parametrize(("id_", "says"), [("abc", "at least 6"), ("f" * 64, "matches none")])
def test_show_of_what_is_no_id_says_where_ids_are(stored, surveillance, id_, says):
    answer = surveillance("incidents", "show", id_)
    assert answer.exit_code == ExitCode.USAGE
    assert says in " ".join(answer.output.split())
    assert "surveillance incidents" in answer.output


def test_incidents_of_an_empty_home_say_so(platform, surveillance):
    assert "no incidents yet" in surveillance("incidents").output


def test_alert_without_an_incident_is_counted(stored):
    with stored.connect() as connection:
        assert alerts_without_incident(connection, days=7) == (4, 0)
    store(stored, anomaly("MSFT", 500, "price_gap"), without_incidents=True)
    with stored.connect() as connection:
        assert alerts_without_incident(connection, days=7) == (5, 1)


def test_live_lane_writes_incidents_of_its_alerts_and_their_bars_can_be_drawn(live_lane: LiveLane, platform: Platform):
    live_lane.send(stream(120))
    live_lane.drain(window_seconds=30)
    with live_lane.connect() as connection:
        alerts, alone = alerts_without_incident(connection, days=7)
        statuses = connection.execute(
            "SELECT incident_status, count(*) FROM surveillance.incidents GROUP BY 1 ORDER BY 1"
        ).fetchall()
        first = connection.execute("SELECT incident_id FROM surveillance.incidents LIMIT 1").fetchone()
    assert alerts > 0
    assert alone == 0
    assert dict(statuses)["confirmed"] == dict(statuses)["closed"] > 0
    assert first is not None
    row = find_incident(platform, first[0]).row
    bars = bars_around(platform, row)
    assert bars.filter(pl.col("bar_start") == row["first_bar_start"]).height == 1
    assert OPEN % MINUTE == 0


@pytest.fixture
def with_split(stored: Platform) -> Platform:
    """The incidents of ``stored``, and a possible split with which the first of them begins."""
    first = find_incident(stored, listed_ids(stored)[-1]).row["first_bar_start"]
    minute, day = to_us(first), first.astimezone(UTC).date()
    split = DataIncident("possible_split", "XNYS", "AAPL", day, minute, minute, 1, minute, "AAPL: a ratio of 2:1")
    silence = DataIncident(
        "feed_silence", "XNYS", "", day, minute, minute + 4 * MINUTE, 5, minute, "nothing for 5 minutes"
    )
    with stored.connect() as connection:
        assert save_data_incidents(connection, [split, silence], found_by="bars", at=minute) == 2
        assert save_data_incidents(connection, [split, silence], found_by="live", at=minute) == 0
    return stored


def listed_ids(platform: Platform) -> list[str]:
    return [row.incident_id for row in list_incidents(platform, IncidentFilter(symbols=("AAPL",)), 10).incidents]


def test_data_incidents_are_listed_apart_from_incidents_of_the_market(with_split, surveillance):
    assert {row["kind"] for row in listed(surveillance("incidents", "--json"))} == {"volume_spike", "ramping"}
    found = listed(surveillance("incidents", "--data", "--json"))
    assert [(row["kind"], row["symbol"], row["minutes"]) for row in found] == [
        ("feed_silence", "", 5),
        ("possible_split", "AAPL", 1),
    ]
    shown = surveillance("incidents", "--data").output
    assert "all of XNYS" in shown
    assert "2 data incidents" in shown
    assert "expected no --undecided" in surveillance("incidents", "--data", "--undecided").output.replace("\n", " ")


def test_incident_that_begins_with_a_possible_split_says_that_it_is_no_price_gap(with_split, surveillance):
    early, *_ = reversed(listed_ids(with_split))
    assert "AAPL: a ratio of 2:1" in surveillance("incidents", "show", early).output
    later, *_ = listed_ids(with_split)
    assert "data incident" not in surveillance("incidents", "show", later).output


def test_data_incidents_of_an_empty_home_say_so(platform, surveillance):
    assert "no data incident is known" in surveillance("incidents", "--data").output
