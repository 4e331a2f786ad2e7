import json

import polars as pl
import pytest

from surveillance_pipelines.batch.scoring import SCORES_SCHEMA
from surveillance_pipelines.clock import to_us
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.contracts.outputs import Anomaly, column_names
from surveillance_pipelines_tests.market.markets import market_bars, minute
from surveillance_pipelines_tests.models.edited_bundles import write_v2
from surveillance_pipelines_tests.training.single_injection import inject
from surveillance_pipelines_tests.training.tiny_bundle import TINY_FIRST, TINY_LAST, build_tiny_bundle, tiny_market

COLUMNS = ("symbol", "bar_start", "open", "high", "low", "close", "volume")


@pytest.fixture
def spiked(tmp_path):
    """A file of bars with one volume spike that nobody misses."""
    start = minute(18, 0).replace(day=8)
    planted = inject(market_bars(), "volume_spike", ("AAPL", to_us(start)), 60.0, seed=1)
    path = tmp_path / "bars.parquet"
    planted.bars.select(COLUMNS).write_parquet(path)
    return path, start


@pytest.mark.requirement("SCH-05")
def test_detect_file_finds_the_planted_spike_and_writes_the_row_contract(bare, spiked, tmp_path) -> None:
    path, start = spiked
    answer = bare("detect", path, "--out", tmp_path / "found.parquet", "--plot", tmp_path / "found.png", "--warmup")
    assert answer.exit_code == 0, answer.output
    found = pl.read_parquet(tmp_path / "found.parquet")
    assert tuple(found.columns) == (*column_names(Anomaly), "outside_training", "training_unknown")
    assert found["outside_training"].is_null().all()  # rules are not trained
    hit = found.filter(pl.col("symbol") == "AAPL", pl.col("bar_start") == start)
    assert hit["kind"].to_list() == ["volume_spike"]
    assert hit["warmup"].all()
    assert json.loads(hit["explanation"][0])
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "home").exists()


@pytest.mark.requirement("INF-01", "FE-03", "ING-11")
def test_detect_named_symbols_and_lookback_reports_only_those_bars(bare, spiked, tmp_path) -> None:
    path, _ = spiked
    newest = market_bars().filter(pl.col("symbol") == "AAPL").sort("bar_start")["bar_start"].tail(30)
    bare("detect", path, "--warmup", "--symbols", "AAPL", "--lookback", "30", "--out", tmp_path / "few.parquet")
    assert pl.read_parquet(tmp_path / "few.parquet").filter(pl.col("bar_start") < newest[0]).is_empty()
    bare("detect", path, "--warmup", "--symbols", "MSFT", "--out", tmp_path / "other.parquet")
    assert set(pl.read_parquet(tmp_path / "other.parquet")["symbol"]) <= {"MSFT"}


@pytest.mark.requirement("INF-01")
def test_detect_without_a_file_scores_the_bars_of_the_lake(surveillance, platform, tmp_path) -> None:
    answer = surveillance("detect", "--symbols", "AAPL", "--warmup")
    assert answer.exit_code == ExitCode.USAGE
    assert "surveillance ingest" in answer.output
    platform.lake.write_days("bars_1m", market_bars(), days=market_bars()["date"].unique().to_list())
    answer = surveillance("detect", "--symbols", "AAPL", "--lookback", "60", "--warmup")
    assert answer.exit_code == 0, answer.output


def test_detect_bars_of_hours_are_refused_with_the_reason(bare, tmp_path) -> None:
    hours = market_bars().filter(pl.col("bar_start").dt.minute() == 0).select(COLUMNS)
    hours.write_parquet(tmp_path / "hours.parquet")
    answer = bare("detect", tmp_path / "hours.parquet")
    assert answer.exit_code == ExitCode.USAGE
    assert "1-minute" in answer.output


def test_detect_bundle_that_is_none_exits_with_usage(bare, spiked, tmp_path) -> None:
    answer = bare("detect", spiked[0], "--bundle", tmp_path)
    assert answer.exit_code == ExitCode.USAGE
    assert "Traceback" not in answer.output


@pytest.mark.parametrize(
    ("option", "name"), [("--out", "x.xlsx"), ("--scores", "x.txt"), ("--plot", "x.csv"), ("--plot", "x")]
)
def test_detect_into_a_file_of_another_format_is_said_before_the_work(bare, spiked, tmp_path, option, name) -> None:
    answer = bare("detect", spiked[0], "--warmup", option, tmp_path / name)
    assert answer.exit_code == ExitCode.USAGE
    assert option in answer.output
    assert f"got {name}" in " ".join(answer.output.replace("│", " ").split())
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("option", "name"), [("--out", "x.csv"), ("--scores", "x.csv"), ("--plot", "x.png")])
def test_detect_into_a_folder_that_is_not_there_is_said_before_the_work(bare, spiked, tmp_path, option, name) -> None:
    path, _ = spiked
    answer = bare("detect", path, "--warmup", option, tmp_path / "nowhere" / name)
    assert answer.exit_code == ExitCode.USAGE
    assert option in answer.output
    assert "scored by" not in answer.output


def test_detect_from_a_day_after_the_last_bar_says_which_is_the_last(surveillance, platform) -> None:
    bars = market_bars()
    platform.lake.write_days("bars_1m", bars, days=bars["date"].unique().to_list())
    answer = surveillance("detect", "--first", "2030-01-01", "--warmup")
    assert answer.exit_code == ExitCode.USAGE
    assert str(bars["date"].max()) in answer.output


def test_detect_with_a_bundle_says_its_days_and_warns_where_they_were_simulated(
    surveillance, platform, tmp_path
) -> None:
    build_tiny_bundle(tmp_path / "v1")
    market_bars().filter(pl.col("symbol") == "AAPL").select(COLUMNS).write_parquet(tmp_path / "bars.parquet")
    asked = ("detect", tmp_path / "bars.parquet", "--lookback", "30", "--bundle", tmp_path / "v1")
    answer = surveillance(*asked)
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    assert "bars of 1 symbol, scored by the bundle " in said
    assert f", trained on {TINY_FIRST} to {TINY_LAST}" in said
    assert "simulated" not in said
    bars, _ = tiny_market()
    platform.lake.write_days("bars_1m", bars, days=bars["date"].unique().to_list())
    warned = " ".join(surveillance(*asked).output.split())
    assert f"trained on simulated bars (AAPL, MSFT, SPY up to {TINY_LAST})" in warned


@pytest.fixture
def mixed(tmp_path, spiked):
    """A file of a stock that the tiny bundle knows, and of a coin with prices near 1.2e-6."""
    bars = pl.read_parquet(spiked[0]).filter(pl.col("symbol") == "AAPL")
    prices = [(pl.col(name) * 1e-8).alias(name) for name in ("open", "high", "low", "close")]
    coin = bars.with_columns(*prices, symbol=pl.lit("SHIB-USD"))
    pl.concat([bars, coin]).write_parquet(tmp_path / "mixed.parquet")
    return tmp_path / "mixed.parquet"


def test_detect_bars_outside_the_training_data_says_so_in_the_text_and_on_each_row(bare, mixed, tmp_path) -> None:
    build_tiny_bundle(tmp_path / "v1")
    answer = bare("detect", mixed, "--bundle", tmp_path / "v1", "--out", tmp_path / "found.parquet",
                  "--scores", tmp_path / "scores.parquet")  # fmt: skip
    assert answer.exit_code == 0, answer.output
    found, scores = pl.read_parquet(tmp_path / "found.parquet"), pl.read_parquet(tmp_path / "scores.parquet")
    said = " ".join(answer.output.split())
    coin, stock = pl.col("symbol") == "SHIB-USD", pl.col("symbol") == "AAPL"
    alerts, bars = found.filter(coin).height, scores.filter(coin).height
    assert alerts > 1
    assert (
        "outside the training data: SHIB-USD (symbol, calendar 24/7, asset class crypto): "
        f"{alerts:,} anomalies on {bars:,} bars. "
        "The models were trained on 3 symbols, calendar XNYS, asset class equity"
    ) in said
    late = pl.col("bar_start").dt.date() > TINY_LAST
    days = scores.filter(late)
    assert (
        f"outside the training days, {TINY_FIRST} to {TINY_LAST}: 2024-03-12 to 2024-03-13, "
        f"{found.filter(late).height:,} anomalies on {days.height:,} bars"
    ) in said
    assert set(found.filter(coin & ~late)["outside_training"]) == {"symbol, calendar, asset_class"}
    assert set(scores.filter(coin & late)["outside_training"]) == {"symbol, calendar, asset_class, day"}
    assert set(scores.filter(stock & late)["outside_training"]) == {"day"}
    assert scores.filter(stock & ~late)["outside_training"].is_null().all()
    assert scores["training_unknown"].is_null().all()
    explained = json.loads(found.filter(coin)["explanation"][0])
    assert explained["outside_training"] == {"symbol": "SHIB-USD", "calendar": "24/7", "asset_class": "crypto"}
    price = found.sort("score", descending=True).filter(coin)["price"][0]
    assert 1e-7 < price < 1e-5
    assert f" {price:.11f}".rstrip("0") in said, "significant digits, no exponent"


def test_detect_scores_are_one_row_per_bar_in_every_format(bare, spiked, tmp_path) -> None:
    path, start = spiked
    names = ("s.parquet", "s.csv", "s.ndjson")
    for name in names:
        answer = bare("detect", path, "--warmup", "--symbols", "AAPL", "--scores", tmp_path / name)
        assert answer.exit_code == 0, answer.output
        assert "wrote the scores of 2,340 bars to " in " ".join(answer.output.split())
    whole = pl.read_parquet(tmp_path / names[0])
    assert tuple(whole.columns) == (*SCORES_SCHEMA.names(), "outside_training", "training_unknown")
    bars = pl.read_parquet(path).filter(pl.col("symbol") == "AAPL").sort("bar_start")
    assert whole["bar_start"].to_list() == bars["bar_start"].to_list()
    assert whole.filter(pl.col("bar_start") == start)["is_anomaly"].to_list() == [True]
    assert not whole["is_anomaly"].all()
    for other in (pl.read_csv(tmp_path / names[1]), pl.read_ndjson(tmp_path / names[2])):
        assert other["anomaly_score"].to_list() == whole["anomaly_score"].to_list()


def test_detect_with_an_earlier_bundle_says_that_its_training_data_is_not_recorded(bare, spiked, tmp_path) -> None:
    answer = bare("detect", spiked[0], "--bundle", write_v2(tmp_path / "v2"), "--out", tmp_path / "found.csv")
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    assert "the bundle does not record symbol, calendar, asset class" in said
    assert "outside the training data" not in said
    unknown = pl.read_csv(tmp_path / "found.csv")["training_unknown"].unique().to_list()
    assert unknown == ["symbol, calendar, asset_class, day"]


def test_detect_shows_every_symbol_or_says_how_many_are_left_out(bare, tmp_path) -> None:
    one = market_bars().filter(pl.col("symbol") == "AAPL").select(COLUMNS).head(200)
    for count in (9, 62):
        many = pl.concat([one.with_columns(symbol=pl.lit(f"S{n:03d}")) for n in range(count)])
        many.write_parquet(tmp_path / "many.parquet")
        answer = bare("detect", tmp_path / "many.parquet", "--warmup", "--plot", tmp_path / "many.png")
        assert answer.exit_code == 0, answer.output
        said = " ".join(answer.output.split())
        assert f"{count} symbols" in said
        assert all(f"S{n:03d}" in said for n in range(min(count, 60)))
        assert f"left out of the chart, which has room for 6: S006, S007, S008{', S009' if count > 9 else ''}" in said
        assert ("left out of the table: 2 symbols with 0 anomalies, S060, S061" in said) == (count > 60)


def test_detect_uses_registered_calendars_and_names_the_assumed_ones(surveillance, platform, tmp_path) -> None:
    bars = market_bars().filter(pl.col("symbol") == "AAPL").select(COLUMNS).head(200)
    symbols = ("600519.SS", "BTC-EUR", "KNOWN", "NEW")
    pl.concat([bars.with_columns(symbol=pl.lit(name)) for name in symbols]).write_parquet(tmp_path / "bars.parquet")
    assert surveillance("instruments", "add", "KNOWN", "600519.SS").exit_code == 0
    assert surveillance("instruments", "set", "KNOWN", "--calendar", "XLON").exit_code == 0
    asked = ("detect", tmp_path / "bars.parquet", "--warmup")
    said = surveillance(*asked).output
    for found in ("XSHG (suffix)", "24/7 (crypto pair)", "XLON (stated)", "XNYS (default)"):
        assert found in said, said
    assert "the calendar of NEW is assumed to be DEFAULT_CALENDAR; if it is another one" in " ".join(said.split())
    stated = surveillance(*asked, "--calendar", "XTSE").output
    assert stated.count("XTSE (stated)") == len(symbols)
    assert "assumed" not in stated
    read = surveillance("ingest", tmp_path / "bars.parquet", "--dry-run", "--calendar", "XTSE").output
    assert "XLON (as stated)" in read, "a registered symbol keeps its calendar"
    assert "XTSE (as stated)" in read
