import json
import random
from typing import Any

import pytest

from surveillance_pipelines.clock import DAY_US, MICROSECONDS
from surveillance_pipelines.contracts.outputs import Anomaly, alert_id, row_id
from surveillance_pipelines.engine.alerts import OpenAlerts
from surveillance_pipelines.engine.incidents import (
    EARLY_SCORE,
    KEPT_ALERT_IDS,
    LONG_ALERTS,
    OUTSIDE_TRAINING,
    Incidents,
    dump_incident,
    gap_of,
    incidents_of,
    load_incident,
    severity_of,
)
from surveillance_pipelines.hashing import canonical_json

MINUTE = 60 * MICROSECONDS
START = 20_000 * DAY_US + 14 * 60 * MINUTE
GAP = gap_of(None)


def alert(
    minute=0, *, status="confirmed", kind="price_gap", score=0.8, bundle="b", message=None, start=START, **changes
):
    bar_start = start + minute * MINUTE
    provisional = status == "opened"
    common = {
        "tenant": "default", "strategy": "surveillance", "symbol": "AAPL", "timeframe": "1m", "bar_start": bar_start,
    }  # fmt: skip
    id_ = row_id(
        "anomaly", kind=kind, **common, revision=0, bar_status="provisional" if provisional else "final",
        trigger_message_id=message or "m" if provisional else None, feature_view="core_v2", bundle_hash=bundle,
        config_hash="c",
    )  # fmt: skip
    values = {
        "id": id_, "event_time": bar_start + 30 * MICROSECONDS, "knowledge_time": bar_start + 31 * MICROSECONDS,
        "source": "sqs", "source_message_id": "m", "revision": 0,
        "bar_status": "provisional" if provisional else "final", "input_hash": "i", "feature_view": "core_v2",
        "bundle_hash": bundle, "code_version": "1", "config_hash": "c", "runtime_hash": "r", "score": score,
        "threshold": 0.5, "kind": kind, "confidence": 0.5, "risk_score": score * 0.5,
        "explanation": {"summary": f"{kind} {minute}", "detectors": {}}, "correlation_id": message or "m",
        "alert_status": status, "alert_id": alert_id(**{k: v for k, v in common.items() if k != "strategy"}, kind=kind),
        "price": 100.0 + minute, "volume": 10.0,
    }  # fmt: skip
    return Anomaly(**common, **{**values, **changes})


def steps(incidents, *bars):
    """Return the statuses after bars, each (minute, status of the bar, alerts)."""
    rows = []
    for minute, bar_status, alerts in bars:
        rows += incidents.on_bar(START + minute * MINUTE, bar_status, "b", alerts, gap=GAP)
    return rows


def test_incidents_alerts_within_the_gap_form_one_incident_that_closes_after_it():
    rows = steps(
        Incidents(),
        (0, "final", [alert(0)]),
        (1, "final", []),
        (14, "final", [alert(14, kind="ramping", score=0.6)]),
        (29, "final", []),
        (30, "final", []),
    )
    assert [row.incident_status for row in rows] == ["confirmed", "closed"]
    closed = rows[-1]
    assert {row.incident_id for row in rows} == {closed.incident_id}
    assert (closed.first_bar_start, closed.last_bar_start) == (START, START + 14 * MINUTE)
    assert (closed.alerts, closed.kinds) == (2, {"price_gap": 1, "ramping": 1})
    assert (closed.kind, closed.score, closed.first_price, closed.price) == ("price_gap", 0.8, 100.0, 114.0)
    assert closed.explanation == {"summary": "price_gap 0"}
    assert closed.bar_start == closed.last_bar_start, "a closing row belongs to the bar of the last alert"


def test_incidents_alert_after_the_gap_begins_another_incident():
    rows = steps(Incidents(), (0, "final", [alert(0)]), (16, "final", [alert(16)]))
    assert [row.incident_status for row in rows] == ["confirmed", "closed", "confirmed"]
    assert rows[0].incident_id == rows[1].incident_id != rows[2].incident_id


@pytest.mark.parametrize(("minute", "changes"), [(10 * 60, {}), (1, {"bundle": "other"})])
def test_incidents_never_span_two_days_or_two_bundles(minute, changes):
    incidents = Incidents()
    first = incidents.on_bar(START, "final", "b", [alert(0)], gap=DAY_US)
    second = alert(minute, **changes)
    rows = first + incidents.on_bar(second.bar_start, "final", second.bundle_hash, [second], gap=DAY_US)
    assert [row.incident_status for row in rows] == ["confirmed", "closed", "confirmed"]


def test_incidents_strong_alert_on_a_bar_in_progress_opens_and_its_bar_confirms():
    weak, strong = EARLY_SCORE - 0.01, EARLY_SCORE
    rows = steps(
        Incidents(),
        (0, "provisional", [alert(0, status="opened", score=weak, kind="ramping")]),
        (0, "provisional", [alert(0, status="opened", score=strong)]),
        (0, "final", [alert(0), alert(0, status="retracted", kind="ramping")]),
    )
    assert [(row.incident_status, row.bar_status, row.alerts) for row in rows] == [
        ("opened", "provisional", 0),
        ("confirmed", "final", 1),
    ]
    assert rows[0].incident_id == rows[1].incident_id


def test_incidents_bar_that_closes_without_an_alert_retracts_what_it_opened():
    incidents = Incidents()
    rows = steps(
        incidents,
        (0, "provisional", [alert(0, status="opened", score=0.95)]),
        (0, "final", [alert(0, status="retracted", score=0.2)]),
    )
    assert [row.incident_status for row in rows] == ["opened", "retracted"]
    assert (rows[1].score, rows[1].severity) == (0.2, "high")
    assert incidents.open_incident is None


def test_incidents_alert_in_progress_does_not_change_a_confirmed_incident():
    rows = steps(
        Incidents(),
        (0, "final", [alert(0, score=0.6)]),
        (1, "provisional", [alert(1, status="opened", score=0.99)]),
        (1, "final", [alert(1, status="retracted", score=0.1)]),
        (2, "final", [alert(2, score=0.6)]),
    )
    assert [row.incident_status for row in rows] == ["confirmed"]


def test_incidents_rising_severity_updates_and_never_falls():
    rows = steps(
        Incidents(),
        (0, "final", [alert(0, score=0.55)]),
        (1, "final", [alert(1, score=0.95)]),
        (2, "final", [alert(2, score=0.55)]),
        (40, "final", []),
    )
    assert [(row.incident_status, row.severity) for row in rows] == [
        ("confirmed", "low"), ("updated", "high"), ("closed", "high"),
    ]  # fmt: skip


def test_severity_rises_with_the_score_and_the_number_of_alerts():
    assert [severity_of(score, 1) for score in (0.5, 0.69, 0.7, 0.89, 0.9)] == [
        "low",
        "low",
        "medium",
        "medium",
        "high",
    ]
    assert [severity_of(score, LONG_ALERTS) for score in (0.5, 0.7, 0.9)] == ["medium", "high", "high"]


def test_incidents_outside_the_training_data_form_one_incident_per_day():
    outside: dict[str, Any] = {"explanation": {"summary": "s", OUTSIDE_TRAINING: {"calendar": "24/7"}}}
    minutes = (0, 100, 400, 11 * 60)
    rows = incidents_of([alert(minute, **outside) for minute in minutes], GAP)
    assert [(row.incident_status, row.alerts) for row in rows if row.incident_status != "updated"] == [
        ("confirmed", 1), ("closed", 3), ("confirmed", 1), ("closed", 1),
    ]  # fmt: skip
    assert rows[0].explanation[OUTSIDE_TRAINING] == {"calendar": "24/7"}


def test_incidents_ids_of_alerts_are_bounded_and_contain_the_strongest():
    alerts = [alert(minute, score=0.8 if minute != 30 else 0.85) for minute in range(40)]
    closed = incidents_of(alerts, GAP)[-1]
    assert (closed.alerts, len(closed.alert_ids)) == (40, KEPT_ALERT_IDS)
    assert alerts[30].alert_id in closed.alert_ids
    assert closed.score == 0.85


def test_incidents_state_survives_a_snapshot():
    incidents = Incidents()
    incidents.on_bar(START, "final", "b", [alert(0)], gap=GAP)
    known = incidents.open_incident
    assert known is not None
    stored = load_incident(json.loads(canonical_json(dump_incident(known))))
    assert stored == known
    assert Incidents(stored).close() == incidents.close()


@pytest.mark.parametrize("seed", range(30))
def test_incidents_of_closed_bars_equal_the_live_rows_of_closed_bars(seed):
    random_ = random.Random(seed)
    live, open_alerts = Incidents(), OpenAlerts()
    live_rows, confirmed = [], []
    for minute in range(0, 1_300, random_.choice([1, 3])):
        kinds = [random_.choice(["price_gap", "ramping"]) if random_.random() < 0.06 else None for _ in range(3)]
        *early, last = kinds
        for i, kind in enumerate(early):
            events = open_alerts.on_provisional(kind)
            score = random_.uniform(0.5, 1.0)
            rows = [alert(minute, status=e.status, kind=e.kind, score=score, message=f"{i}") for e in events]
            live_rows += live.on_bar(START + minute * MINUTE, "provisional", "b", rows, gap=GAP)
        score = random_.uniform(0.5, 1.0)
        rows = [alert(minute, status=e.status, kind=e.kind, score=score) for e in open_alerts.on_final(last)]
        confirmed += [row for row in rows if row.alert_status == "confirmed"]
        live_rows += live.on_bar(START + minute * MINUTE, "final", "b", rows, gap=GAP)
    live_rows += live.close()
    early_only = {"opened", "retracted"}
    assert [row for row in live_rows if row.incident_status not in early_only] == incidents_of(confirmed, GAP)
    assert len({row.id for row in live_rows}) == len(live_rows)
