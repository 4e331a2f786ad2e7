"""Recorded minutes for the benchmark of data incidents, also moved into the sessions of other exchanges."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

import numpy as np
import polars as pl

from benchmarks.detection_markets import DATA, MARKETS
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.market.calendars import build_sessions

CALENDARS: Final = ("XNYS", "XLON", "XHKG", "XTKS", "XTSE")
PER_CALENDAR: Final = 4
YEAR: Final = (date(2023, 6, 1), date(2024, 12, 31))
_COLUMNS: Final = ("symbol", "bar_start", "open", "high", "low", "close", "volume")
_MARGIN: Final = timedelta(days=15)


def recorded_bars() -> Iterator[tuple[pl.DataFrame, SessionTable]]:
    """Return the recorded bars of two US markets, regular sessions, without the part of a day with which they begin.

    UVXY is left out of 2022 because it is the only symbol of some days.
    """
    for spec in MARKETS[:2]:
        raw = pl.read_parquet(DATA / spec.path, glob=False).rename({"ts": "bar_start"})
        day = pl.col("bar_start").dt.date()
        # The first day of a recording begins within the session.
        chosen = raw.filter(pl.col("session") == "regular", day > spec.first, day <= spec.last,
                            pl.col("symbol").is_in([name for name in spec.symbols if name != "UVXY"]))  # fmt: skip
        frame = build_sessions(spec.calendar, spec.first - _MARGIN, spec.last + _MARGIN)
        present = chosen.select(day.alias("session_date")).unique()
        # Sessions that nobody recorded are no faults of a feed: the calendar is that of the recording.
        sessions = SessionTable.from_frame(frame.join(present, on="session_date", how="semi"))
        yield _complete(chosen.select(_COLUMNS)), sessions


def days_of(calendar: str) -> list[tuple[date, bool]]:
    """Return half days and weekdays without a session of a calendar, and whether each is a half day."""
    frame = build_sessions(calendar, *YEAR)
    length = (frame["closes_at"] - frame["opens_at"]).dt.total_minutes()
    half = frame.filter(length < length.median())["session_date"].to_list()[: PER_CALENDAR // 2]
    open_on, day, closed = set(frame["session_date"].to_list()), YEAR[0], []
    while day <= YEAR[1]:
        if day.weekday() < 5 and day not in open_on:
            closed.append(day)
        day += timedelta(days=1)
    return [(day, True) for day in half] + [(day, False) for day in closed[: PER_CALENDAR - len(half)]]


def exchange_bars(sessions: pl.DataFrame, breaks: np.ndarray, day: date) -> pl.DataFrame:
    """Return recorded minutes of US stocks in the sessions of another exchange, minute by minute from the opening.

    Sessions longer than the recorded ones repeat their minutes; minutes of a lunch break are left out.
    """
    source = next(iter(recorded_bars()))[0].sort("symbol", "bar_start")
    opened = pl.col("bar_start").min().over("date")
    placed = source.with_columns(minute=(pl.col("bar_start") - opened).dt.total_minutes())
    recorded = placed["date"].unique().sort().to_list()
    parts = []
    near = sessions.filter(pl.col("session_date").is_between(day - timedelta(days=30), day + timedelta(days=3)))
    for place, row in enumerate(near.iter_rows(named=True)):
        length = int((row["closes_at"] - row["opens_at"]).total_seconds() // 60)
        one = placed.filter(pl.col("date") == recorded[place % len(recorded)])
        again = one.with_columns(minute=pl.col("minute") + 390)
        moved = pl.concat([one, again]).filter(pl.col("minute") < length)
        parts.append(moved.with_columns(bar_start=row["opens_at"] + pl.duration(minutes=pl.col("minute"))))
    bars = pl.concat(parts)
    starts = bars["bar_start"].dt.timestamp("us").to_numpy()
    at_lunch = np.zeros(len(starts), dtype=bool)
    for begin, end in breaks:
        at_lunch |= (starts >= begin) & (starts < end)
    return _complete(bars.filter(pl.Series(~at_lunch)).select(_COLUMNS))


def _complete(bars: pl.DataFrame) -> pl.DataFrame:
    typed = bars.with_columns(pl.col("volume").cast(pl.Float64), pl.col("bar_start").cast(pl.Datetime("us", "UTC")))
    return complete_bars(typed, source="file", adjustment="none", timeframe="1m", batch_id="benchmark")
