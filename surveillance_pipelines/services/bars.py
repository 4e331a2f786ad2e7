"""Writes ticks and bars of a range of days to the lake, from the rows of all sources."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from surveillance_pipelines.contracts.errors import IntegrityError
from surveillance_pipelines.contracts.market import LANDED_TABLE
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.market import Timeframe
    from surveillance_pipelines.stores.lake_damage import LostFile


@dataclass(frozen=True, slots=True)
class WrittenTable:
    """Rows written to a lake table, and the table version of the write."""

    frame: "pl.DataFrame"
    version: int


@dataclass(frozen=True, slots=True)
class ResolvedBars(WrittenTable):
    """1-minute bars resolved from all sources.

    Attributes:
        counts: rows left out, by reason, and rows read per lane.
    """

    counts: dict[str, int]


def write_ticks(stores: Stores, first: date, last: date) -> WrittenTable:
    """Write the accepted messages of the queue; ticks that retention dropped from PostgreSQL stay in the lake.

    Raises:
        IntegrityError: if a file of the lake is lost, and PostgreSQL no longer has its ticks.
    """
    from surveillance_pipelines.stores.live_rows import read_ticks, with_dropped

    with stores.connect() as connection:
        held = read_ticks(connection, first, last)
    landed, lost = _landed_ticks(stores, first, last)
    frame = with_dropped(held, landed)
    for file in lost:
        found = frame.filter(frame["date"] == file.day).height - landed.filter(landed["date"] == file.day).height
        if found < file.rows:
            raise IntegrityError(
                f"ticks: {file.problem}; expected its {file.rows:,} ticks in PostgreSQL, found {found:,}",
                remedy="copy the file from a backup; `surveillance doctor` shows the commands",
            )
    version = stores.lake.write_days("ticks", frame, days=frame["date"].unique().sort().to_list())
    return WrittenTable(frame, version)


def _landed_ticks(stores: Stores, first: date, last: date) -> "tuple[pl.DataFrame, list[LostFile]]":
    """Return the ticks of a range of days in the intact files of the lake, and the lost files."""
    from surveillance_pipelines.contracts.frames import TICK_SCHEMA
    from surveillance_pipelines.stores.lake_history import READ_ERRORS

    try:
        return stores.lake.read("ticks", days=(first, last), schema=TICK_SCHEMA), []
    except READ_ERRORS:
        table = stores.lake.open("ticks")
        if table is None or not (lost := table.lost_files((first, last))):
            raise
        return table.read_intact((first, last)), lost


def resolve_days(stores: Stores, first: date, last: date) -> ResolvedBars:
    """Write ``bars_1m``: each bar from one source, with its revisions."""
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.market.source_resolution import resolve_bars

    landed = stores.lake.read(LANDED_TABLE, days=(first, last), schema=BAR_SCHEMA)
    live = _live_bars(stores, first, last)
    minutes = landed.filter(landed["timeframe"] == "1m")
    resolved = resolve_bars(minutes, live)
    version = stores.replace_days("bars_1m", resolved.bars, first, last)
    counts = {
        "duplicates": resolved.duplicates,
        "overruled": resolved.overruled,
        "of_other_timeframes": landed.height - minutes.height,
        "rows_landed": minutes.height,
        "rows_live": live.height,
    }
    return ResolvedBars(resolved.bars, version, counts)


def resample_days(stores: Stores, timeframe: "Timeframe", first: date, last: date) -> WrittenTable:
    """Write the bars of a longer timeframe: received ones of this length, else resampled 1-minute bars of revision 0.

    A received bar takes precedence over a resampled one of its symbol and start. For daily bars, the date counts,
    because a received one starts at 00:00 UTC and a resampled one at the opening.
    """
    import polars as pl

    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.market.aggregation import resample
    from surveillance_pipelines.market.bar_frames import empty_bars
    from surveillance_pipelines.market.source_resolution import resolve_bars

    # A session may cross midnight UTC, so that bars of a day can start or end on an adjacent day.
    margin = timedelta(days=1)
    minutes = stores.lake.read("bars_1m", days=(first - margin, last + margin), schema=BAR_SCHEMA)
    longer = resample(minutes, timeframe, stores.session_table(first - margin, last + margin))
    landed = stores.lake.read(LANDED_TABLE, days=(first, last), schema=BAR_SCHEMA)
    received = resolve_bars(landed.filter(pl.col("timeframe") == timeframe), empty_bars()).bars
    key = ["symbol", "date"] if timeframe == "1d" else ["symbol", "bar_start"]
    resampled = longer.join(received, on=key, how="anti", maintain_order="left")
    frame = pl.concat([received, resampled]).filter(pl.col("date").is_between(first, last)).sort("symbol", "bar_start")
    return WrittenTable(frame, stores.replace_days(f"bars_{timeframe}", frame, first, last))


def _live_bars(stores: Stores, first: date, last: date) -> "pl.DataFrame":
    """Return the bars of the live lane and the revisions caused by ticks that it received too late."""
    import polars as pl

    from surveillance_pipelines.contracts.frames import TICK_SCHEMA
    from surveillance_pipelines.market.aggregation import very_late_revisions
    from surveillance_pipelines.stores.live_rows import read_live_bars

    with stores.connect() as connection:
        live = read_live_bars(connection, first, last)
    if stores.settings.sqs_volume_is_cumulative:
        return live  # cumulative volumes of single ticks cannot be summed to a bar
    ticks = stores.lake.read("ticks", days=(first, last), schema=TICK_SCHEMA)
    return pl.concat([live, very_late_revisions(ticks, live)])
