import polars as pl
import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.market import SOURCE_PRECEDENCE
from surveillance_pipelines.market.bar_frames import empty_bars
from surveillance_pipelines.market.source_resolution import resolve_bars, without_repeats
from surveillance_pipelines_tests.market.markets import bar, minute

START = minute(15, 0)
LATER = [minute(16, hour) for hour in range(5)]


def outcome(bars: pl.DataFrame) -> list[tuple[str, int, str, float]]:
    return bars.select("source", "revision", "bar_status", "close").rows()


@pytest.mark.requirement("ING-02")
def test_resolve_bars_uses_the_source_of_highest_precedence_in_any_order() -> None:
    rows = [bar(START, 10.0 + place, source=source) for place, source in enumerate(SOURCE_PRECEDENCE)]
    for first in range(4):
        landed = pl.concat([row for row in reversed(rows[first:]) if row["source"][0] != "sqs"])
        live = rows[0] if first == 0 else empty_bars()
        resolved = resolve_bars(landed, live)
        assert outcome(resolved.bars) == [(SOURCE_PRECEDENCE[first], 0, "final", 10.0 + first)]
        assert resolved.overruled == 3 - first


def test_resolve_bars_later_landing_is_a_revision_if_different_else_a_duplicate() -> None:
    closes = [10.0, 10.0, 11.0, 11.0, 10.0]
    landed = pl.concat([bar(START, close, known=known) for close, known in zip(closes, LATER, strict=True)])
    resolved = resolve_bars(landed.reverse(), empty_bars())
    assert outcome(resolved.bars) == [
        ("file", 0, "final", 10.0),
        ("file", 1, "revised", 11.0),
        ("file", 2, "revised", 10.0),
    ]
    assert resolved.duplicates == 2
    assert resolved.rows_in == 5


def test_resolve_bars_live_bars_keep_their_revisions() -> None:
    late = bar(START, 12.0, source="sqs").with_columns(revision=pl.lit(1, pl.Int32), bar_status=pl.lit("revised"))
    live = pl.concat([late, bar(START, 10.0, source="sqs"), late])
    resolved = resolve_bars(empty_bars(), live)
    assert outcome(resolved.bars) == [("sqs", 0, "final", 10.0), ("sqs", 1, "revised", 12.0)]
    assert resolved.duplicates == 1


def test_resolve_bars_as_of_an_instant_ignores_later_rows() -> None:
    vendor = bar(START, 10.0, source="yfinance", known=LATER[1])
    own = bar(START, 11.0, source="file", known=LATER[3])
    landed = pl.concat([vendor, own])
    before, between, after = (resolve_bars(landed, empty_bars(), as_of=to_us(LATER[place])) for place in (0, 2, 4))
    assert before.bars.is_empty()
    assert before.not_yet_known == 2
    assert outcome(between.bars) == [("yfinance", 0, "final", 10.0)]
    assert outcome(after.bars) == [("file", 0, "final", 11.0)]


def test_resolve_bars_neighbouring_bars_with_equal_values_are_not_duplicates() -> None:
    landed = pl.concat([bar(minute(15, step), 10.0) for step in range(3)])
    assert resolve_bars(landed, empty_bars()).bars.height == 3


def test_without_repeats_returns_bars_that_differ_from_the_latest_landing() -> None:
    landed = pl.concat(
        [
            bar(START, 10.0, source="yfinance", known=LATER[0]),
            bar(START, 11.0, source="yfinance", known=LATER[1]),
            bar(LATER[0], 10.0, source="simulated", known=LATER[1]),
        ]
    )
    same, back, own = (
        bar(START, 11.0, source="yfinance", known=LATER[2]),
        bar(START, 10.0, source="yfinance", known=LATER[2]),
        bar(LATER[0], 10.0, source="yfinance", known=LATER[2]),
    )
    assert without_repeats(same, landed).is_empty()
    assert without_repeats(pl.concat([back, own]), landed).height == 2
    assert without_repeats(back, empty_bars()).height == 1
