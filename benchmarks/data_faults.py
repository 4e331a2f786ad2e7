"""Data incidents on real bars: ``python -m benchmarks.data_faults``.

Three tables. Faults: one symbol, half of its bars or the whole feed are dropped from recorded minutes. Splits: recorded
daily prices with the splits and dividends of factor files. Calendars: half days and holidays of five exchanges, with
recorded minutes moved into their sessions. Writes ``proof/counts/data_faults.json`` and the tables of
``docs/market-data.md``.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from benchmarks.data_fault_markets import CALENDARS, days_of, exchange_bars, recorded_bars
from benchmarks.detection_markets import DATA
from benchmarks.harness import REPOSITORY, counted
from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.calendars import build_sessions, lunch_breaks
from surveillance_pipelines.market.data_incidents import HISTORY, DataIncident, find_data_incidents
from surveillance_pipelines.market.splits import possible_split

PAGE: Final = REPOSITORY / "docs" / "market-data.md"
MARKS: Final = (
    "<!-- data-faults: begin (written by `python -m benchmarks.data_faults`) -->",
    "<!-- data-faults: end -->",
)
TRIALS: Final = 100
SEED: Final = 7
MINUTE: Final = timedelta(minutes=1)
FOREVER: Final = datetime(2100, 1, 1, tzinfo=UTC)
LENGTHS: Final = {"whole feed, 3 to 30 minutes": (3, 30), "one symbol, 10 to 60 minutes": (10, 60)}
HALF: Final = "half of the bars of one symbol"


def incidents(
    bars: pl.DataFrame, sessions: SessionTable, day: date, now: datetime = FOREVER,
    breaks: Mapping[str, np.ndarray] | None = None,
) -> list[DataIncident]:  # fmt: skip
    """Return the data incidents of the sessions that open on a day."""
    return find_data_incidents(bars, sessions, first=day, last=day, now=to_us(now), breaks=breaks)


def fault_trials() -> dict[str, Counter[str]]:
    """Drop bars of recorded sessions, and count the incidents expected, found, raised within two minutes and false."""
    random = np.random.default_rng(SEED)
    counts: dict[str, Counter[str]] = {name: Counter() for name in (*LENGTHS, HALF)}
    markets = list(recorded_bars())
    for name, count in counts.items():
        for trial in range(TRIALS):
            bars, sessions = markets[trial % len(markets)]
            days = bars["date"].unique().sort().to_list()
            day = days[int(random.integers(6, len(days)))]
            symbol = str(random.choice(bars["symbol"].unique().sort().to_list()))
            count.update(_trial(name, bars, sessions, day, symbol, random))
    return counts


def _trial(
    name: str, bars: pl.DataFrame, sessions: SessionTable, day: date, symbol: str, random: np.random.Generator
) -> Counter[str]:  # fmt: skip
    opens, closes = _session(sessions, day)
    symbol = "" if "feed" in name else symbol
    if name == HALF:
        odd = pl.int_range(pl.len()).over("symbol", "date") % 2 == 1
        lost, first, last = (pl.col("symbol") == symbol) & (pl.col("date") == day) & odd, opens, closes
    else:
        low, high = LENGTHS[name]
        length = int(random.integers(low, high + 1))
        begin = int(random.integers(0, (closes - opens) // MINUTE - length + 1))
        first, last = opens + begin * MINUTE, opens + (begin + length - 1) * MINUTE
        lost = pl.col("bar_start").is_between(first, last)
        lost = lost & (pl.col("symbol") == symbol) if symbol else lost
    kind = "missing_bars" if symbol else "feed_silence"

    def matches(one: DataIncident) -> bool:
        overlaps = one.first_minute <= to_us(last) and one.last_minute >= to_us(first)
        return (one.kind, one.symbol) == (kind, symbol) and overlaps

    known = {one.id for one in incidents(bars, sessions, day)}
    found = [one for one in incidents(bars.filter(~lost), sessions, day) if one.id not in known]
    soon = incidents(bars.filter(~lost), sessions, day, now=first + 2 * MINUTE) if name != HALF else []
    return Counter(
        expected=1,
        found=int(any(map(matches, found))),
        within_two_minutes=int(any(map(matches, soon))),
        false=sum(not matches(one) for one in found),
    )


def _session(sessions: SessionTable, day: date) -> tuple[datetime, datetime]:
    row = int(np.flatnonzero(sessions.session_ids == day.toordinal())[0])
    opens, closes = int(sessions.opens_at[row]), int(sessions.closes_at[row])
    return tuple(datetime.fromtimestamp(edge / 1e6, UTC) for edge in (opens, closes))  # pyright: ignore[reportReturnType]


def untouched() -> Counter[str]:
    """Return the number of sessions of the recorded bars, and of incidents in them without a planted fault."""
    count: Counter[str] = Counter()
    for bars, sessions in recorded_bars():
        for day in bars["date"].unique().sort().to_list()[4:]:
            count["symbol_sessions"] += bars.filter(pl.col("date") == day)["symbol"].n_unique()
            count["incidents"] += len(incidents(bars, sessions, day))
    return count


def split_events() -> dict[str, Any]:
    """Compare possible splits in daily prices with the splits and dividends of factor files."""
    events = _factor_events()
    raw = pl.read_parquet(DATA / "equity_daily" / "lean_daily.parquet", glob=False)
    adjusted = pl.read_parquet(DATA / "equity_daily" / "yahoo_daily.parquet", glob=False)
    found, days = {}, 0
    for symbol, day, answer in _daily(raw):
        days += 1
        if answer:
            found[symbol, day] = answer
    expected = {key for key, kind in events.items() if kind == "split"} & set(_keys(raw))
    dividends = {key for key, kind in events.items() if kind == "dividend"} & set(_keys(raw))
    wrong = [(symbol, day, answer) for symbol, day, answer in _daily(adjusted) if answer]
    return {
        "splits": len(expected),
        "splits_found": len(expected & set(found)),
        "missed": sorted(f"{symbol} {day}" for symbol, day in expected - set(found)),
        "dividends": len(dividends),
        "dividends_flagged": len(dividends & set(found)),
        "other_days": days + adjusted.height - len(expected) - len(dividends),
        "other_days_flagged": sorted(f"{symbol} {day} {found[symbol, day]}" for symbol, day in set(found) - expected)
        + [f"{symbol} {day} {answer}" for symbol, day, answer in wrong],
    }


def _keys(daily: pl.DataFrame) -> list[tuple[str, date]]:
    """Return the symbol-days with enough days before them to judge a move."""
    later = pl.int_range(pl.len()).over("symbol") > HISTORY
    return list(daily.sort("symbol", "date").filter(later).select("symbol", pl.col("date").dt.date()).iter_rows())


def _factor_events() -> dict[tuple[str, date], str]:
    """Return (symbol, first day with the new price) → split or dividend, from the dates before them in the files."""
    factors = pl.read_parquet(DATA / "equity_daily" / "lean_factor_files.parquet", glob=False).sort("symbol", "date")
    following = [
        pl.col(name).shift(-1).over("symbol").alias(f"next_{name}") for name in ("price_factor", "split_factor")
    ]
    raw = pl.read_parquet(DATA / "equity_daily" / "lean_daily.parquet", glob=False)
    trading = {str(name): part["date"].dt.date().sort().to_list() for (name,), part in
               raw.partition_by("symbol", as_dict=True).items()}  # fmt: skip
    events: dict[tuple[str, date], str] = {}
    for row in factors.with_columns(following).drop_nulls().iter_rows(named=True):
        after = [day for day in trading.get(row["symbol"], []) if day > row["date"].date()]
        ratio = row["next_split_factor"] / row["split_factor"]
        if after and abs(ratio - 1.0) > 0.1:
            events[row["symbol"], after[0]] = "split"
        elif after and row["next_price_factor"] != row["price_factor"]:
            events.setdefault((row["symbol"], after[0]), "dividend")
    return events


def _daily(daily: pl.DataFrame) -> Iterator[tuple[str, date, str]]:
    """Return symbol, day and ratio of a possible split (empty without one) of every day with enough days before it."""
    for (symbol,), part in daily.sort("symbol", "date").partition_by("symbol", as_dict=True).items():
        opens, closes = part["open"].to_list(), part["close"].to_list()
        turnover = (part["close"] * part["volume"]).to_list()
        moves = [0.0, *(math.log(b / a) if min(a, b) > 0 else 0.0 for a, b in zip(closes, opens[1:], strict=False))]
        for place in range(HISTORY + 1, part.height):
            before = slice(place - HISTORY, place)
            answer = possible_split(
                closes[place - 1], opens[place], moves[before], turnover=turnover[place],
                usual_turnover=float(np.median(turnover[before])),
            )  # fmt: skip
            yield str(symbol), part["date"][place].date(), "" if answer is None else f"{answer.new}:{answer.old}"


def calendar_days() -> dict[str, Counter[str]]:
    """Judge half days and holidays of five calendars every half hour, and with a silence planted into each half day."""
    counts: dict[str, Counter[str]] = {}
    for calendar in CALENDARS:
        count = counts[calendar] = Counter()
        for day, is_half in days_of(calendar):
            frame = build_sessions(calendar, day - timedelta(days=40), day + timedelta(days=15))
            breaks = {calendar: lunch_breaks(calendar, day - timedelta(days=40), day + timedelta(days=15))}
            sessions, bars = SessionTable.from_frame(frame), exchange_bars(frame, breaks[calendar], day)
            count["half_days" if is_half else "holidays"] += 1
            begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
            for step in range(48):
                now = begin + step * timedelta(minutes=30)
                seen = bars.filter(pl.col("bar_start") < now)
                count["looks"] += 1
                count["false"] += len(incidents(seen, sessions, day, now, breaks))
            if is_half:
                opens, _ = _session(sessions, day)
                lost = pl.col("bar_start").is_between(opens + 60 * MINUTE, opens + 64 * MINUTE)
                found = incidents(bars.filter(~lost), sessions, day, breaks=breaks)
                count["silences_found"] += int([one.kind for one in found] == ["feed_silence"])
    return counts


def tables(faults: Mapping[str, Counter[str]], splits: Mapping[str, Any], days: Mapping[str, Counter[str]]) -> str:
    """Return the tables of the docs page."""
    lines = ["| dropped from recorded minutes | expected | found | raised within two minutes | false |"]
    lines.append("|---|---|---|---|---|")
    for name, count in faults.items():
        soon = "–" if name == HALF else count["within_two_minutes"]
        lines.append(f"| {name} | {count['expected']} | {count['found']} | {soon} | {count['false']} |")
    lines += ["", "| recorded daily prices | days | `possible_split` |", "|---|---|---|"]
    lines.append(f"| splits of factor files | {splits['splits']} | {splits['splits_found']} |")
    lines.append(f"| dividends of factor files | {splits['dividends']} | {splits['dividends_flagged']} |")
    lines.append(f"| other days | {splits['other_days']:,} | {len(splits['other_days_flagged'])} |")
    lines += [
        "",
        "| calendar | half days | holidays | looks | false | planted silences found |",
        "|---|---|---|---|---|---|",
    ]
    for name, count in days.items():
        found = f"{count['silences_found']} of {count['half_days']}"
        lines.append(
            f"| {name} | {count['half_days']} | {count['holidays']} | {count['looks']} | {count['false']} | {found} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if the goals are met or the data is absent, else 1."""
    parser = argparse.ArgumentParser(description="Data incidents on real bars, splits and calendars.")
    parser.add_argument("--result", type=Path, help="where to write the counts; without it, the docs page is updated")
    options = parser.parse_args(arguments)
    if not DATA.is_dir():
        print(f"skipped: the recorded market data is absent ({DATA.name} next to the checkout)")
        return 0
    faults, clean, splits, days = fault_trials(), untouched(), split_events(), calendar_days()
    text = tables(faults, splits, days)
    print(text, splits["missed"], splits["other_days_flagged"], dict(clean), sep="\n")
    false = sum(count["false"] for count in (*faults.values(), *days.values())) + clean["incidents"]
    result = counted(
        "data_faults",
        path=options.result,
        work=f"{TRIALS} faults of each sort, {splits['splits']} splits and {splits['dividends']} dividends, "
        f"{sum(count['half_days'] + count['holidays'] for count in days.values())} half days and holidays",
        goal="every planted fault and every split is found; no false incident; no dividend is a split",
        found=text.splitlines(),
        met=all(count["found"] == count["expected"] for count in faults.values())
        and splits["splits_found"] == splits["splits"]
        and false + splits["dividends_flagged"] == 0,
        figures={"faults": faults, "untouched": clean, "splits": splits, "calendars": days},
    )
    if options.result is None:
        before, _, rest = PAGE.read_text().partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        PAGE.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
