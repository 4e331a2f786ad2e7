from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.evaluation.splits import PURGE_BARS, SPLITS, assign_splits, split_days

FIRST = date(2024, 3, 4)
LONGEST_WINDOW = 60


def days(counts: list[int]) -> dict[date, int]:
    return {FIRST + timedelta(days=n): count for n, count in enumerate(counts)}


def bars(days_: int, per_day: int, symbol: str = "AAPL", first: date = FIRST) -> pl.DataFrame:
    starts = [
        datetime(first.year, first.month, first.day, 14, 30, tzinfo=UTC) + timedelta(days=day, minutes=minute)
        for day in range(days_)
        for minute in range(per_day)
    ]
    frame = pl.DataFrame({"bar_start": starts}, schema={"bar_start": pl.Datetime("us", "UTC")})
    return frame.select(pl.lit(symbol).alias("symbol"), pl.col("bar_start").dt.date().alias("date"), "bar_start")


@given(st.lists(st.integers(1, 1000), min_size=3, max_size=40))
def test_split_days_are_in_order_and_none_is_empty(counts):
    splits = [split for _, split in sorted(split_days(days(counts)).items())]
    assert splits == sorted(splits, key=SPLITS.index)
    assert set(splits) == set(SPLITS)


def test_split_days_of_equal_days_follow_the_fractions():
    splits = list(split_days(days([100] * 10)).values())
    assert [splits.count(name) for name in SPLITS] == [6, 2, 2]


def test_split_days_of_two_days_is_refused():
    with pytest.raises(TooLittleDataError, match=r"at least 3 days .* `surveillance ingest`"):
        split_days(days([5, 5]))


def test_split_days_with_fractions_that_do_not_sum_to_one_is_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        split_days(days([5, 5, 5]), (0.5, 0.2, 0.2))


@given(days_=st.integers(3, 9), per_day=st.integers(1, 120))
def test_assign_splits_leave_no_window_across_a_boundary(days_, per_day):
    rows = assign_splits(pl.concat([bars(days_, per_day), bars(days_, per_day + 7, "MSFT")]))
    for part in rows.partition_by("symbol"):
        kept = part.sort("bar_start").with_row_index("place")
        for before, after in (("train", "validation"), ("validation", "test"), ("train", "test")):
            last = kept.filter(pl.col("split") == before)["place"].max()
            first = kept.filter(pl.col("split") == after)["place"].min()
            if last is not None and first is not None:
                assert int(first) - int(last) > LONGEST_WINDOW  # type: ignore[arg-type]


def test_assign_splits_purge_just_after_each_boundary():
    rows = assign_splits(bars(10, 100)).sort("bar_start")
    purged = rows.with_row_index("place").filter(pl.col("split") == "purged")["place"].to_list()
    assert purged == [*range(600, 600 + PURGE_BARS), *range(800, 800 + PURGE_BARS)]


def test_assign_splits_keep_the_first_bars_of_a_symbol_listed_later():
    late = bars(3, 100, "NEW", FIRST + timedelta(days=7))
    rows = assign_splits(pl.concat([bars(10, 100), late]))
    new = rows.filter(pl.col("symbol") == "NEW").sort("bar_start")
    assert new["split"][0] != "purged"
