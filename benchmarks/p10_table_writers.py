"""P10: ten producers fill one table, through the ledger and a single lake writer, or as ten deltalake writers."""

import tempfile
import time
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Final

import polars as pl
from deltalake import write_deltalake

from benchmarks.harness import Arm, Comparison, Goal, Parity, prove
from benchmarks.live_lane import services_of
from benchmarks.table_producers import (
    APPENDS,
    PRODUCERS,
    ROWS,
    Load,
    append_through_ledger,
    append_with_deltalake,
    counters,
    producing,
    ticks_frame,
)
from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.stores.database import connect, ensure_database, migrate, with_database
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.live_rows import read_ticks
from surveillance_pipelines_tests.storage_fixtures import service_settings

TABLE: Final = "ticks"
FIRST_DAY: Final = date(2024, 1, 1)
WRITE_EVERY_SECONDS: Final = 0.25
_COMPARED: Final = ("symbol", "event_time", "price", "volume", "source_message_id")


class Bench:
    """Both arms over one PostgreSQL and one folder; each round writes another day."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self._database_url = database_url
        self._folder = folder
        self._lake = Lake(str(folder / "lake"))
        self._days = (FIRST_DAY + timedelta(days=i) for i in count())
        self.lost = self.doubled = self.raised = self.anchor_lost = 0

    def through_the_writer(self, load: Load) -> pl.DataFrame:
        """Let the producers commit while one writer copies the day to the lake; return the rows in the lake."""
        with (
            connect(self._database_url, autocommit=True) as connection,
            producing(append_through_ledger, load, self._database_url) as (barrier, processes),
        ):
            barrier.wait()
            self._begin = time.perf_counter()
            moving = True
            while moving:
                moving = any(
                    process.is_alive() for process in processes
                )  # checked first, so that the last write includes all rows
                ticks = read_ticks(connection, load.day, load.day)
                self._lake.write_days(TABLE, ticks, days=[load.day])
                if moving:
                    SYSTEM_CLOCK.sleep(WRITE_EVERY_SECONDS)
            landed = self._lake.read(TABLE, days=[load.day])
            self._seconds = time.perf_counter() - self._begin
        return landed

    def with_deltalake(self, load: Load) -> pl.DataFrame:
        """Let each producer append to a new table; return the rows in the table."""
        uri = str(self._folder / f"direct-{load.day}-{load.appends}")
        write_deltalake(uri, ticks_frame(load, 0, range(0)), partition_by="date")
        raised = counters(load)
        with producing(append_with_deltalake, load, uri, raised) as (barrier, _):
            barrier.wait()
            self._begin = time.perf_counter()
        landed = pl.read_delta(uri)
        self._seconds = time.perf_counter() - self._begin
        self.raised += sum(raised)
        self.anchor_lost += load.rows - len(landed)
        return landed

    def ours(self) -> Arm:
        def arm() -> float:
            load = Load(next(self._days))
            landed = self.through_the_writer(load)["source_message_id"]
            self.lost += load.rows - landed.n_unique()
            self.doubled += len(landed) - landed.n_unique()
            return self._seconds / landed.n_unique()

        return arm

    def anchor(self) -> Arm:
        def arm() -> float:
            landed = len(self.with_deltalake(Load(next(self._days))))
            return self._seconds / landed

        return arm

    def parity(self) -> Parity:
        """Compare the tables written by a single producer, which has no conflicts: they must contain the same ticks."""
        load = Load(next(self._days), appends=20, producers=1)
        tables = [self.through_the_writer(load), self.with_deltalake(load)]
        ours, theirs = (table.select(_COMPARED).sort(_COMPARED) for table in tables)
        return Parity(passed=ours.equals(theirs), statement=f"one producer's {len(ours)} ticks equal, column by column")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with services_of(service_settings(folder / "services")) as services:
            ensure_database(services.server_url, "proof")
            url = with_database(services.server_url, "proof")
            migrate(url)
            _prove(Bench(url, folder))


def _prove(bench: Bench) -> None:
    prove(
        Comparison(
            name="p10_deltalake_writers",
            work=f"{PRODUCERS} processes append {APPENDS} micro-batches of {ROWS} ticks each to one Delta table",
            ours="each micro-batch a durable transaction of stores/ledger.py in PostgreSQL; one writer moves the day "
            f"to the lake with write_days, every {WRITE_EVERY_SECONDS:g} s and once after the last",
            anchor=f"{PRODUCERS} processes with write_deltalake(mode='append') and its defaults",
            distributions=("deltalake",),
            unit="s per row that landed",
            goal=Goal(ratio=5.0, limits={"rows_lost": 0.0, "rows_twice": 0.0}),
            notes=(
                "time from the common start of all producers until every row is read back from the table",
                "a deltalake commit that raises is lost, as its defaults leave it; ours has PostgreSQL's fsync on",
            ),
        ),
        parity=bench.parity,
        ours=bench.ours(),
        anchor=bench.anchor(),
        figures=lambda: {
            "rows_lost": bench.lost,
            "rows_twice": bench.doubled,
            "anchor_commits_raised": bench.raised,
            "anchor_rows_lost": bench.anchor_lost,
        },
    )


if __name__ == "__main__":
    main()
