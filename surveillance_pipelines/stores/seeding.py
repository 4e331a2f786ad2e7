"""Initial state of symbols: snapshots of the previous run, or bar history for symbols that are new to the queue."""

from bisect import bisect_left
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

import polars as pl
import psycopg

from surveillance_pipelines.clock import day_start_us, to_datetime, to_us, utc_date
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.engine.bar_builder import MINUTE_US, bar_start_of
from surveillance_pipelines.engine.feature_history import BarInputs, first_bar_needed
from surveillance_pipelines.engine.snapshots import SERVING_STATE, load_history
from surveillance_pipelines.engine.symbol_state import REVISABLE_BARS, Seed
from surveillance_pipelines.features.inputs import market_context
from surveillance_pipelines.features.state import FeatureState, SnapshotError
from surveillance_pipelines.features.views import HISTORY_BARS
from surveillance_pipelines.stores.tables import BAR_COLUMNS, bar_of

_BAR_FIELDS: Final = ", ".join(f"b.{name}" for name in BAR_COLUMNS)

_SNAPSHOTS: Final = "SELECT symbol, feature_view, as_of_bar_start, state FROM ops.feature_state WHERE queue_url = %s"

_BARS_SINCE: Final = f"""
    SELECT {_BAR_FIELDS} FROM ops.live_bars b
    WHERE b.symbol = %s AND b.revision = 0 AND b.bar_start > %s AND b.bar_start <= %s
    ORDER BY b.bar_start
"""  # noqa: S608 (constant names)

_BARS_BEFORE: Final = f"""
    SELECT {_BAR_FIELDS} FROM ops.live_bars b
    WHERE b.symbol = %s AND b.queue_url = %s AND b.revision = 0 AND b.bar_start > %s AND b.bar_start < %s
    ORDER BY b.bar_start DESC LIMIT %s
"""  # noqa: S608 (constant names)

_LAST_SEED: Final = """
    SELECT as_of_bar_start, history FROM ops.lane_seeds
    WHERE symbol = %s AND queue_url = %s AND feature_view = %s
      AND (as_of_bar_start IS NULL OR as_of_bar_start <= %s)
    ORDER BY id DESC LIMIT 1
"""

_LATEST_REVISIONS: Final = f"""
    SELECT DISTINCT ON (b.bar_start) {_BAR_FIELDS} FROM ops.live_bars b
    WHERE b.symbol = %s AND b.bar_start <= %s
    ORDER BY b.bar_start DESC, b.revision DESC LIMIT {REVISABLE_BARS}
"""  # noqa: S608 (constant names)

_BEGINNING: Final = to_datetime(0)

_MINUTES_PER_DAY: Final = 1440
_HISTORY_DAYS: Final = 10
"""Calendar days that are read first: 512 minutes are about two sessions, and ten days cover holidays."""


class BarReader(Protocol):
    """The part of the lake's interface that seeding uses."""

    def read(self, table: str, *, days: Any, schema: pl.Schema) -> pl.DataFrame: ...


def served_seeds(
    connection: psycopg.Connection, lake: BarReader, queue_url: str, feature_view: str, window_length: int = 1
) -> dict[str, Seed]:
    """Return the state of every symbol that a queue has served, as of its last committed message.

    Features are rebuilt from history only if there is no snapshot of the view, or one written by other code. A snapshot
    does not contain the feature rows of earlier bars; for models that read windows, the seed has the bars from which
    these rows were computed: those of the last seed, and the bars that the queue has served since.

    Args:
        connection: connection to PostgreSQL.
        lake: lake with ``bars_1m``.
        queue_url: the input queue.
        feature_view: feature view of the models that will serve.
        window_length: number of bars in a window of the models.
    """
    rows = connection.execute(_SNAPSHOTS, (queue_url,)).fetchall()
    snapshots = {(symbol, name): (as_of, state) for symbol, name, as_of, state in rows}
    history, seeds = _LakeHistory(lake), dict[str, Seed]()
    served = {symbol: last for (symbol, name), (last, _) in snapshots.items() if name == SERVING_STATE}
    by_day = sorted(served, key=lambda symbol: (served[symbol] or _BEGINNING, symbol))  # as _LakeHistory requires
    for symbol in by_day:
        last, serving = snapshots[symbol, SERVING_STATE]
        as_of, features = snapshots.get((symbol, feature_view), (None, None))
        state = None if features is None else _restored(features)
        served_bars = None if state is None else _served_bars(connection, queue_url, symbol, state, window_length)
        if features is None or served_bars is None:
            seeds[symbol] = _rebuilt(
                connection, history, symbol, last, serving=bytes(serving), window_length=window_length
            )
            continue
        seeds[symbol] = Seed(
            features=bytes(features),
            serving=bytes(serving),
            bars=_bars(connection, _BARS_SINCE, symbol, as_of or _BEGINNING, last or _BEGINNING),
            revisable=_revisable(connection, symbol, last),
            seeded=served_bars.seeded,
            before=served_bars.before,
        )
    return seeds


def history_seeds(
    connection: psycopg.Connection, lake: BarReader, symbols: Mapping[str, int], window_length: int = 1
) -> dict[str, Seed]:
    """Return the history of symbols that are new to a queue: the bars of the UTC day and the 512 bars before it.

    Bars served live replace those of the lake for the same minute. For windows of several bars, the history begins 512
    bars before the UTC day of the first bar of the window.

    Args:
        connection: connection to PostgreSQL.
        lake: lake with ``bars_1m``; as many days are read as 512 bars require.
        symbols: symbol → event time of its first tick, microseconds since the epoch; the history ends before that
            minute.
        window_length: number of bars in a window of the models.
    """
    history = _LakeHistory(lake)
    seeds: dict[str, Seed] = {}
    for symbol, event_time in sorted(symbols.items(), key=lambda item: item[1]):
        before = bar_start_of(event_time)
        bars = _merged_history(connection, history, symbol, before, window_length)
        seeds[symbol] = Seed(bars=bars, revisable=_revisable(connection, symbol, to_datetime(before - 1)))
    return seeds


def served_histories(
    connection: psycopg.Connection, lake: BarReader, queue_url: str, window_length: int = 1
) -> dict[str, Seed]:
    """Return the history of every symbol that a queue has served, up to its last bar, to start another feature view."""
    rows = connection.execute(
        "SELECT symbol, as_of_bar_start FROM ops.feature_state "
        "WHERE queue_url = %s AND feature_view = %s AND as_of_bar_start IS NOT NULL",
        (queue_url, SERVING_STATE),
    )
    after = {symbol: to_us(last) + MINUTE_US for symbol, last in rows}
    return history_seeds(connection, lake, after, window_length)


class _ServedBars(NamedTuple):
    """The bars before the 512 of a snapshot, as in ``Seed``."""

    seeded: BarInputs | None = None
    before: tuple[Bar, ...] = ()


def _served_bars(
    connection: psycopg.Connection, queue_url: str, symbol: str, state: FeatureState, window_length: int
) -> _ServedBars | None:
    """Return the bars before those of a snapshot from which windows follow, None if they are not on record."""
    if window_length == 1 or state.last_bar_start is None:
        return _ServedBars()
    starts, _ = state.history()
    wanted = HISTORY_BARS + _MINUTES_PER_DAY + window_length - len(starts)
    as_of, first = to_datetime(state.last_bar_start), to_datetime(int(starts[0]))
    row = connection.execute(_LAST_SEED, (symbol, queue_url, state.view.name, as_of)).fetchone()
    seeded_to, history = row or (None, None)
    bars = _bars(connection, _BARS_BEFORE, symbol, queue_url, seeded_to or _BEGINNING, first, wanted)[::-1]
    if len(bars) == wanted:
        return _ServedBars(before=bars)
    if history is None:
        return None
    try:
        return _ServedBars(BarInputs(*load_history(bytes(history), state.view.inputs)), bars)
    except ValueError:  # damaged, or of other columns
        return None


def _rebuilt(
    connection: psycopg.Connection,
    history: "_LakeHistory",
    symbol: str,
    last: datetime | None,
    *,
    serving: bytes,
    window_length: int,
) -> Seed:
    if last is None:
        return Seed(serving=serving)
    after = to_us(last) + 1
    bars = _merged_history(connection, history, symbol, after, window_length)
    return Seed(serving=serving, bars=bars, revisable=_revisable(connection, symbol, last))


class _LakeHistory:
    """Reads revision-0 bars of the lake before a day, as far back as a symbol needs, each range once.

    Only the frames of one day are cached, so callers must proceed day by day.
    """

    def __init__(self, lake: BarReader) -> None:
        self._lake = lake
        self._frames: dict[tuple[date, int], pl.DataFrame] = {}

    def bars(self, symbol: str, day: date, wanted: int = HISTORY_BARS) -> pl.DataFrame:
        """Return a symbol's bars with market context: those of ``day``, and at least ``wanted`` before it, if any."""
        reach, known = _HISTORY_DAYS, -1
        while True:
            bars = self._frame(day, reach).filter(pl.col("symbol") == symbol)
            before = bars.filter(pl.col("bar_start").dt.date() < day).height
            if before >= wanted or before == known:
                return bars
            reach, known = reach * 4, before

    def _frame(self, day: date, reach: int) -> pl.DataFrame:
        if (day, reach) not in self._frames:
            self._frames = {key: frame for key, frame in self._frames.items() if key[0] == day}
            bars = self._lake.read("bars_1m", days=(day - timedelta(days=reach), day), schema=BAR_SCHEMA)
            self._frames[day, reach] = market_context(bars)
        return self._frames[day, reach]


def _merged_history(
    connection: psycopg.Connection, history: _LakeHistory, symbol: str, before: int, window_length: int
) -> tuple[Bar, ...]:
    """Return a symbol's bars before an instant, ascending, as far back as ``history_seeds`` describes."""
    wanted = HISTORY_BARS if window_length == 1 else HISTORY_BARS + _MINUTES_PER_DAY + window_length
    landed = history.bars(symbol, utc_date(before), wanted).filter(pl.col("bar_start") < to_datetime(before))
    by_start = {bar.bar_start: bar for bar in map(_bar_of_record, landed.iter_rows(named=True))}
    day = day_start_us(utc_date(before))
    since = to_datetime(day) - timedelta(days=_HISTORY_DAYS)
    served = _bars(connection, _BARS_SINCE, symbol, since, to_datetime(before - 1))
    by_start.update((bar.bar_start, bar) for bar in served)
    starts = sorted(by_start)
    begin = max(0, bisect_left(starts, day) - HISTORY_BARS)
    if window_length > 1:
        begin = min(begin, first_bar_needed(starts, window_length - 1, HISTORY_BARS))
    return tuple(by_start[start] for start in starts[begin:])


def _restored(snapshot: bytes) -> FeatureState | None:
    try:
        return FeatureState.restore(bytes(snapshot))
    except SnapshotError:
        return None


def _revisable(connection: psycopg.Connection, symbol: str, last: datetime | None) -> tuple[Bar, ...]:
    return () if last is None else _bars(connection, _LATEST_REVISIONS, symbol, last)[::-1]


def _bars(connection: psycopg.Connection, query: str, *parameters: Any) -> tuple[Bar, ...]:
    rows = connection.execute(query, parameters)  # type: ignore[arg-type]
    return tuple(map(bar_of, rows))


def _bar(record: dict[str, Any]) -> Bar:
    values: dict[str, Any] = {
        name: to_us(value) if isinstance(value, datetime) else value for name, value in record.items()
    }
    values["market_centre"] = values["market_centre"] or "mean"
    return Bar(**values)


def _bar_of_record(record: dict[str, Any]) -> Bar:
    """Return a lake row as a bar; fields that the lake lacks do not affect features."""
    known = {name: record[name] for name in BAR_COLUMNS if name != "first_event_time"}
    return _bar(
        {
            **known,
            "first_event_time": record["bar_start"],
            "market_return": float("nan") if record["market_return"] is None else record["market_return"],
            "trades": record["trades"] or 0,
            "source_message_id": record["source_message_id"] or "",
        }
    )
