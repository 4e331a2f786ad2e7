"""The upgrade proof sees what it must see: every comparison is given something that differs, and says so."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from benchmarks import upgrade_checks as checks
from benchmarks.upgrade_checks import Continued
from benchmarks.upgrade_comparison import (
    Check,
    alert_id,
    compare_rows,
    compare_sequences,
    compare_tables,
    first_difference,
    normalised,
    plain,
    row_id,
)
from benchmarks.upgrade_feed import BATCH_SIZE, OFFSETS, OPENING, SYMBOLS, Bar, make_feed, with_bad_input, with_repeat
from benchmarks.upgrade_home import Consumed
from benchmarks.upgrade_release import Release, UpgradeError
from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts import outputs

BAR_START = datetime(2024, 1, 26, 15, 40, tzinfo=UTC)
CROSSING = 4


def anomaly(**changes: Any) -> dict[str, Any]:
    """Return a provisional anomaly as the driver gives it; its ids follow the recipes."""
    row = {
        "id": "", "schema_version": "1.1", "symbol": "AAPL", "timeframe": "1m", "bar_start": BAR_START, "revision": 0,
        "bar_status": "provisional", "kind": "volume_spike", "tenant": "default", "strategy": "surveillance",
        "feature_view": "core_v1", "code_version": "1+aa", "runtime_hash": "r" * 64,
        "bundle_hash": "b" * 64, "config_hash": "c" * 64, "score": 0.75,
        "explanation": {"kinds": [["volume_spike", 0.9]]}, "warmup": False, "correlation_id": "sqs-old",
        "source_message_id": "sqs-old", "run_id": "run", "t_received": BAR_START, "t_published": None,
        "alert_status": "opened", "alert_id": "",
    } | changes  # fmt: skip
    values = plain(row)
    trigger = values["correlation_id"] if values["bar_status"] == "provisional" else None
    given = {"id": row_id(values, "anomaly", trigger), "alert_id": alert_id(values)}
    return row | given | changes


def message(row: dict[str, Any]) -> str:
    return json.dumps({"type": "anomaly", **plain(row)})


def continued(**changes: Any) -> Continued:
    """Return a run that closed one open alert, with one prediction and one message of each."""
    opened, confirmed = anomaly(), anomaly(bar_status="final", alert_status="confirmed")
    prediction = {"id": "p1", "bundle_hash": "b" * 64, "warmup": False, "t_received": BAR_START, "outcome_at": None}
    after = {
        "surveillance.anomalies": [opened, confirmed],
        "surveillance.signals": [],
        "surveillance.predictions": [prediction],
        "ops.inbox": [{"message_id": "sqs-old", "dedup_id": "tick-1", "position": 1}],
        "ops.ledger": [{"message_id": "sqs-old", "outcome": "scored"}],
        "ops.live_bars": [{"symbol": "AAPL", "bar_start": BAR_START, "revision": 0, "close": 1.0}],
        "ops.dead_letters": [],
        "ops.outbox": [{"id": row["id"], "body": message(row)} for row in (opened, confirmed)],
    }
    before = {**after, "surveillance.anomalies": [opened], "surveillance.predictions": []}
    before["ops.outbox"] = after["ops.outbox"][:1]
    consumed = [Consumed("AAPL", row["id"], row["body"]) for row in after["ops.outbox"]]
    return replace(Continued("b" * 64, before, after, consumed), **changes)


def with_rows(table: str, rows: list[dict[str, Any]]) -> Continued:
    side = continued()
    return replace(side, after={**side.after, table: rows})


def differences(check: Check) -> str:
    assert not check.passed
    return "\n".join(check.differences)


@pytest.mark.parametrize(("row_type", "kind"), [("anomaly", "volume_spike"), ("signal", "BUY"), ("score", "score")])
@pytest.mark.parametrize("status", ["provisional", "final"])
def test_row_id_is_the_platform_s(row_type, kind, status):
    row = plain(anomaly(kind=kind, bar_status=status))
    trigger = "m1" if status == "provisional" else None
    names = ("tenant", "strategy", "symbol", "timeframe", "revision", "bar_status", "feature_view", "bundle_hash",
             "config_hash")  # fmt: skip
    given = {name: row[name] for name in names}
    expected = outputs.row_id(row_type, kind=kind, bar_start=to_us(BAR_START), trigger_message_id=trigger, **given)
    assert row_id(row, row_type, trigger) == expected


def test_alert_id_is_the_platform_s():
    row = plain(anomaly())
    names = ("tenant", "symbol", "timeframe", "kind")
    assert alert_id(row) == outputs.alert_id(bar_start=to_us(BAR_START), **{name: row[name] for name in names})


def test_rows_of_two_queues_are_equal_under_the_producer_s_ids():
    old = normalised(anomaly(), "anomaly", {"sqs-old": "tick-1"})
    new = normalised(
        anomaly(correlation_id="sqs-new", source_message_id="sqs-new", run_id="other", schema_version="2.0"),
        "anomaly",
        {"sqs-new": "tick-1"},
    )
    assert old == new
    assert old["correlation_id"] == "tick-1"


def test_id_that_its_own_fields_do_not_give_is_marked():
    row = normalised(anomaly(id="f" * 64), "anomaly", {})
    assert row["id"] == f"not by the recipe: {'f' * 64}"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (0.1, 0.1 + 2**-56, ""),
        (1, 1.0, ""),
        (True, 1, ""),
        (0.0, -0.0, ""),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "y"}]}, "a[1].b"),
        ({"a": 1}, {"a": 1, "b": 2}, "keys"),
        ([1], [1, 2], "length"),
    ],
)
def test_first_difference_is_named(old, new, path):
    found = first_difference(old, new)
    assert found is not None
    assert found.path == path


def test_not_a_number_equals_itself():
    assert first_difference({"a": float("nan")}, {"a": float("nan")}) is None


def test_changed_field_is_named_with_both_values():
    old, new = plain(anomaly()), plain(anomaly(explanation={"kinds": [["volume_spike", 0.8]]}))
    found = differences(compare_rows("rows", [old], [new]))
    assert "explanation.kinds[0][1]: old 0.9, new 0.8" in found


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ([{"id": "a"}], [], "id a: only in the old release"),
        ([], [{"id": "a"}], "id a: only in the new release"),
        ([{"id": "a", "score": 1.0}], [{"id": "a"}], "id a: score missing in the new release"),
        ([{"id": "a"}], [{"id": "a"}, {"id": "a"}], "id a: twice"),
    ],
)
def test_row_that_has_no_equal_is_named(old, new, words):
    assert words in differences(compare_rows("rows", old, new))


def test_field_of_the_new_release_is_noted_and_allowed():
    check = compare_rows("rows", [{"id": "a"}], [{"id": "a", "models_out": []}])
    assert check.passed
    assert check.notes == ("fields of the new release only: models_out",)


def test_nothing_compared_proves_nothing():
    assert not compare_rows("rows", [], []).passed


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"AAPL": ["a", "c", "b"]}, "AAPL: number 2: old 'b', new 'c'"),
        ({"AAPL": ["a", "b"]}, "AAPL: old 3 values, new 2"),
        ({}, "AAPL: old 3 values, new 0"),
    ],
)
def test_other_order_or_length_of_a_group_is_named(new, words):
    assert words in differences(compare_sequences("order", {"AAPL": ["a", "b", "c"]}, new))


def test_row_that_a_migration_changes_is_named():
    old = {"t": [{"id": "a", "n": 1}, {"id": "b", "n": 2}]}
    new = {"t": [{"id": "a", "n": 1, "more": 0}, {"id": "b", "n": 3, "more": 0}]}
    assert "t: n: old 2, new 3" in differences(compare_tables("rows", old, new, may_go=frozenset()))


def test_table_that_a_migration_drops_is_named_unless_it_may_go():
    old = {"kept": [{"id": 1}], "gone": [{"id": 1}]}
    assert "gone: not in the new release" in differences(
        compare_tables("rows", old, {"kept": [{"id": 1}]}, may_go=frozenset())
    )
    assert compare_tables("rows", old, {"kept": [{"id": 1}]}, may_go=frozenset({"gone"})).passed


def test_column_that_a_migration_drops_is_noted():
    check = compare_tables("rows", {"t": [{"id": 1, "is_active": True}]}, {"t": [{"id": 1}]}, may_go=frozenset())
    assert check.passed
    assert check.notes == ("t: the new release has no is_active",)


def test_equal_runs_pass_every_check():
    side = continued()
    made = [
        checks.check_migration(side, side),
        checks.check_champion(side, side),
        checks.check_open_alerts([anomaly()["alert_id"]], side, side),
        checks.check_inputs(side, side)[0],
        checks.check_outputs(side, side)[0],
        *checks.check_queue([], side, side)[:3],
    ]
    assert [check.name for check in made if not check.passed] == []


def test_alert_that_ends_otherwise_is_named():
    other = with_rows("surveillance.anomalies", [anomaly(), anomaly(bar_status="final", alert_status="retracted")])
    check = checks.check_open_alerts([anomaly()["alert_id"]], continued(), other)
    assert "alert_status: old 'confirmed', new 'retracted'" in differences(check)


def test_alert_that_stays_open_is_named():
    open_alert = anomaly()
    check = checks.check_open_alerts(
        [open_alert["alert_id"]], continued(), with_rows("surveillance.anomalies", [open_alert])
    )
    assert f"alert {open_alert['alert_id']}: never closed" in differences(check)


def test_other_champion_is_named():
    other = continued(champion="d" * 64)
    assert "champion: old bbb" in differences(checks.check_champion(continued(), other))
    scored = with_rows("surveillance.predictions", [{"id": "p1", "bundle_hash": "warmup", "warmup": True}])
    assert "1 bars scored by warmup" in differences(checks.check_champion(continued(), scored))


def test_config_hash_that_does_not_give_its_row_the_id_is_named():
    names = ("symbol", "timeframe", "bar_start", "revision", "feature_view", "bundle_hash", "config_hash")
    final = anomaly(bar_status="final")
    row = {name: final[name] for name in names} | {"id": row_id(plain(final), "score", None)}
    side = continued()
    good, wrong = (
        replace(side, before={"surveillance.predictions": [row | {"config_hash": config_hash}]})
        for config_hash in (row["config_hash"], "d" * 64)
    )
    assert [check.passed for check in checks.check_config_hashes(good)] == [True]
    assert "its config_hash does not give its id" in differences(checks.check_config_hashes(wrong)[0])
    assert checks.check_config_hashes(side) == []


def test_other_outcome_of_a_message_is_named():
    other = with_rows("ops.ledger", [{"message_id": "sqs-old", "outcome": "late"}])
    found = differences(checks.check_inputs(continued(), other)[0])
    assert "old 'tick-1 scored', new 'tick-1 late'" in found


def test_messages_out_of_order_or_under_another_group_are_named():
    first, second = continued().consumed
    order = checks.check_queue([], continued(), continued(consumed=[second, first]))[2]
    assert "AAPL: number 1" in differences(order)
    moved = checks.check_queue([], continued(), continued(consumed=[first, replace(second, group="MSFT")]))[2]
    assert "MSFT: old 0 values, new 1" in differences(moved)


def test_repeated_message_is_one_message():
    first, second = continued().consumed
    made = checks.check_queue([], continued(), continued(consumed=[first, second, first]))
    assert all(check.passed for check in made[:3])


def test_waiting_message_with_another_byte_is_named():
    first, second = continued().consumed
    other = continued(consumed=[replace(first, body=first.body.replace('"run_id": "run"', '"run_id":"run"')), second])
    waited = checks.check_queue([], continued(), other)[0]
    assert "AAPL: number 1" in differences(waited)


def test_row_that_was_left_unpublished_and_is_never_sent_is_named():
    left = continued().before["ops.outbox"][0]["id"]
    sent = checks.check_queue([left], continued(), continued(consumed=continued().consumed[1:]))[3]
    assert f"row {left}: never sent" in differences(sent)


def test_output_that_is_only_equivalent_or_missing_fails():
    drawn = {"a": "signal, final, live", "b": "signal, final, live"}
    check = checks.check_replays("replays", drawn, [{"id": "a", "outcome": "equivalent"}], size=2)
    assert "a: {" in differences(check)
    assert "1 equivalent, 1 missing" in check.notes


def test_fewer_outputs_than_asked_for_fail():
    results = [{"id": "a", "outcome": "equal"}]
    assert not checks.check_replays("replays", {"a": "signal, final, live"}, results, size=2).passed


def test_backfill_that_changes_a_row_is_named():
    side = continued()
    settled = {
        **side.after,
        "surveillance.predictions": [{**side.after["surveillance.predictions"][0], "outcome_at": 1}],
    }
    assert checks.check_backfill(side.after, settled).passed
    changed = {
        **side.after,
        "surveillance.predictions": [{**side.after["surveillance.predictions"][0], "warmup": True}],
    }
    assert "warmup: old False, new True" in differences(checks.check_backfill(side.after, changed))


def test_outputs_are_drawn_from_every_kind_and_the_same_for_a_seed():
    tables = {
        "surveillance.anomalies": [anomaly(id=f"a{n}", t_received=None) for n in range(50)],
        "surveillance.signals": [anomaly(id="s1")],
        "surveillance.predictions": [{"id": f"p{n}", "t_received": BAR_START} for n in range(50)],
        "ops.outbox": [{"id": "o1", "body": json.dumps({"type": "score", "bar_status": "provisional"})}],
    }
    drawn = checks.draw_outputs(tables, 12, seed=1)
    assert drawn == checks.draw_outputs(tables, 12, seed=1)
    assert len(drawn) == 12
    assert set(drawn.values()) == {
        "anomaly, provisional, batch", "signal, provisional, live", "prediction, final, live",
        "score, provisional, live",
    }  # fmt: skip


@pytest.fixture
def bursts():
    return twelve_minutes()


def twelve_minutes():
    bars = {str(symbol): Bar(10.0, 11.0, 9.0, 10.5, 4_000.0) for symbol in SYMBOLS}
    return make_feed([bars] * 12, crossing=CROSSING, seed=3)


def test_feed_is_the_same_for_a_seed_and_fits_into_calls(bursts):
    assert bursts == twelve_minutes()
    full = with_repeat(with_bad_input(bursts, 8), 9, bursts[0].messages[0])
    assert max(len(burst.messages) for burst in full) <= BATCH_SIZE
    ids = [message.dedup_id for burst in bursts for message in burst.messages]
    assert len(set(ids)) == len(ids)


def test_every_symbol_ticks_in_every_minute_far_from_the_clock_s_closing(bursts):
    for minute in range(11):
        ticks = [json.loads(m.body) for burst in bursts if burst.minute == minute for m in burst.messages]
        assert {tick["symbol"] for tick in ticks} == set(SYMBOLS)
        seconds = [datetime.fromisoformat(tick["timestamp"]) - OPENING - timedelta(minutes=minute) for tick in ticks]
        assert min(seconds).total_seconds() >= OFFSETS[0] > 2.0
        assert max(seconds).total_seconds() < 40.0


def test_bursts_around_the_upgrade_have_one_tick_of_every_symbol(bursts):
    around = [burst for burst in bursts if burst.minute in (CROSSING, CROSSING + 1)]
    assert len(around) == 2 * len(OFFSETS)
    assert all([message.group for message in burst.messages] == list(SYMBOLS) for burst in around)


def test_release_is_known_by_the_first_module_that_it_has(tmp_path):
    (tmp_path / "surveillance_pipelines" / "serving").mkdir(parents=True)
    (tmp_path / "surveillance_pipelines" / "serving" / "drain.py").touch()
    release = Release("old", tmp_path)
    assert "surveillance_pipelines.serving.drain" in release.drain
    with pytest.raises(UpgradeError, match=r"add the module's new place to upgrade_release\.py"):
        _ = release.holder
