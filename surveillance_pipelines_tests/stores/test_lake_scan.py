"""Lakes in folders whose names are no plain URL: everything that is written is read back, from that folder only."""

from datetime import date, timedelta
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.locations import local_folder, require_addressable
from surveillance_pipelines.stores.lake import Lake

MONDAY = date(2024, 1, 15)
DAYS = [MONDAY + timedelta(offset) for offset in range(3)]
NAMES = (
    "plain", "a b", " lead", "trail ", "é", "e\u0301", "日本", "🚀", "a#b", "100%", "%", "%zz", "a=b",
    "date=2024-01-15", "symbol=X", "a+b", "it's", 'a"b', "a?b", "a*b", "**", "a:b", "file:", "a;b", "a&b", "{x}", "a,b",
    "a@b", "$HOME", "`x`", "<x>", "-x", "~x", "..x", "a!b", "(x)", "a\u00a0b", "a\u2028b",
)  # fmt: skip
REFUSED = {
    "[x]": "'['", "a]": "']'", "a%20b": "'%20'", "%2F": "'%2F'", "a\\b": "'\\\\'", "a^b": "'^'", "a|b": "'|'",
    "a\tb": "'\\t'", "a\nb": "'\\n'",
}  # fmt: skip


def rows(days: list[date], close: float = 1.0) -> pl.DataFrame:
    symbols = pl.DataFrame({"symbol": ["A", "B"], "close": [close, close]})
    return pl.DataFrame({"date": days}, schema={"date": pl.Date}).join(symbols, how="cross")


@pytest.mark.parametrize("name", NAMES)
def test_lake_in_any_folder_is_written_and_read_back(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "lake"
    folder.mkdir(parents=True)
    for other in ("aXb", "x"):  # a pattern would match them
        Lake(str(tmp_path / other / "lake")).write_days("bars", rows(DAYS, close=9.0), days=DAYS)
    require_addressable(folder, "LAKE_URL")
    lake = Lake(str(folder))
    lake.write_days("bars", rows(DAYS), days=DAYS)
    assert lake.append("bars", rows(DAYS[:1], close=2.0), batch_id="one")
    assert not lake.append("bars", rows(DAYS[:1], close=2.0), batch_id="one")
    lake.write_days("bars", rows(DAYS[2:], close=3.0), days=DAYS[2:])
    assert lake.read("bars").sort("date", "symbol", "close").rows() == [
        (DAYS[0], "A", 1.0), (DAYS[0], "A", 2.0), (DAYS[0], "B", 1.0), (DAYS[0], "B", 2.0),
        (DAYS[1], "A", 1.0), (DAYS[1], "B", 1.0), (DAYS[2], "A", 3.0), (DAYS[2], "B", 3.0),
    ]  # fmt: skip
    assert lake.read("bars", days=(DAYS[1], DAYS[2]), symbols=["B"])["close"].sort().to_list() == [1.0, 3.0]
    assert lake.read("bars", days=[DAYS[0], DAYS[2]], columns=["date"])["date"].unique().sort().to_list() == DAYS[::2]
    assert lake.read("bars", days=[]).is_empty()
    assert lake.read("bars", version=0)["close"].unique().to_list() == [1.0]
    assert lake.scan("bars").filter(pl.col("date") == DAYS[2]).collect()["close"].to_list() == [3.0, 3.0]
    opened = lake.open("bars")
    assert opened is not None
    assert opened.read(days=DAYS[1:2])["close"].to_list() == [1.0, 1.0]
    assert (lake.days("bars"), lake.problem("bars")) == (DAYS, None)
    assert {path.name for path in tmp_path.iterdir()} == {name, "aXb", "x"}
    next((folder / "bars").glob("date=2024-01-16/*.parquet")).unlink()
    assert "found no file" in (lake.problem("bars") or "")


def test_lake_in_an_odd_folder_whose_rows_were_all_replaced_is_empty(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "a b"))
    lake.write_days("bars", rows(DAYS), days=DAYS)
    lake.write_days("bars", rows([]), days=DAYS)
    assert lake.read("bars").schema == rows([]).schema
    assert lake.read("bars").is_empty()


def test_lake_in_an_odd_folder_reads_files_without_a_later_column(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "a=b"))
    lake.write_days("bars", rows(DAYS[:1]), days=DAYS[:1])
    later = rows(DAYS[1:2]).with_columns(market_centre=pl.lit("Q"))
    lake.write_days("bars", later, days=DAYS[1:2])
    assert lake.read("bars").sort("date")["market_centre"].to_list() == [None, None, "Q", "Q"]


@pytest.mark.parametrize("name", REFUSED)
def test_folder_that_delta_cannot_address_is_refused_by_its_character(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="set LAKE_URL to a folder with another path") as refused:
        require_addressable(tmp_path / name / "lake", "SURVEILLANCE_HOME")
    assert f"got {REFUSED[name]} in" in refused.value.message
    assert not list(tmp_path.iterdir())


def test_link_to_a_folder_is_judged_by_its_target(tmp_path: Path) -> None:
    (tmp_path / "[x]").mkdir()
    (tmp_path / "link").symlink_to("[x]")
    with pytest.raises(InvalidInputError):
        require_addressable(tmp_path / "link" / "lake", "LAKE_URL")


def test_url_of_a_file_is_a_folder() -> None:
    assert local_folder("file://" + quote("/a b/100%é")) == Path("/a b/100%é")
    assert local_folder("file://localhost/a") == local_folder("/a") == Path("/a")
    assert local_folder("s3://bucket/a") is None
