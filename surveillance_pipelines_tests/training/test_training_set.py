from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.training.labelled_features import ECHO_BARS, plan_copies, planted_features
from surveillance_pipelines.training.possible_kinds import PRICE_KINDS, VOLUME_KINDS
from surveillance_pipelines.training.training_data import LABELS, TrainingSet, class_numbers
from surveillance_pipelines.training.training_set import MIN_HISTORY_BARS, build_training_set
from surveillance_pipelines_tests.training.tiny_bundle import (
    TINY_FIRST,
    TINY_LAST,
    single_symbol_training_set,
    tiny_market,
    tiny_training_set,
)


def build(**changes) -> TrainingSet:
    bars, sessions = tiny_market()
    arguments = {"first": TINY_FIRST, "last": TINY_FIRST + timedelta(days=2), "seed": 7, "per_symbol_day": 2.0}
    stores = changes.pop("bars", bars), changes.pop("sessions", sessions)
    return build_training_set(*stores, **{**arguments, **changes})


def test_build_training_set_has_every_label_in_every_split():
    for split in ("train", "validation", "test"):
        assert set(tiny_training_set().rows(split, labelled=True)["label"]) == set(LABELS), split


def test_build_training_set_of_one_symbol_leaves_out_what_needs_another():
    rows = single_symbol_training_set()
    assert list(rows.left_out) == ["cross_symbol_divergence"]
    assert rows.labels == tuple(label for label in LABELS if label != "cross_symbol_divergence")
    assert set(rows.rows("train", labelled=True)["label"]) == set(rows.labels)
    assert set(rows.frame["label"].drop_nulls()) == set(rows.labels)


def test_build_training_set_of_a_peer_that_begins_on_the_test_days_leaves_out_what_needs_it():
    bars, _ = tiny_market()
    later = bars.filter((pl.col("symbol") == "AAPL") | (pl.col("date") == TINY_LAST))
    rows = build(bars=later, last=TINY_LAST, per_symbol_day=6.0)
    assert list(rows.left_out) == ["cross_symbol_divergence"]
    assert "cross_symbol_divergence" not in set(rows.frame["label"].drop_nulls())


def test_build_training_set_without_volume_has_anomalies_of_the_price_only():
    bars, _ = tiny_market()
    rows = build(bars=bars.with_columns(volume=pl.lit(0.0)), last=TINY_LAST, per_symbol_day=6.0)
    assert list(rows.left_out) == list(VOLUME_KINDS)
    assert set(rows.rows("train", labelled=True)["label"]) == {NORMAL, *PRICE_KINDS}
    assert (rows.frame["has_volume"] == 0.0).all()


def test_build_training_set_of_every_kind_has_the_parameters_of_earlier_releases():
    assert tiny_training_set().left_out == {}
    assert tiny_training_set().labels == LABELS
    assert "kinds_left_out" not in tiny_training_set().params  # it would change the hash of every bundle


def test_build_training_set_splits_are_in_time_order():
    days = {
        split: tiny_training_set().rows(split)["date"].unique().sort().to_list()
        for split in ("train", "validation", "test")
    }
    assert days["train"][-1] < days["validation"][0] <= days["validation"][-1] < days["test"][0]


def test_build_training_set_labels_unchanged_bars_as_normal():
    original = tiny_training_set().frame.filter(pl.col("replica") == 0)
    assert set(original["label"].drop_nulls()) == {NORMAL}
    assert original.select("symbol", "bar_start").is_unique().all()
    early = original.filter(pl.col("label").is_null())
    assert len(early) == MIN_HISTORY_BARS * early["symbol"].n_unique()


def test_build_training_set_is_deterministic():
    assert build().fingerprint == build().fingerprint
    assert build().frame.equals(build().frame)


@pytest.mark.parametrize("change", [{"seed": 8}, {"per_symbol_day": 3.0}, {"last": TINY_LAST}])
def test_build_training_set_of_other_parameters_has_another_fingerprint(change):
    assert build(**change).fingerprint != build().fingerprint


def test_build_training_set_of_another_price_has_another_fingerprint():
    bars, _ = tiny_market()
    changed = bars.with_columns(close=pl.when(pl.int_range(pl.len()) == 5).then(pl.col("high")).otherwise("close"))
    assert not changed["close"].equals(bars["close"])
    assert build(bars=changed).fingerprint != build().fingerprint


def test_build_training_set_of_bars_served_with_another_market_has_another_fingerprint():
    bars, _ = tiny_market()
    served = bars.with_columns(market_return=pl.lit(0.001), market_peers=pl.lit(1, pl.Int32))
    assert build(bars=served).fingerprint != build().fingerprint


def test_build_training_set_of_other_trading_hours_has_another_fingerprint():
    _, sessions = tiny_market()
    closes = sessions.closes_at - 3_600_000_000
    early = SessionTable(sessions.calendar, sessions.session_ids, sessions.opens_at, closes)
    assert build(sessions=early).fingerprint != build().fingerprint
    ids, opens, closes = (np.append(part, part[-1] + more) for part, more in _session_columns(sessions))
    longer = SessionTable(sessions.calendar, ids, opens, closes)
    assert build(sessions=longer).fingerprint == build().fingerprint  # a later session does not affect these bars


def _session_columns(sessions: SessionTable):
    day = 86_400_000_000
    return (sessions.session_ids, 1), (sessions.opens_at, day), (sessions.closes_at, day)


def test_build_training_set_ignores_later_bars_and_revisions():
    bars, _ = tiny_market()
    revised = bars.head(10).with_columns(revision=pl.lit(1, pl.Int32), close=pl.col("close") * 2)
    assert build(bars=pl.concat([bars, revised])).frame.equals(build().frame)


def test_build_training_set_of_two_days_is_refused():
    with pytest.raises(ValueError, match="at least 3 days"):
        build(last=TINY_FIRST + timedelta(days=1))


def test_save_and_load_round_trip(tmp_path):
    small = build()
    small.save(tmp_path / "set")
    loaded = TrainingSet.load(tmp_path / "set")
    assert loaded.frame.equals(small.frame)
    assert (loaded.fingerprint, loaded.view, loaded.params) == (small.fingerprint, small.view, small.params)


def test_save_and_load_keep_the_kinds_left_out(tmp_path):
    single_symbol_training_set().save(tmp_path / "set")
    assert TrainingSet.load(tmp_path / "set").left_out == single_symbol_training_set().left_out


def test_class_numbers_follow_the_order_of_labels():
    assert class_numbers(pl.Series([NORMAL, ANOMALY_KINDS[-1]]), LABELS).tolist() == [0, len(ANOMALY_KINDS)]


def test_planted_features_label_the_anomaly_and_not_the_bars_after_it():
    bars, sessions = tiny_market()
    plan = next(plan_copies(bars, sessions, copies=1, per_symbol_day=0.2, seed=3)).head(1)
    rows = planted_features(bars, plan, sessions, seed=3).filter(pl.col("symbol") == plan["symbol"][0])
    labels = rows["label"].to_list()
    first = rows["bar_start"].index_of(plan["bar_start"][0])
    assert first is not None
    after = first + plan["bars"][0]
    assert set(labels[first:after]) == {plan["kind"][0]}
    assert labels[after : after + ECHO_BARS] == [None] * ECHO_BARS
    assert labels[first - 1] == labels[after + ECHO_BARS] == NORMAL


def test_planted_features_keep_bars_without_volume():
    bars, sessions = tiny_market()
    silent = bars.with_columns(volume=pl.lit(0.0))
    plan = pl.concat(list(plan_copies(bars, sessions, copies=1, per_symbol_day=0.5, seed=3)))
    rows = planted_features(silent, plan.filter(pl.col("kind") == "ramping"), sessions, seed=3)
    assert (rows["has_volume"] == 0.0).all()


def test_plan_copies_outside_sessions_have_price_only_kinds():
    bars, sessions = tiny_market()
    later = SessionTable(
        sessions.calendar, sessions.session_ids, sessions.opens_at + 12_000_000_000, sessions.closes_at
    )
    plans = list(plan_copies(bars, later, copies=2, per_symbol_day=2.0, seed=3))
    assert len(plans) == 3
    assert set(plans[-1]["kind"]) <= set(PRICE_KINDS)
    early = plans[-1].filter(pl.col("bar_start").dt.timestamp("us") < int(later.opens_at[-1]))
    assert len(early) > 0
    assert len(list(plan_copies(bars, sessions, copies=2, per_symbol_day=2.0, seed=3))) == 2


def test_view_of_the_training_set_is_the_requested_one():
    assert tiny_training_set().feature_view is CORE_V1
    assert tiny_training_set().params["first"] == date.isoformat(TINY_FIRST)
