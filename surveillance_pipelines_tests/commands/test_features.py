"""``surveillance features``: of files and of the lake, all at once and as known at an instant."""

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features.batch import feature_schema, features_of_days
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.market.calendar_choice import CalendarChoice
from surveillance_pipelines.services.instruments import sessions_of
from surveillance_pipelines_tests.features.bars import same_bits
from surveillance_pipelines_tests.market.markets import market_bars

COLUMNS = ("symbol", "bar_start", "open", "high", "low", "close", "volume")
LEARNED = (*COLUMNS, "knowledge_time")


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return market_bars().select(COLUMNS)


@pytest.fixture(scope="module")
def expected() -> pl.DataFrame:
    """Features of the market as the batch lane has them."""
    whole = market_bars()
    sessions = new_york_sessions(whole)
    return features_of_days(whole, whole["date"].unique().to_list(), sessions)


def new_york_sessions(bars: pl.DataFrame) -> SessionTable:
    return sessions_of(bars, dict.fromkeys(bars["symbol"].unique(), CalendarChoice("XNYS", "default")))


def equal(found: pl.DataFrame, wanted: pl.DataFrame) -> bool:
    key = ["symbol", "bar_start"]
    found, wanted = found.sort(key), wanted.sort(key)
    return found.select(key).equals(wanted.select(key)) and same_bits(
        found.select(CORE_V1.columns).to_numpy(), wanted.select(CORE_V1.columns).to_numpy()
    )


@pytest.mark.requirement("FE-01")
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_features_of_a_file_are_those_of_the_batch_lane_and_touch_no_store(bare, bars, expected, tmp_path, ending):
    path = tmp_path / f"bars.{ending}"
    getattr(bars, f"write_{ending}")(path)
    answer = bare("features", path, "--out", tmp_path / "features.parquet")
    assert answer.exit_code == 0, answer.output
    found = pl.read_parquet(tmp_path / "features.parquet")
    assert found.schema == feature_schema()
    assert equal(found, expected)
    assert f"{bars.height:,} rows in = {bars.height:,} bars" in answer.output
    assert not (tmp_path / "home").exists()
    assert not list(tmp_path.glob("*.unfinished"))


def test_features_of_named_symbols_days_and_columns_have_the_same_bits(bare, bars, expected, tmp_path) -> None:
    bars.write_parquet(tmp_path / "bars.parquet")
    day = expected["date"].max()
    asked = ("--symbols", "aapl", "--first", day, "--columns", "return_z,rsi_14", "--out", tmp_path / "few.csv")
    answer = bare("features", tmp_path / "bars.parquet", *asked)
    assert answer.exit_code == 0, answer.output
    found = pl.read_csv(tmp_path / "few.csv")
    wanted = expected.filter(pl.col("symbol") == "AAPL", pl.col("date") == day)
    assert found.columns[-2:] == ["rsi_14", "return_z"]  # the view's order
    for name in found.columns[-2:]:
        assert same_bits(found[name].cast(pl.Float64).to_numpy(), wanted[name].to_numpy())


def test_bad_rows_are_counted_with_reason_and_place(bare, bars, tmp_path) -> None:
    text = bars.head(200).write_csv().splitlines()
    text[3] = text[3].replace(text[3].split(",")[2], "abc", 1)
    text[7] = ",".join([*text[7].split(",")[:-1], "-5"])
    (tmp_path / "bars.csv").write_text("\n".join(text))
    answer = bare("features", tmp_path / "bars.csv")
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    assert "2 of 200 rows refused" in said
    assert "wrong_type" in said
    assert "line 4" in said
    assert "out_of_bounds" in said
    assert "200 rows in = 198 bars (revisions included) + 2 refused" in said


def test_file_of_mostly_bad_rows_is_reported_and_exits_with_usage(bare, bars, tmp_path) -> None:
    broken = pl.when(pl.int_range(pl.len()) % 3 > 0).then(-1.0).otherwise(pl.col("close")).alias("close")
    bars.head(300).with_columns(broken).write_parquet(tmp_path / "bars.parquet")
    answer = bare("features", tmp_path / "bars.parquet", "--out", tmp_path / "features.parquet")
    assert answer.exit_code == ExitCode.USAGE
    assert "200 of 300 rows" in " ".join(answer.output.split())
    assert pl.read_parquet(tmp_path / "features.parquet").height == 100


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--view", "core_v9"), "expected one of core_v1, core_v2, got 'core_v9'"),
        (("--as-of", "2024-03-06T14:30:00"), "expected an instant with its time zone"),
        (("--as-of", "yesterday"), "expected an instant with its time zone"),
        (("--as-of", "2001-01-01T00:00:00Z"), "became known later"),
        (("--columns", "rsi"), "expected columns of feature view core_v1"),
        (("--symbols", "NONE"), "expected bars of NONE"),
        (("--out", "features.xlsx"), "expected one of .parquet, .csv"),
        (("--out", "nowhere/features.csv"), "to exist"),
    ],
)
def test_wrong_options_are_said_in_words(bare, bars, tmp_path, options, said) -> None:
    bars.write_parquet(tmp_path / "bars.parquet")
    answer = bare("features", tmp_path / "bars.parquet", *options)
    assert answer.exit_code == ExitCode.USAGE, answer.output
    assert said in " ".join(answer.output.replace("│", " ").split())


def test_bars_of_hours_and_files_that_are_none_are_refused(bare, bars, tmp_path) -> None:
    bars.filter(pl.col("bar_start").dt.minute() == 0).write_parquet(tmp_path / "hours.parquet")
    answer = bare("features", tmp_path / "hours.parquet")
    assert answer.exit_code == ExitCode.USAGE
    assert "expected 1-minute bars" in answer.output
    answer = bare("features", tmp_path / "absent.parquet")
    assert answer.exit_code == ExitCode.USAGE
    assert "got no file" in " ".join(answer.output.split())


def learned(bars: pl.DataFrame) -> pl.DataFrame:
    """The market with the instant at which each bar was learned: its end."""
    return bars.with_columns(knowledge_time=pl.col("bar_start") + pl.duration(minutes=1)).select(LEARNED)


@pytest.mark.requirement("FE-01")
def test_corrections_change_no_feature_and_late_bars_count_once_they_are_known(bare, bars, tmp_path) -> None:
    path, out = tmp_path / "bars.parquet", tmp_path / "features.parquet"
    known = learned(bars)
    day = known["bar_start"].dt.date().unique().sort()[1]
    in_day = known.filter(pl.col("symbol") == "AAPL", pl.col("bar_start").dt.date() == day).sort("bar_start")
    corrected, late = in_day.row(50, named=True), in_day.row(100, named=True)
    noon = late["knowledge_time"] + timedelta(hours=1)
    correction = pl.DataFrame(
        [corrected | {"close": corrected["high"], "volume": 9.0, "knowledge_time": noon}], schema=known.schema
    )
    repeat = correction.with_columns(pl.col("knowledge_time") + pl.duration(minutes=5))
    came_late = pl.col("symbol").eq("AAPL") & pl.col("bar_start").eq(late["bar_start"])
    known = known.with_columns(
        knowledge_time=pl.when(came_late)
        .then(pl.lit(noon).cast(known.schema["knowledge_time"]))
        .otherwise("knowledge_time")
    )
    pl.concat([correction, known, repeat]).write_parquet(path)

    def asked(moment: object) -> tuple[pl.DataFrame, str]:
        answer = bare("features", path, "--as-of", moment, "--out", out)
        assert answer.exit_code == 0, answer.output
        return pl.read_parquet(out), " ".join(answer.output.split())

    before, said = asked((noon - timedelta(minutes=1)).isoformat())
    sessions = new_york_sessions(market_bars())

    def features_of(rows: pl.DataFrame) -> pl.DataFrame:
        return features_of_days(rows, rows["date"].unique().to_list(), sessions)

    whole = market_bars()
    until = whole.filter(pl.col("bar_start") + pl.duration(minutes=1) <= noon - timedelta(minutes=1))
    assert equal(before, features_of(until.filter(~came_late)))
    assert "not yet known" in said
    after, said = asked((noon + timedelta(days=30)).isoformat())
    assert equal(after, features_of(whole))  # revision 0 of the corrected bar; the late one now in its windows
    assert f"{whole.height + 1:,} bars (revisions included) + 0 refused + 1 duplicates" in said
    assert np.all(after["revision"].to_numpy() == 0)


def test_file_with_unreadable_knowledge_times_refuses_those_rows(bare, bars, tmp_path) -> None:
    rows = learned(bars.head(100)).with_columns(
        pl.col("knowledge_time").dt.to_string("iso:strict"), pl.col("bar_start").dt.to_string("iso:strict")
    )
    rows = rows.with_columns(
        knowledge_time=pl.when(pl.int_range(pl.len()) == 5).then(pl.lit("soon")).otherwise("knowledge_time")
    )
    rows.write_csv(tmp_path / "bars.csv")
    answer = bare("features", tmp_path / "bars.csv")
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    assert "100 rows in = 99 bars (revisions included) + 1 refused" in said
    assert "line 7" in said


def test_features_of_the_lake_as_known_at_an_instant_use_the_source_known_then(
    surveillance, platform, tmp_path
) -> None:
    out = tmp_path / "features.parquet"
    assert surveillance("features").exit_code == ExitCode.USAGE
    vendor = market_bars().with_columns(source=pl.lit("yfinance"))
    days = vendor["date"].unique().sort().to_list()
    newest: Any = vendor["knowledge_time"].max()
    noon = newest + timedelta(hours=1)
    own = market_bars().with_columns(
        pl.col("open", "high", "low", "close") * 2.0,
        source=pl.lit("file"),
        knowledge_time=pl.lit(noon).cast(vendor.schema["knowledge_time"]),
    )
    platform.lake.write_days("bars_landed", pl.concat([vendor, own]), days=days)
    platform.lake.write_days("bars_1m", own, days=days)
    assert surveillance("features", "--out", out).exit_code == 0
    assert pl.read_parquet(out)["date"].unique().to_list() == days[-1:]
    answer = surveillance("features", "--out", out, "--first", days[0])
    assert answer.exit_code == 0, answer.output
    assert pl.read_parquet(out)["source"].unique().to_list() == ["file"]
    answer = surveillance(
        "features", "--out", out, "--first", days[0], "--as-of", (noon - timedelta(minutes=1)).isoformat()
    )
    assert answer.exit_code == 0, answer.output
    found = pl.read_parquet(out)
    assert found["source"].unique().to_list() == ["yfinance"]
    assert equal(found, features_of_days(vendor, days, new_york_sessions(vendor)))
    assert f"{own.height:,} not yet known" in " ".join(answer.output.split())
