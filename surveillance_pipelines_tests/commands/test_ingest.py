from datetime import date
from pathlib import Path

import polars as pl
import pytest

from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines_tests.market.markets import SYMBOLS, market_bars

COLUMNS = ("symbol", "bar_start", "open", "high", "low", "close", "volume")


@pytest.fixture
def bars_file(tmp_path):
    path = tmp_path / "bars.parquet"
    market_bars().select(COLUMNS).write_parquet(path)
    return path


def test_ingest_path_without_a_subcommand_lands_the_file(surveillance, platform, bars_file) -> None:
    answer = surveillance("ingest", bars_file)
    assert answer.exit_code == 0, answer.output
    landed = platform.lake.read("bars_landed")
    assert landed.height == market_bars().height
    assert landed["source"].unique().to_list() == ["file"]
    assert landed["batch_id"].n_unique() == 1


def test_ingest_of_the_same_file_again_lands_nothing(surveillance, platform, bars_file) -> None:
    surveillance("ingest", bars_file)
    answer = surveillance("ingest", bars_file)
    assert answer.exit_code == 0
    assert f"0 landed + 0 refused + {market_bars().height:,} duplicates" in answer.output
    assert "no new bars" in answer.output
    assert "next:" not in answer.output
    assert platform.lake.read("bars_landed").height == market_bars().height


def test_ingest_of_an_overlapping_file_lands_only_what_is_new(surveillance, platform, tmp_path) -> None:
    days = market_bars()["date"].unique().sort().to_list()
    for name, last in (("a", days[1]), ("b", days[2])):
        market_bars().filter(pl.col("date") <= last).select(COLUMNS).write_csv(tmp_path / f"{name}.csv")
        assert surveillance("ingest", "file", tmp_path / f"{name}.csv").exit_code == 0
    landed = platform.lake.read("bars_landed")
    assert landed.height == market_bars().filter(pl.col("date") <= days[2]).height
    assert not landed.select("symbol", "bar_start").is_duplicated().any()


@pytest.mark.parametrize(
    "arguments",
    [
        ("file", "bars.csv", "--timeframe", "7q"),
        ("yahoo", "--start", "2024-01-01", "--end", "2024-01-02", "--interval", "7q"),
        ("yahoo", "--start", "2024-01-01", "--end", "2024-01-02", "--interval", "4h"),
    ],
)
def test_ingest_of_a_bar_size_that_does_not_exist_is_a_usage_error(bare, arguments) -> None:
    answer = bare("ingest", *arguments)
    assert answer.exit_code == ExitCode.USAGE
    assert f"'{arguments[-1]}' is not one of '1m'" in " ".join(answer.output.split())


def test_ingest_registers_instruments_and_sessions(surveillance, platform, bars_file) -> None:
    surveillance("ingest", bars_file)
    with platform.connect() as connection:
        symbols = [row[0] for row in connection.execute("SELECT symbol FROM surveillance.instruments ORDER BY 1")]
        known = connection.execute(
            "SELECT count(*) FROM surveillance.sessions WHERE calendar = 'XNYS' AND session_date = %s",
            (date(2024, 3, 6),),
        ).fetchone()
    assert symbols == sorted(SYMBOLS)
    assert known == (1,)


def test_ingest_refused_rows_become_dead_letters_and_are_counted(surveillance, platform, tmp_path) -> None:
    good = market_bars().select(COLUMNS).head(50)
    bad = good.head(3).with_columns(bar_start=pl.col("bar_start").dt.offset_by("1d"), close=pl.lit(-1.0))
    pl.concat([good, bad]).write_parquet(tmp_path / "mixed.parquet")
    answer = surveillance("ingest", tmp_path / "mixed.parquet")
    assert "53 rows in = 50 landed + 3 refused + 0 duplicates" in answer.output
    with platform.connect() as connection:
        letters = connection.execute("SELECT source, code FROM ops.dead_letters").fetchall()
        visit = connection.execute(
            "SELECT rows_in, rows_landed, rows_dead, rows_duplicate FROM surveillance.ingestion_runs"
        ).fetchall()
    assert letters == [("file", "out_of_bounds")] * 3
    assert visit == [(53, 50, 3, 0)]
    listed = surveillance("dead-letters", "list", "--code", "out_of_bounds")
    assert "out_of_bounds" in listed.output
    assert surveillance("dead-letters", "list", "--code", "out_of_bounds").exit_code == 0


def test_ingest_file_that_is_no_table_exits_with_usage(surveillance, tmp_path) -> None:
    (tmp_path / "bars.parquet").write_text("not parquet")
    answer = surveillance("ingest", tmp_path / "bars.parquet")
    assert answer.exit_code == ExitCode.USAGE
    assert "bars.parquet" in answer.output


def test_ingest_of_a_correction_of_a_correction_lands_all_three(surveillance, platform, tmp_path) -> None:
    for place, close in enumerate((10.0, 11.0, 10.0)):
        price_file(tmp_path / f"{place}.csv", close)
        assert surveillance("ingest", tmp_path / f"{place}.csv").exit_code == 0
    answer = surveillance("ingest", tmp_path / "2.csv")
    assert "0 landed + 0 refused + 1 duplicates" in " ".join(answer.output.split())
    landed = platform.lake.read("bars_landed").sort("knowledge_time")
    assert landed["close"].to_list() == [10.0, 11.0, 10.0]


def price_file(path: Path, close: float) -> None:
    header = "symbol,ts,open,high,low,close,volume"
    path.write_text(f"{header}\nAAPL,2024-03-06T14:30:00Z,10,12,9,{close},100\n")


@pytest.mark.requirement("ING-10")
def test_ingest_simulate_lands_the_same_market_for_the_same_seed(surveillance, platform) -> None:
    asked = ("ingest", "simulate", "--symbols", "AAPL,SPY", "--days", "2", "--last", "2024-03-08", "--seed", "3")
    assert surveillance(*asked).exit_code == 0
    first = platform.lake.read("bars_landed")
    assert first["source"].unique().to_list() == ["simulated"]
    assert "0 landed" in surveillance(*asked).output
    assert first.height == 2 * 2 * 390


def test_ingest_of_several_files_takes_every_one_and_says_once_what_is_next(surveillance, platform, tmp_path) -> None:
    days = market_bars()["date"].unique().sort().to_list()[:2]
    for name, day in zip(("a", "c"), days, strict=True):
        market_bars().filter(pl.col("date") == day).select(COLUMNS).write_csv(tmp_path / f"{name}.csv")
    (tmp_path / "b.csv").write_text(",".join(COLUMNS) + "\n")
    answer = surveillance("ingest", *(tmp_path / f"{name}.csv" for name in "abc"))
    assert answer.exit_code == ExitCode.USAGE
    assert "b.csv (0 rows)" in " ".join(answer.output.split())
    assert platform.lake.days("bars_landed") == days
    assert answer.output.count("next:") == 1
    assert f"`surveillance backfill {days[0]} {days[1]}`, then `surveillance train`" in answer.output


@pytest.mark.parametrize("command", [("ingest", "simulate", "--days", "1"), ("feed", "simulated")])
def test_symbols_that_no_queue_would_take_are_a_usage_error(surveillance, platform, command) -> None:
    answer = surveillance(*command, "--symbols", "AAPL,../x")
    assert answer.exit_code == ExitCode.USAGE
    assert "../X" in answer.output
    assert not platform.lake.exists("bars_landed")


def test_ingest_with_most_rows_refused_fails_and_lands_the_right_ones(surveillance, platform, tmp_path) -> None:
    good = market_bars().select(COLUMNS).head(10)
    bad = market_bars().select(COLUMNS).slice(10, 11).with_columns(close=pl.lit(-1.0))
    pl.concat([good, bad]).write_csv(tmp_path / "mixed.csv")
    answer = surveillance("ingest", tmp_path / "mixed.csv")
    assert answer.exit_code == ExitCode.USAGE
    said = " ".join(answer.output.split())
    assert "11 of 21 refused; line 12: expected close above 0, got -1.0" in said
    assert platform.lake.read("bars_landed").height == 10
    with platform.connect() as connection:
        reasons = connection.execute("SELECT reason FROM ops.dead_letters").fetchall()
    assert sorted(int(reason.split(":")[0].removeprefix("line ")) for (reason,) in reasons) == list(range(12, 23))


@pytest.mark.parametrize(
    ("header", "line", "remedy"),
    [
        ("ts,open,high,low,close", "2024-01-02T14:30:00Z,1,1,1,1", "--symbol SPY"),
        ("ts,symbol,open,high,low,close", "2024-01-02 09:30:00,A,1,1,1,1", "--tz America/New_York"),
    ],
)
@pytest.mark.parametrize("command", [("ingest",), ("detect",), ("feed",)])
def test_a_file_that_lacks_something_is_answered_with_the_option(
    surveillance, tmp_path, command, header, line, remedy
) -> None:
    (tmp_path / "bars.csv").write_text(f"{header}\n{line}\n")
    answer = surveillance(*command, tmp_path / "bars.csv")
    assert answer.exit_code == ExitCode.USAGE
    assert f"what to do: `{remedy}" in " ".join(answer.output.split())


def test_ingest_yahoo_minutes_older_than_yahoo_keeps_are_a_usage_error(surveillance) -> None:
    answer = surveillance("ingest", "yahoo", "--symbols", "AAPL", "--start", "2024-03-04", "--end", "2024-03-08")
    assert answer.exit_code == ExitCode.USAGE
    assert "Yahoo keeps 1m bars for 30 days" in " ".join(answer.output.split())
    assert "from Yahoo Finance" not in answer.output
