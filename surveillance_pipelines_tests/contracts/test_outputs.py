import json
from datetime import UTC, datetime

import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.outputs import (
    ANOMALY_KINDS,
    IDENTITY_FREE,
    INSTANT_FIELDS,
    SCHEMA_VERSION,
    UNCLASSIFIED,
    Anomaly,
    Incident,
    OutputRow,
    Signal,
    alert_id,
    column_names,
    final_row_ids,
    row_id,
    to_message,
    to_record,
)
from surveillance_pipelines.hashing import sha256_json

BAR_START = to_us(datetime(2024, 1, 15, 14, 30, tzinfo=UTC))
IDENTITY = {
    "kind": "volume_spike",
    "tenant": "default",
    "strategy": "surveillance",
    "symbol": "AAPL",
    "timeframe": "1m",
    "bar_start": BAR_START,
    "revision": 0,
    "bar_status": "final",
    "trigger_message_id": None,
    "feature_view": "core_v1",
    "bundle_hash": "b" * 64,
    "config_hash": "c" * 64,
}
ALERT = {"tenant": "default", "symbol": "AAPL", "timeframe": "1m", "bar_start": BAR_START, "kind": "volume_spike"}


def anomaly(**changes):
    values = {
        "id": row_id("anomaly", **IDENTITY),
        "event_time": BAR_START + 59_000_000,
        "knowledge_time": BAR_START + 60_000_000,
        "source": "sqs",
        "source_message_id": "m-1",
        "symbol": "AAPL",
        "timeframe": "1m",
        "bar_start": BAR_START,
        "revision": 0,
        "bar_status": "final",
        "input_hash": "i" * 64,
        "feature_view": "core_v1",
        "bundle_hash": "b" * 64,
        "code_version": "1",
        "config_hash": "c" * 64,
        "runtime_hash": "r" * 64,
        "score": 0.97,
        "threshold": 0.9,
        "kind": "volume_spike",
        "confidence": 0.8,
        "risk_score": 0.7,
        "explanation": {"top": [{"feature": "volume_z", "share": 0.6}]},
        "alert_status": "confirmed",
        "alert_id": alert_id(**ALERT),
        "price": 185.2,
        "volume": 12_000.0,
    }
    return Anomaly(**{**values, **changes})


def test_row_id_same_row_has_the_same_id_in_any_process_and_release():
    assert row_id("anomaly", **IDENTITY) == "0c8765805c1e31d128f0338add6c4f99f4b3181cb0801b6875226c932a4aefc2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "price_gap"),
        ("tenant", "other"),
        ("strategy", "other"),
        ("symbol", "MSFT"),
        ("timeframe", "5m"),
        ("bar_start", BAR_START + 60_000_000),
        ("revision", 1),
        ("bar_status", "revised"),
        ("feature_view", "core_v2"),
        ("bundle_hash", "d" * 64),
        ("config_hash", "d" * 64),
    ],
)
def test_row_id_any_part_of_the_identity_changes_it(name, value):
    assert row_id("anomaly", **{**IDENTITY, name: value}) != row_id("anomaly", **IDENTITY)


def test_row_id_row_types_and_trigger_messages_are_told_apart():
    provisional = {**IDENTITY, "bar_status": "provisional"}
    ids = {
        row_id("anomaly", **IDENTITY),
        row_id("signal", **IDENTITY),
        row_id("anomaly", **{**provisional, "trigger_message_id": "m-1"}),
        row_id("anomaly", **{**provisional, "trigger_message_id": "m-2"}),
    }
    assert len(ids) == 4


@pytest.mark.parametrize(("bar_status", "trigger"), [("provisional", None), ("final", "m-1"), ("revised", "m-1")])
def test_row_id_trigger_message_on_the_wrong_status_is_refused(bar_status, trigger):
    with pytest.raises(ValueError, match="trigger message"):
        row_id("anomaly", **{**IDENTITY, "bar_status": bar_status, "trigger_message_id": trigger})


def test_alert_id_rows_of_one_alert_share_it_and_other_bars_do_not():
    assert alert_id(**ALERT) == alert_id(**ALERT)
    assert alert_id(**{**ALERT, "bar_start": BAR_START + 60_000_000}) != alert_id(**ALERT)
    assert alert_id(**{**ALERT, "kind": "price_gap"}) != alert_id(**ALERT)


def test_alert_id_of_another_strategy_differs_and_of_the_default_one_is_that_of_older_releases():
    old = sha256_json(["alert", "default", "AAPL", "1m", BAR_START, "volume_spike"])
    assert alert_id(**ALERT) == alert_id(**ALERT, strategy="surveillance") == old
    assert alert_id(**ALERT, strategy="momentum") not in {old, alert_id(**ALERT, strategy="scalping")}


def test_column_names_row_contract_comes_first_in_both_tables():
    contract = column_names(OutputRow)
    assert column_names(Anomaly)[: len(contract)] == contract
    assert column_names(Signal)[: len(contract)] == contract
    assert contract[:3] == ("id", "schema_version", "event_time")


def test_identity_free_and_instant_fields_are_columns():
    assert set(column_names(OutputRow)) >= IDENTITY_FREE
    assert {*column_names(OutputRow), *column_names(Incident)} >= INSTANT_FIELDS


def test_to_record_keeps_microseconds():
    record = to_record(anomaly())
    assert record["bar_start"] == BAR_START
    assert tuple(record) == column_names(Anomaly)


@pytest.mark.requirement("SCH-34")
def test_to_message_instants_are_iso_8601_utc():
    message = json.loads(json.dumps(to_message(anomaly()), allow_nan=False))
    assert message["bar_start"] == "2024-01-15T14:30:00.000000Z"
    assert message["event_time"] == "2024-01-15T14:30:59.000000Z"
    assert message["t_published"] is None


def test_to_message_says_its_type_and_schema_version():
    message = to_message(anomaly())
    assert (message["type"], message["schema_version"]) == ("anomaly", SCHEMA_VERSION)


@pytest.mark.requirement("SCH-05")
def test_anomaly_kinds_are_an_open_set_with_the_published_names():
    assert {"volume_spike", "price_gap"} <= set(ANOMALY_KINDS)
    assert UNCLASSIFIED not in ANOMALY_KINDS
    assert not {"spoofing", "layering", "front_running", "insider_dealing"} & set(ANOMALY_KINDS), "need an order book"
    assert anomaly(kind=UNCLASSIFIED).kind == UNCLASSIFIED


def test_ids_of_many_final_rows_equal_those_of_each():
    shared = {name: value for name, value in IDENTITY.items() if name not in ("symbol", "bar_start")}
    rows = [("AAPL", 0), ('A"B', -60_000_000), ("Ä.X", 1_709_649_000_000_000), ("AAPL", 60_000_000)]
    each = [row_id("score", symbol=symbol, bar_start=start, **shared) for symbol, start in rows]
    for name in ("revision", "bar_status", "trigger_message_id"):
        shared.pop(name)
    assert final_row_ids("score", *zip(*rows, strict=True), **shared) == each
