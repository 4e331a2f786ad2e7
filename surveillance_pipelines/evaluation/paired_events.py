"""Planted events on held-out days, and which of them two bundles find within the alert budget.

The events are those of the independent generator (``independent_anomalies.py``), which no training sees. Every copy of
the days has events of one size, full or a third, in turn. A bundle finds an event if it alerts on a bar of it or on the
next one. Only the bars of the events are scored, and the unchanged bars, on which the budget is counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.evaluation.independent_anomalies import SIZES, plant_independent
from surveillance_pipelines.evaluation.paired_test import EVENTS, PairedCounts
from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY, BARS_PER_DAY
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.features.windows import windows_of
from surveillance_pipelines.models.calibration import THRESHOLD
from surveillance_pipelines.models.ensemble import Predictor

Floats = npt.NDArray[np.float64]

MAX_COPIES: Final = 400
"""Copies of the days at most; one symbol and one day have two events per copy."""

GRACE: Final = timedelta(minutes=1)
"""An alert on the bar after an event still belongs to it."""

_SEED_STRIDE: Final = 100_000
"""Distance between the seeds of two sets of events, so that their copies never share a seed."""


@dataclass(frozen=True, slots=True, eq=False)
class PlantedDays:
    """Held-out days with planted events.

    Attributes:
        kinds: kind of each event, str[events].
        copies: bars of each copy, ``BAR_SCHEMA``, with those before the days; the first is unchanged.
        bars: per copy but the first: symbol, bar_start and the number of the event that the bar belongs to.
        days: the held-out days.
        sessions: the trading sessions.
    """

    kinds: tuple[str, ...]
    copies: tuple[pl.DataFrame, ...]
    bars: tuple[pl.DataFrame, ...]
    days: tuple[date, ...]
    sessions: SessionTable


@dataclass(frozen=True, slots=True, eq=False)
class EventRows:
    """The model inputs of the planted days for one feature view and window length.

    Attributes:
        clean: windows of the unchanged bars, float64[n, length, F].
        clean_bars: their date, symbol and bar_start.
        changed: windows of the bars of events, float64[m, length, F].
        event: number of the event of each changed bar, int64[m].
    """

    clean: Floats
    clean_bars: pl.DataFrame
    changed: Floats
    event: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FoundEvents:
    """What one bundle finds.

    Attributes:
        found: bool[events].
        threshold: score that an alert needs here, at least the serving threshold.
        alerts_per_day: alerts per symbol and 390 unchanged bars as served, without the limit of the budget.
    """

    found: npt.NDArray[np.bool_]
    threshold: float
    alerts_per_day: float


def plant_days(
    bars: pl.DataFrame, days: tuple[date, ...], sessions: SessionTable, *, seed: int, events: int = EVENTS
) -> PlantedDays:
    """Plant events into copies of held-out days, until there are enough of them or ``MAX_COPIES`` copies.

    Args:
        bars: ``BAR_SCHEMA``, one row per symbol and minute: the days, and the history that their features need.
        days: the held-out days.
        sessions: sessions of every calendar that the symbols trade on.
        seed: seed of all events.
        events: number of events to reach.
    """
    # The recorded market context belongs to the original bars; with planted events their centre differs.
    plain = bars.with_columns(
        market_return=pl.lit(None, pl.Float64),
        market_peers=pl.lit(None, pl.Int32),
        market_centre=pl.lit(None, pl.String),
    ).sort("symbol", "bar_start")
    wanted = pl.col("date").is_in(list(days))
    before, held_out = plain.filter(~wanted), plain.filter(wanted)
    kinds, copies, changed = list[str](), [plain], list[pl.DataFrame]()
    sizes = list(SIZES)
    while len(kinds) < events and len(changed) < MAX_COPIES and held_out.height:
        number = len(changed)
        copy = plant_independent(held_out, sessions, size=sizes[number % len(sizes)], seed=seed * _SEED_STRIDE + number)
        if copy.events.is_empty():
            break
        found = copy.events.with_columns(event=pl.int_range(pl.len()) + len(kinds))
        changed.append(_bars_of(found, copy.bars))
        kinds += found["kind"].to_list()
        copies.append(pl.concat([before, copy.bars]).sort("symbol", "bar_start"))
    return PlantedDays(tuple(kinds), tuple(copies), tuple(changed), tuple(days), sessions)


def event_rows(planted: PlantedDays, view: str, length: int = 1) -> EventRows:
    """Compute the model inputs of planted days.

    Args:
        planted: the planted days.
        view: name of a feature view.
        length: rows per window; bars before the first held-out day are NaN.
    """
    columns = VIEWS[view].columns
    windows, numbers, clean_bars = list[Floats](), list[npt.NDArray[np.int64]](), pl.DataFrame()
    for features, changed in zip(_features(planted, view), (None, *planted.bars), strict=True):
        ordered = features.sort("symbol", "bar_start").with_row_index("place")
        begins = ordered.select(pl.col("place").first().over("symbol").cast(pl.Int64)).to_series().to_numpy()
        if changed is None:
            places, clean_bars = np.arange(ordered.height), ordered.select("date", "symbol", "bar_start")
        else:
            joined = changed.join(ordered.select("symbol", "bar_start", "place"), on=["symbol", "bar_start"])
            places = joined["place"].cast(pl.Int64).to_numpy()
            numbers.append(joined["event"].to_numpy())
        values = ordered.select(columns).to_numpy()
        windows.append(windows_of(values, places, begins[places], length))
    none = np.empty((0, length, len(columns)))
    return EventRows(
        clean=windows[0],
        clean_bars=clean_bars,
        changed=np.concatenate([none, *windows[1:]]),
        event=np.concatenate([np.empty(0, np.int64), *numbers]),
    )


def found_events(rows: EventRows, predictor: Predictor, events: int) -> FoundEvents:
    """Return the events that a bundle finds within the alert budget.

    Its alerts are those that it serves, from the serving threshold on. If these exceed the budget on the unchanged
    bars, a higher threshold applies, at which they do not. So a bundle gains nothing by alerting more than promised,
    and one that alerts less is judged by the alerts that it raises. Floors count as any other score.

    Args:
        rows: inputs of the view and window length of the bundle.
        predictor: the bundle.
        events: number of events.
    """
    clean = predictor.predict(rows.clean).anomaly_score
    allowed = int(np.ceil(ALERTS_PER_SYMBOL_DAY * len(clean) / BARS_PER_DAY))
    ranked = np.sort(clean)[::-1]
    limit = float(np.nextafter(ranked[allowed], 1.0)) if len(ranked) > allowed else THRESHOLD
    threshold = max(THRESHOLD, limit)
    found = np.zeros(events, dtype=np.bool_)
    if len(rows.event):
        alerts = predictor.predict(rows.changed).anomaly_score >= threshold
        found[rows.event[alerts]] = True
    served = float((clean >= THRESHOLD).sum()) * BARS_PER_DAY / max(len(clean), 1)
    return FoundEvents(found, threshold, served)


def count_pairs(
    kinds: tuple[str, ...], challenger: npt.NDArray[np.bool_], champion: npt.NDArray[np.bool_]
) -> dict[str, PairedCounts]:
    """Return, per kind, the events that only one of two bundles finds.

    Args:
        kinds: kind of each event.
        challenger: events that the challenger finds, bool[events].
        champion: events that the champion finds, bool[events].
    """
    names = np.array(kinds, dtype=np.str_)
    counts = {}
    for kind in sorted(set(kinds)):
        ours, theirs = challenger[names == kind], champion[names == kind]
        counts[kind] = PairedCounts(
            events=len(ours),
            gained=int((ours & ~theirs).sum()),
            lost=int((theirs & ~ours).sum()),
            both=int((ours & theirs).sum()),
        )
    return counts


def _features(planted: PlantedDays, view: str) -> Iterator[pl.DataFrame]:
    for copy in planted.copies:
        yield features_of_days(copy, planted.days, planted.sessions, VIEWS[view])


def _bars_of(events: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Return the bars of each event, and those within ``GRACE`` after it."""
    joined = bars.select("symbol", "bar_start").join(events.select("symbol", "first", "last", "event"), on="symbol")
    inside = pl.col("bar_start").is_between("first", pl.col("last") + GRACE)
    return joined.filter(inside).select("symbol", "bar_start", "event")
