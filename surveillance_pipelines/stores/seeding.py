"""Initial state of symbols: snapshots of the previous run, or bar history for symbols that are new to the queue.

Each table is queried once for all symbols.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple

import polars as pl
import psycopg

from surveillance_pipelines.clock import day_start_us, to_datetime, to_us, utc_date
from surveillance_pipelines.contracts.feature_tables import DEFAULT_VIEW
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.market import Bar, MarketCentre
from surveillance_pipelines.engine.bar_builder import MINUTE_US, bar_start_of
from surveillance_pipelines.engine.feature_history import BarColumns, BarInputs, first_bar_needed
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.engine.snapshots import SERVING_STATE, load_history
from surveillance_pipelines.engine.symbol_state import REVISABLE_BARS
from surveillance_pipelines.features.inputs import market_context
from surveillance_pipelines.features.state import FeatureState, SnapshotError
from surveillance_pipelines.features.views import HISTORY_BARS, VIEWS
from surveillance_pipelines.stores.lake_history import HISTORY_DAYS, BarReader, LakeHistory
from surveillance_pipelines.stores.live_rows import read_live_bars
from surveillance_pipelines.stores.tables import BAR_COLUMNS, bar_of

_BAR_FIELDS: Final = ", ".join(f"b.{name}" for name in BAR_COLUMNS)

_SNAPSHOTS: Final = """
    SELECT symbol, feature_view, as_of_bar_start, state FROM ops.feature_state
    WHERE queue_url = %s AND feature_view = ANY(%s)
"""

_BARS_SINCE: Final = f"""
    SELECT {_BAR_FIELDS}
    FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS w (symbol, after, until)
    CROSS JOIN LATERAL (
        SELECT * FROM ops.live_bars
        WHERE symbol = w.symbol AND revision = 0 AND bar_start > w.after AND bar_start <= w.until
    ) b
    ORDER BY b.symbol, b.bar_start
"""  # noqa: S608 (constant names)

_BARS_BEFORE: Final = f"""
    SELECT {_BAR_FIELDS}
    FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[], %s::int[]) AS w (symbol, after, before, wanted)
    CROSS JOIN LATERAL (
        SELECT * FROM ops.live_bars
        WHERE symbol = w.symbol AND queue_url = %s AND revision = 0 AND bar_start > w.after AND bar_start < w.before
        ORDER BY bar_start DESC LIMIT w.wanted
    ) b
    ORDER BY b.symbol, b.bar_start
"""  # noqa: S608 (constant names)

_LAST_SEEDS: Final = """
    SELECT w.symbol, s.as_of_bar_start, s.history FROM unnest(%s::text[], %s::timestamptz[]) AS w (symbol, as_of)
    CROSS JOIN LATERAL (
        SELECT as_of_bar_start, history FROM ops.lane_seeds
        WHERE symbol = w.symbol AND queue_url = %s AND feature_view = %s
          AND (as_of_bar_start IS NULL OR as_of_bar_start <= w.as_of)
        ORDER BY id DESC LIMIT 1
    ) s
"""

_LATEST_REVISIONS: Final = f"""
    SELECT {_BAR_FIELDS} FROM unnest(%s::text[], %s::timestamptz[]) AS w (symbol, until)
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (bar_start) * FROM ops.live_bars
        WHERE symbol = w.symbol AND bar_start <= w.until
        ORDER BY bar_start DESC, revision DESC LIMIT {REVISABLE_BARS}
    ) b
    ORDER BY b.symbol, b.bar_start
"""  # noqa: S608 (constant names)

_BEGINNING: Final = to_datetime(0)
_MINUTES_PER_DAY: Final = 1440

_Bars = dict[str, tuple[Bar, ...]]


def served_seeds(
    connection: psycopg.Connection,
    lake: BarReader | LakeHistory,
    queue_url: str,
    feature_view: str,
    window_length: int = 1,
) -> dict[str, Seed]:
    """Return the state of every symbol that a queue has served, as of its last committed message.

    Features are rebuilt from history only if there is no snapshot of the view, if other code wrote it, or if bars since
    were served with another centre of the peers' returns. A snapshot does not contain the feature rows of earlier bars;
    for models that read windows, the seed has the bars from which these rows were computed: those of the last seed, and
    the bars that the queue has served since.

    Args:
        connection: connection to PostgreSQL.
        lake: lake with ``bars_1m``.
        queue_url: the input queue.
        feature_view: feature view of the models that will serve.
        window_length: number of bars in a window of the models.
    """
    centre = VIEWS[feature_view].market_centre
    with connection.cursor(binary=True) as cursor:  # snapshots are bytes, which the text format doubles
        rows = cursor.execute(_SNAPSHOTS, (queue_url, [SERVING_STATE, feature_view])).fetchall()
    serving = {symbol: (last, state) for symbol, name, last, state in rows if name == SERVING_STATE}
    features = {symbol: (as_of, state) for symbol, name, as_of, state in rows if name == feature_view}
    lasts = {symbol: last for symbol, (last, _) in serving.items() if last is not None}
    restored = {symbol: state for symbol, (_, state) in features.items() if symbol in serving and _is_valid(state)}
    since = _bars(connection, _BARS_SINCE, [
        (symbol, features[symbol][0] or _BEGINNING, lasts.get(symbol, _BEGINNING)) for symbol in restored
    ])  # fmt: skip
    revisable = _bars(connection, _LATEST_REVISIONS, list(lasts.items()))
    before = _served_bars(connection, queue_url, restored, window_length)
    rebuilt = {
        symbol: to_us(lasts[symbol]) + 1
        for symbol in serving
        if symbol in lasts and (symbol not in before or not _are_of(centre, since.get(symbol, ())))
    }
    histories = _merged_histories(connection, _history_of(lake), rebuilt, window_length, centre)
    seeds: dict[str, Seed] = {}
    for symbol, (_, state) in serving.items():
        revised = revisable.get(symbol, ())
        if symbol in rebuilt or symbol not in before:
            seeds[symbol] = replace(histories.get(symbol, Seed()), serving=bytes(state), revisable=revised)
            continue
        seeds[symbol] = Seed(
            features=bytes(restored[symbol]),
            serving=bytes(state),
            bars=since.get(symbol, ()),
            revisable=revised,
            seeded=before[symbol].seeded,
            before=before[symbol].before,
        )
    return seeds


def history_seeds(
    connection: psycopg.Connection,
    lake: BarReader | LakeHistory,
    symbols: Mapping[str, int],
    window_length: int = 1,
    feature_view: str = DEFAULT_VIEW,
) -> dict[str, Seed]:
    """Return the history of symbols that are new to a queue: the bars of the UTC day and the 512 bars before it.

    Bars served live replace those of the lake for the same minute. For windows of several bars, the history begins 512
    bars before the UTC day of the first bar of the window.

    Args:
        connection: connection to PostgreSQL.
        lake: lake with ``bars_1m``, of which as many days are read as 512 bars require; a ``LakeHistory`` keeps what it
            has read for the next call.
        symbols: symbol → event time of its first tick, microseconds since the epoch; the history ends before that
            minute.
        window_length: number of bars in a window of the models.
        feature_view: feature view of the models, which determines the centre of the peers' returns.
    """
    before = {symbol: bar_start_of(event_time) for symbol, event_time in symbols.items()}
    centre = VIEWS[feature_view].market_centre
    seeds = _merged_histories(connection, _history_of(lake), before, window_length, centre)
    revisable = _bars(
        connection, _LATEST_REVISIONS, [(symbol, to_datetime(start - 1)) for symbol, start in before.items()]
    )
    return {symbol: replace(seed, revisable=revisable.get(symbol, ())) for symbol, seed in seeds.items()}


def served_histories(
    connection: psycopg.Connection,
    lake: BarReader,
    queue_url: str,
    window_length: int = 1,
    feature_view: str = DEFAULT_VIEW,
) -> dict[str, Seed]:
    """Return the history of every symbol that a queue has served, up to its last bar, to start another feature view."""
    rows = connection.execute(
        "SELECT symbol, as_of_bar_start FROM ops.feature_state "
        "WHERE queue_url = %s AND feature_view = %s AND as_of_bar_start IS NOT NULL",
        (queue_url, SERVING_STATE),
    )
    after = {symbol: to_us(last) + MINUTE_US for symbol, last in rows}
    return history_seeds(connection, lake, after, window_length, feature_view)


class _ServedBars(NamedTuple):
    """The bars before the 512 of a snapshot, as in ``Seed``."""

    seeded: BarInputs | None = None
    before: tuple[Bar, ...] = ()


def _served_bars(
    connection: psycopg.Connection, queue_url: str, snapshots: Mapping[str, bytes], window_length: int
) -> dict[str, _ServedBars]:
    """Return the bars before those of snapshots from which windows follow; if they are not on record, none."""
    if window_length == 1:
        return dict.fromkeys(snapshots, _ServedBars())
    states = {symbol: FeatureState.restore(bytes(snapshot)) for symbol, snapshot in snapshots.items()}
    found = {symbol: _ServedBars() for symbol, state in states.items() if state.last_bar_start is None}
    states = {symbol: state for symbol, state in states.items() if symbol not in found}
    if not states:
        return found
    view = next(iter(states.values())).view
    as_of = [to_datetime(state.last_bar_start or 0) for state in states.values()]
    rows = connection.execute(_LAST_SEEDS, (list(states), as_of, queue_url, view.name)).fetchall()
    seeds = {symbol: (seeded_to or _BEGINNING, history) for symbol, seeded_to, history in rows}
    ranges = {symbol: _range_before(state, window_length) for symbol, state in states.items()}
    asked = [(symbol, seeds.get(symbol, (_BEGINNING,))[0], *ranges[symbol]) for symbol in states]
    bars = _bars(connection, _BARS_BEFORE, asked, queue_url)
    for symbol in states:
        before, history = bars.get(symbol, ()), seeds.get(symbol, (None, None))[1]
        if not _are_of(view.market_centre, before):
            continue
        if len(before) == ranges[symbol][1]:
            found[symbol] = _ServedBars(before=before)
        elif history is not None:
            try:
                found[symbol] = _ServedBars(BarInputs(*load_history(bytes(history), view.inputs)), before)
            except ValueError:  # damaged, or of other columns
                continue
    return found


def _range_before(state: FeatureState, window_length: int) -> tuple[datetime, int]:
    """Return the start of a snapshot's first bar, and how many bars before it windows need."""
    starts, _ = state.history()
    return to_datetime(int(starts[0])), HISTORY_BARS + _MINUTES_PER_DAY + window_length - len(starts)


def _merged_histories(
    connection: psycopg.Connection,
    history: LakeHistory,
    before: Mapping[str, int],
    window_length: int,
    centre: MarketCentre,
) -> dict[str, Seed]:
    """Return symbols' bars before an instant each, as far back as ``history_seeds`` describes."""
    wanted = HISTORY_BARS if window_length == 1 else HISTORY_BARS + _MINUTES_PER_DAY + window_length
    days = {symbol: day_start_us(utc_date(start)) for symbol, start in before.items()}
    reach = timedelta(days=HISTORY_DAYS)
    served = _bars(connection, _BARS_SINCE, [
        (symbol, to_datetime(days[symbol]) - reach, to_datetime(start - 1)) for symbol, start in before.items()
    ])  # fmt: skip
    served = _with_centre(connection, history, served, centre)
    seeds: dict[str, Seed] = {}
    for day, group in groupby(sorted(before, key=lambda symbol: (days[symbol], symbol)), key=days.__getitem__):
        symbols = list(group)
        landed = history.bars(symbols, utc_date(day), wanted, centre)
        for symbol in symbols:
            bars = landed.get(symbol)
            seed = _trimmed(bars, served.get(symbol, ()), day, before[symbol], window_length)
            seeds[symbol] = seed if history.status == "read" else replace(seed, lake=history.status)
    return seeds


def _trimmed(landed: BarColumns | None, served: tuple[Bar, ...], day: int, before: int, window_length: int) -> Seed:
    """Return the bars of the lake and those served, from the first one that is needed."""
    starts = [] if landed is None else landed.between(0, before).starts.tolist()
    if served:
        starts = sorted({*starts, *(bar.bar_start for bar in served)})
    begin = max(0, bisect_left(starts, day) - HISTORY_BARS)
    if window_length > 1:
        begin = min(begin, first_bar_needed(starts, window_length - 1, HISTORY_BARS))
    if not starts:
        return Seed()
    first = starts[begin]
    bars = tuple(bar for bar in served if bar.bar_start >= first)
    return Seed(bars=bars, history=None if landed is None else landed.between(first, before))


def _with_centre(connection: psycopg.Connection, history: LakeHistory, served: _Bars, centre: MarketCentre) -> _Bars:
    """Return bars with the peers' returns of a centre; bars served with another get the value that batch computes."""
    others = [bar.bar_start for bars in served.values() for bar in bars if bar.market_centre != centre]
    if not others:
        return served
    first, last = utc_date(min(others)) - timedelta(days=1), utc_date(max(others))
    live = read_live_bars(connection, first, last)
    landed = history.read((first, last), BAR_SCHEMA).join(live, on=["symbol", "bar_start"], how="anti")
    known = market_context(pl.concat([landed.select(live.columns), live]), centre)
    values = known.select("symbol", pl.col("bar_start").dt.timestamp("us"), "market_return", "market_peers")
    context = {(symbol, start): (value, peers) for symbol, start, value, peers in values.iter_rows()}

    def derived(bar: Bar) -> Bar:
        value, peers = context[bar.symbol, bar.bar_start]
        return replace(bar, market_return=value, market_peers=peers, market_centre=centre)

    return {
        symbol: tuple(bar if bar.market_centre == centre else derived(bar) for bar in bars)
        for symbol, bars in served.items()
    }


def _are_of(centre: MarketCentre, bars: Iterable[Bar]) -> bool:
    return all(bar.market_centre == centre for bar in bars)


def _history_of(lake: BarReader | LakeHistory) -> LakeHistory:
    return lake if isinstance(lake, LakeHistory) else LakeHistory(lake)


def _is_valid(snapshot: bytes) -> bool:
    try:
        FeatureState.require_valid(bytes(snapshot))
    except SnapshotError:
        return False
    return True


def _bars(connection: psycopg.Connection, query: str, asked: Sequence[tuple[Any, ...]], *more: Any) -> _Bars:
    """Return the bars of a query over one array per parameter, by symbol."""
    if not asked:
        return {}
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(query.encode(), [*map(list, zip(*asked, strict=True)), *more])
        by_symbol: Callable[[Bar], str] = lambda bar: bar.symbol  # noqa: E731 (typed)
        return {symbol: tuple(bars) for symbol, bars in groupby(map(bar_of, rows), by_symbol)}
