"""The lake: real Delta tables in a folder, and in the bucket of the local S3."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from surveillance_pipelines.clock import SYSTEM_CLOCK, now
from surveillance_pipelines.contracts.errors import NotFoundError
from surveillance_pipelines.contracts.frames import BAR_SCHEMA, UTC_MICROSECONDS
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.stores import lake as lake_module
from surveillance_pipelines.stores.lake import Lake, LostLogError, SchemaMismatchError
from surveillance_pipelines_tests.features.bars import market_bars
from surveillance_pipelines_tests.storage_fixtures import sqs_client

SCHEMA = pl.Schema({"date": pl.Date, "symbol": pl.String, "bar_start": UTC_MICROSECONDS, "close": pl.Float64})
MONDAY = date(2024, 1, 15)
TUESDAY, WEDNESDAY = MONDAY + timedelta(1), MONDAY + timedelta(2)

_APPENDER = """
import sys
from surveillance_pipelines.contracts.errors import NotFoundError
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines_tests.stores.test_lake import MONDAY, bars
lake, batches = Lake(sys.argv[1]), sys.argv[2:]
print("ready", flush=True)
sys.stdin.readline()
for batch in batches:
    print(batch, lake.append("bars", bars([MONDAY], close=float(batch)), batch_id=batch), flush=True)
"""

_REPLACER = """
import sys
from datetime import date
from surveillance_pipelines.contracts.errors import NotFoundError
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines_tests.stores.test_lake import bars
lake, days = Lake(sys.argv[1]), [date.fromisoformat(day) for day in sys.argv[3:]]
print("ready", flush=True)
sys.stdin.readline()
for day in days:
    lake.write_days("bars", bars([day], close=float(sys.argv[2])), days=[day])
"""

_WRITER_OF_MANY_DAYS = """
import sys
from datetime import date, timedelta
from pathlib import Path
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines_tests.stores.test_lake import bars_with_all_columns
lake, days = Lake(sys.argv[1]), [date(2004, 1, 1) + timedelta(n) for n in range(2_000)]
frame = bars_with_all_columns(days)
def peak():
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) // 1024
before = peak()
lake.append("landed", frame, batch_id="a")
lake.write_days("daily", frame, days=days)
lake.write_days("daily", frame, days=days)
print(peak() - before)
"""


def bars_with_all_columns(days: Sequence[date]) -> pl.DataFrame:
    """A daily bar per symbol and day, with every column of ``BAR_SCHEMA``."""
    raw = pl.DataFrame({"day": days}).join(pl.DataFrame({"symbol": ["A", "B", "C"]}), how="cross")
    starts = pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    prices = {name: pl.int_range(pl.len()).cast(pl.Float64) + 100.0 for name in ("open", "high", "low", "close")}
    columns = raw.select("symbol", bar_start=starts, **prices, volume=pl.lit(1_000.0))
    return complete_bars(columns, source="file", adjustment="none", timeframe="1d", batch_id="test")


def bars(days: Sequence[date], *, close: float = 1.0, symbols: Sequence[str] = ("B", "A")) -> pl.DataFrame:
    """Two bars per day and symbol, not in order."""
    rows = [
        (day, symbol, datetime(day.year, day.month, day.day, 15, minute, tzinfo=UTC), close)
        for day in days
        for symbol in symbols
        for minute in (31, 30)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def closes(lake: Lake, day: date) -> list[float]:
    return lake.read("bars", days=[day])["close"].unique().sort().to_list()


def test_read_table_that_does_not_exist_gives_the_schema_asked_for_or_an_error(lake: Lake) -> None:
    assert not lake.exists("bars")
    assert lake.version("bars") is None
    assert lake.days("bars") == []
    assert lake.read("bars", schema=SCHEMA).schema == SCHEMA
    assert lake.read("bars", schema=SCHEMA, columns=["close"]).schema == {"close": pl.Float64}
    with pytest.raises(NotFoundError, match="bars"):
        lake.read("bars")


@pytest.mark.requirement("ING-15")
def test_write_days_rows_come_back_in_order_with_their_types(lake: Lake) -> None:
    written = bars([TUESDAY, MONDAY])
    assert lake.write_days("bars", written, days=[MONDAY, TUESDAY]) == 0
    found = lake.read("bars")
    assert found.schema == SCHEMA
    assert found.sort(found.columns).equals(written.sort(written.columns))
    one_day = lake.read("bars", days=[MONDAY])
    assert one_day.equals(one_day.sort("symbol", "bar_start"))
    assert lake.days("bars") == [MONDAY, TUESDAY]


def test_write_days_replaces_its_days_and_no_other(lake: Lake) -> None:
    lake.write_days("bars", bars([MONDAY, TUESDAY, WEDNESDAY]), days=[MONDAY, TUESDAY, WEDNESDAY])
    assert lake.write_days("bars", bars([MONDAY], close=2.0), days=[MONDAY, WEDNESDAY]) == 1
    assert lake.days("bars") == [MONDAY, TUESDAY]
    assert (closes(lake, MONDAY), closes(lake, TUESDAY)) == ([2.0], [1.0])
    assert lake.read("bars", version=0).height == 12


def test_write_days_no_rows_and_no_days_leave_the_table_as_it_is(lake: Lake) -> None:
    lake.write_days("bars", bars([MONDAY]), days=[MONDAY])
    assert lake.write_days("bars", bars([]), days=[]) == 0
    assert lake.read("bars").height == 4


def test_write_days_returns_the_version_that_it_wrote(lake: Lake) -> None:
    versions = [lake.write_days("bars", bars([MONDAY]), days=[MONDAY])]
    assert versions == [lake.version("bars")] == [0]
    for frame, days in ((bars([TUESDAY]), [TUESDAY]), (bars([]), [WEDNESDAY]), (bars([]), [MONDAY]), (bars([]), [])):
        assert lake.write_days("bars", frame, days=days) == lake.version("bars")


def test_read_version_of_last_year_is_there_after_the_log_was_tidied(lake: Lake) -> None:
    lake.write_days("bars", bars([MONDAY], close=1.0), days=[MONDAY])
    lake.write_days("bars", bars([MONDAY], close=2.0), days=[MONDAY])
    for entry in (Path(lake.url) / "bars" / "_delta_log").iterdir():
        os.utime(entry, (0, now().timestamp() - 365 * 86_400))
    lake.write_days("bars", bars([MONDAY], close=3.0), days=[MONDAY])
    table = DeltaTable(f"{lake.url}/bars")
    table.create_checkpoint()
    table.cleanup_metadata()  # delta-rs does both by itself every hundred commits
    assert lake.read("bars", version=0)["close"].unique().to_list() == [1.0]


def test_write_days_row_of_another_day_is_refused_and_nothing_written(lake: Lake) -> None:
    with pytest.raises(ValueError, match="2024, 1, 16"):
        lake.write_days("bars", bars([MONDAY, TUESDAY]), days=[MONDAY])
    assert not lake.exists("bars")


def test_write_days_other_columns_are_refused_by_name_and_columns_in_another_order_fit(lake: Lake) -> None:
    lake.write_days("bars", bars([MONDAY]), days=[MONDAY])
    changed = bars([MONDAY]).with_columns(close=pl.lit(1), note=pl.lit("x"))
    with pytest.raises(SchemaMismatchError, match=r"close: expected Float64, got Int32; note: expected no such"):
        lake.write_days("bars", changed, days=[MONDAY])
    with pytest.raises(SchemaMismatchError, match="symbol: expected String, got no such column"):
        lake.append("bars", bars([MONDAY]).drop("symbol"), batch_id="b")
    reordered = bars([MONDAY], close=3.0).select("close", "bar_start", "symbol", "date")
    lake.write_days("bars", reordered, days=[MONDAY])
    assert lake.read("bars").columns == SCHEMA.names()
    assert closes(lake, MONDAY) == [3.0]


def test_read_filters_by_range_set_symbol_and_column(lake: Lake) -> None:
    lake.write_days("bars", bars([MONDAY, TUESDAY, WEDNESDAY]), days=[MONDAY, TUESDAY, WEDNESDAY])
    assert lake.read("bars", days=(MONDAY, WEDNESDAY))["date"].n_unique() == 3
    assert lake.read("bars", days=[MONDAY, WEDNESDAY])["date"].unique().sort().to_list() == [MONDAY, WEDNESDAY]
    assert lake.read("bars", days=set()).is_empty()
    found = lake.read("bars", days=(MONDAY, TUESDAY), symbols=["A"], columns=["close", "symbol"])
    assert found.columns == ["close", "symbol"]
    assert (found.height, found["symbol"].unique().to_list()) == (4, ["A"])
    assert lake.scan("bars").filter(pl.col("date") == MONDAY).collect().height == 4


def test_append_same_batch_twice_adds_it_once(lake: Lake) -> None:
    assert lake.append("bars", bars([MONDAY]), batch_id="one")
    assert not lake.append("bars", bars([MONDAY], close=9.0), batch_id="one")
    assert lake.append("bars", bars([MONDAY], close=2.0), batch_id="two")
    assert not lake.append("bars", bars([MONDAY], close=9.0), batch_id="one")
    assert closes(lake, MONDAY) == [1.0, 2.0]


def test_append_after_days_were_replaced_still_knows_its_batch(lake: Lake) -> None:
    lake.append("bars", bars([MONDAY]), batch_id="one")
    lake.write_days("bars", bars([MONDAY], close=5.0), days=[MONDAY])
    assert not lake.append("bars", bars([MONDAY]), batch_id="one")


def test_append_concurrent_writers_of_the_same_batches_add_each_once(lake: Lake) -> None:
    batches = [str(number) for number in range(8)]
    outputs = _run_together([_start(_APPENDER, lake, *batches) for _ in range(2)])
    assert sum(line.endswith("True") for output in outputs for line in output.splitlines()) == len(batches)
    counts = lake.read("bars").group_by("close").len()
    assert sorted(counts.rows()) == [(float(batch), 4) for batch in batches]


def test_append_killed_in_the_middle_and_repeated_adds_each_batch_once(lake: Lake) -> None:
    batches = [str(number) for number in range(40)]
    for stop_after in ("3", "17"):
        process = _start(_APPENDER, lake, *batches)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        while process.stdout.readline().split()[0] != stop_after:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
    for batch in batches:
        lake.append("bars", bars([MONDAY], close=float(batch)), batch_id=batch)
    counts = lake.read("bars").group_by("close").len()
    assert sorted(counts.rows()) == [(float(batch), 4) for batch in batches]


def test_write_days_concurrent_writers_leave_each_day_whole(lake: Lake) -> None:
    days = [(MONDAY + timedelta(offset)).isoformat() for offset in range(4)]
    _run_together([_start(_REPLACER, lake, close, *order) for close, order in (("1", days), ("2", days[::-1]))])
    assert lake.read("bars").height == 16
    assert all(len(closes(lake, date.fromisoformat(day))) == 1 for day in days)


@pytest.mark.requirement("ING-15")
def test_lake_in_a_bucket_writes_replaces_and_appends_once(services: EmbeddedServices) -> None:
    bucket = f"lake-{uuid.uuid4().hex[:8]}"
    _make_bucket(services, bucket)
    options = {
        "AWS_ENDPOINT_URL": services.queue_endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": str(services.queue_credentials.access_key_id),
        "AWS_SECRET_ACCESS_KEY": str(services.queue_credentials.secret_access_key),
    }
    lake = Lake(f"s3://{bucket}/surveillance", options)
    assert not lake.exists("bars")
    lake.write_days("bars", bars([MONDAY, TUESDAY]), days=[MONDAY, TUESDAY])
    lake.write_days("bars", bars([MONDAY], close=2.0), days=[MONDAY])
    assert lake.append("bars", bars([TUESDAY], close=3.0), batch_id="one")
    assert not lake.append("bars", bars([TUESDAY], close=3.0), batch_id="one")
    assert lake.days("bars") == [MONDAY, TUESDAY]
    assert (closes(lake, MONDAY), closes(lake, TUESDAY)) == ([2.0], [1.0, 3.0])
    assert str(services.queue_credentials.secret_access_key) not in repr(lake)
    opened = lake.quick().open("bars")
    assert opened is not None
    opened.refresh()
    assert opened.read(days=[MONDAY])["close"].unique().to_list() == [2.0]


def _make_bucket(services: EmbeddedServices, name: str) -> None:
    sqs_client(services.queue_endpoint, services.queue_credentials, "s3").create_bucket(Bucket=name)


def _start(script: str, lake: Lake, *arguments: str) -> subprocess.Popen[str]:
    """Start a writer and wait until it stands at the line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, lake.url, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _run_together(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return outputs


def test_table_of_an_earlier_release_gets_the_later_columns_with_the_next_write(lake: Lake) -> None:
    old = market_bars(seed=1, count=30, symbols=("AAA",)).drop("market_centre")
    days = sorted(old["date"].unique())
    lake.write_days("bars", old, days=days)
    assert lake.read("bars", schema=BAR_SCHEMA)["market_centre"].null_count() == len(old)
    later = old.filter(pl.col("date") == days[-1]).with_columns(market_centre=pl.lit("median"))
    lake.write_days("bars", later, days=days[-1:])
    lake.append("bars", later, batch_id="again")
    read = lake.read("bars", schema=BAR_SCHEMA).sort("bar_start")
    assert read.schema == BAR_SCHEMA
    assert set(read.filter(pl.col("date") == days[-1])["market_centre"]) == {"median"}
    assert read.filter(pl.col("date") < days[-1])["market_centre"].null_count() == old.height - later.height
    assert lake.read("bars", schema=BAR_SCHEMA, version=0).schema == BAR_SCHEMA


@pytest.mark.parametrize("emptied", [False, True], ids=["lost", "emptied"])
def test_table_without_its_log_is_damaged_and_not_written_anew(lake: Lake, *, emptied: bool) -> None:
    lake.write_days("bars", bars([MONDAY]), days=[MONDAY])
    log = Path(lake.url) / "bars" / "_delta_log"
    log.rename(log.with_name("saved"))
    if emptied:
        log.mkdir()
    for call in (
        lambda: lake.read("bars"),
        lambda: lake.write_days("bars", bars([MONDAY]), days=[MONDAY]),
        lambda: lake.append("bars", bars([MONDAY]), batch_id="1"),
    ):
        with pytest.raises(LostLogError, match=f"expected the log of the lake's table bars in {log}, found only data"):
            call()
    assert "found only data files" in (lake.problem("bars") or "")
    if emptied:
        log.rmdir()
    log.with_name("saved").rename(log)
    assert lake.problem("bars") is None


def test_emptied_commit_is_named(lake: Lake) -> None:
    for close in (1.0, 2.0):
        lake.write_days("bars", bars([MONDAY], close=close), days=[MONDAY])
    commit = Path(lake.url) / "bars" / "_delta_log" / f"{1:020}.json"
    commit.write_bytes(b"")
    assert lake.problem("bars") == f"expected a commit in _delta_log/{commit.name}, found an empty file"


def test_first_write_that_crashed_before_its_commit_can_be_repeated(lake: Lake, monkeypatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    write = lake_module.write_deltalake
    monkeypatch.setattr(lake_module, "write_deltalake", crash)
    with pytest.raises(OSError, match="no space left"):
        lake.write_days("bars", bars([MONDAY]), days=[MONDAY])
    monkeypatch.setattr(lake_module, "write_deltalake", write)
    folder = Path(lake.url) / "bars" / f"date={MONDAY}"
    folder.mkdir()
    (folder / "part-0.parquet").write_bytes(b"of the write that crashed")
    assert not lake.exists("bars")
    lake.write_days("bars", bars([MONDAY]), days=[MONDAY])
    assert closes(lake, MONDAY) == [1.0]


def test_write_of_many_days_needs_little_memory_per_day(lake: Lake) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WRITER_OF_MANY_DAYS, lake.url], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 400, "MB above the frame itself; with dictionaries in each file, it is 800 MB"
    assert lake.version("landed") == 0
    assert lake.version("daily") == 1
    days = lake.days("landed")
    assert len(days) == 2_000
    expected = bars_with_all_columns(days)
    for table in ("landed", "daily"):
        assert lake.read(table).sort("date", "symbol").select(expected.columns).equals(expected.sort("date", "symbol"))
    assert not lake.append("landed", expected, batch_id="a")


def test_other_threads_run_while_an_object_store_does_not_answer() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "eu-west-1", "timeout": "2s",
                   "retry_timeout": "1s", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}  # fmt: skip
        lake = Lake("s3://bucket/lake", options)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(lake.open, "bars")
            SYSTEM_CLOCK.sleep(0.2)
            assert not call.done(), "the call held Python's lock until it ended"
            with pytest.raises(OSError, match="Generic S3 error"):
                call.result()
