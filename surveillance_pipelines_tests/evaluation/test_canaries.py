"""Judging of planted manipulations, and promises against measured shares."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from surveillance_pipelines.evaluation.canaries import (
    ALERT_SCHEMA,
    SCORE_SCHEMA,
    Count,
    Counts,
    KindCounts,
    RateVerdict,
    counts_of,
    episodes,
    events_of,
    judge,
    verdicts,
)
from surveillance_pipelines.evaluation.independent_anomalies import EVENT_SCHEMA

BEGIN = datetime(2024, 3, 4, 15, 0, tzinfo=UTC)


def minute(number: int) -> datetime:
    return BEGIN + timedelta(minutes=number)


def event(*, kind: str = "price_gap", first: int = 10, last: int = 11, size: str = "full") -> pl.DataFrame:
    row = ("e", "AAPL", kind, size, minute(first), minute(last), 0.03)
    return events_of([pl.DataFrame([row], schema=EVENT_SCHEMA, orient="row")])


def alerts(*rows: tuple[int, str]) -> pl.DataFrame:
    values = [(0, "AAPL", minute(at), kind, ["floors"]) for at, kind in rows]
    return pl.DataFrame(values, schema=ALERT_SCHEMA, orient="row")


def judged(*rows: tuple[int, str], control: tuple[int, ...] = (), **about: Any) -> dict[str, Any]:
    scores = pl.DataFrame([(0, "AAPL", minute(10), 0.4)], schema=SCORE_SCHEMA, orient="row")
    quiet = pl.DataFrame({"symbol": ["AAPL"] * len(control), "bar_start": [minute(at) for at in control]}).cast(
        {"symbol": pl.String, "bar_start": ALERT_SCHEMA["bar_start"]}
    )
    (row,) = judge(event(**about), alerts(*rows), scores, quiet).iter_rows(named=True)
    return row


def test_judge_takes_the_alerts_from_the_first_bar_to_the_one_after_the_last():
    assert not judged((9, "price_gap"))["detected"]
    assert not judged((13, "price_gap"))["detected"]
    assert judged((10, "price_gap"))["delay_minutes"] == 0
    assert judged((12, "price_gap"), (13, "ramping"))["delay_minutes"] == 2


def test_judge_an_alert_that_the_unchanged_bar_has_detects_nothing():
    row = judged((10, "price_gap"), control=(10,))
    assert (row["detected"], row["named"], row["kind_named"], row["delay_minutes"]) == (False, False, None, None)
    assert row["score"] == 0.4
    assert judged((10, "price_gap"), (11, "price_gap"), control=(10,))["delay_minutes"] == 1


def test_judge_the_kind_named_is_the_planted_one_if_any_alert_has_it():
    row = judged((10, "ramping"), (11, "price_gap"))
    assert (row["named"], row["kind_named"], row["detectors"]) == (True, "price_gap", ["floors"])
    row = judged((10, "ramping"))
    assert (row["detected"], row["named"], row["kind_named"]) == (True, False, "ramping")


def test_counts_leave_out_other_sizes_and_include_detectors_that_never_alerted():
    rows = judge(event(), alerts((10, "price_gap")), SCORE_SCHEMA.to_frame(), alerts().select("symbol", "bar_start"))
    counts = counts_of(rows, ["floors", "classifier"])
    assert counts.kinds == {"price_gap": KindCounts(Count(1, 1), Count(1, 1))}
    assert counts.detectors == {"floors": Count(1, 1), "classifier": Count(0, 1)}
    third = rows.with_columns(size=pl.lit("third"))
    assert counts_of(third, []).kinds == {}


def test_interval_is_exact():
    low, high = Count(9, 10).interval()
    assert (low, high) == (pytest.approx(0.4557, abs=1e-4), pytest.approx(0.9995, abs=1e-4))
    assert Count(0, 0).interval() == (0.0, 1.0)


def promised(detected: int, named: int = 0) -> Counts:
    kinds = {"price_gap": KindCounts(Count(detected, 40), Count(named, 40))}
    return Counts(kinds, {"floors": Count(20, 40)})


def run(detected: int, planted: int, alerted: int) -> Counts:
    counts = KindCounts(Count(detected, planted), Count(detected, planted))
    return Counts({"price_gap": counts, "ramping": counts}, {"floors": Count(alerted, planted)})


def broken(counts: Counts, promise: Counts) -> set[tuple[str, str]]:
    return {(found.name, found.measure) for found in verdicts(counts, promise) if not found.kept}


def test_verdicts_are_kept_while_the_interval_reaches_the_promise():
    assert broken(run(10, 10, 5), promised(40)) == set()
    assert broken(run(7, 10, 5), promised(40)) == set()
    assert broken(run(2, 10, 5), promised(40)) == {("price_gap", "detected"), ("all kinds", "detected")}


def test_verdicts_judge_detectors_and_no_kind_without_a_promise():
    assert broken(run(10, 10, 0), promised(40)) == set()
    assert broken(run(40, 40, 0), promised(40)) == {("floors", "alerted")}
    assert verdicts(run(0, 10, 0), Counts({}, {})) == []
    assert {found.name for found in verdicts(run(10, 10, 5), promised(40))} == {"price_gap", "all kinds", "floors"}


def test_verdict_says_what_was_found_and_promised():
    text = str(RateVerdict("ramping", "detected", Count(1, 10), 0.6))
    assert text == "ramping: 1 of 10 detected (99% interval 0.00 to 0.54), promised at least 0.60"


def test_episodes_count_alerts_half_an_hour_apart_once():
    assert episodes(alerts()) == 0
    assert episodes(alerts((0, "a"), (0, "b"), (30, "a"), (61, "a"))) == 2
