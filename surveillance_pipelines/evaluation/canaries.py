"""Canaries: planted manipulations whose detection is known, and the promise that the detection keeps.

A canary run plants them into a recent real day and sends them through the serving path (``services/canaries.py``). The
promise is measured once per bundle, with the same shapes on its test days (``services/canary_promises.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl
from scipy.stats import binomtest

from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.evaluation.independent_anomalies import EVENT_SCHEMA, plant_independent
from surveillance_pipelines.evaluation.promises import EPISODE_GAP

PROMISED_SIZE: Final = "full"
"""Size for which detection is promised; smaller ones are recorded only."""

GRACE: Final = timedelta(minutes=1)
"""An alert on the bar after a manipulation still belongs to it."""

CONFIDENCE: Final = 0.99
"""Of all intervals. With two dozen verdicts per run, a lower one would often contradict a promise by chance."""

BUDGETS: Final = 3.0
"""Unchanged bars may raise this many times the promised alerts before the control counts as noisy: a real day has real
events, and even an unknown market must not raise more (``docs/detection.md``)."""

ALERT_SCHEMA: Final = pl.Schema(
    {
        "copy": pl.Int64,
        "symbol": pl.String,
        "bar_start": UTC_MICROSECONDS,
        "kind": pl.String,
        "detectors": pl.List(pl.String),  # those that reach their threshold; empty if the rows do not name them
    }
)
"""Confirmed alerts of planted copies."""

SCORE_SCHEMA: Final = pl.Schema(
    {"copy": pl.Int64, "symbol": pl.String, "bar_start": UTC_MICROSECONDS, "score": pl.Float64}
)
"""Scores of closed bars, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number of events out of ``of``."""

    found: int
    of: int

    @property
    def rate(self) -> float:
        """The share, NaN of none."""
        return self.found / self.of if self.of else float("nan")

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return the exact binomial interval of the share (Clopper and Pearson, 1934); 0 to 1 of none."""
        if self.of == 0:
            return 0.0, 1.0
        found = binomtest(self.found, self.of).proportion_ci(confidence, method="exact")
        return float(found.low), float(found.high)


@dataclass(frozen=True, slots=True)
class KindCounts:
    """How many planted manipulations of a kind were detected, and how many with the correct kind."""

    detected: Count
    named: Count


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one run or evaluation.

    Attributes:
        kinds: by kind.
        detectors: detector → manipulations, of all kinds, for which it reached its threshold. A detector that fails
            while others find the same manipulations changes no count of a kind.
    """

    kinds: Mapping[str, KindCounts]
    detectors: Mapping[str, Count]


@dataclass(frozen=True, slots=True)
class RateVerdict:
    """A measured share against its promise.

    Attributes:
        name: the kind, ``all kinds``, or the detector.
        measure: ``detected``, ``named``, or ``alerted`` (of a detector).
        count: the events of the canary run.
        promised: lower bound of the share in the bundle's own evaluation.
    """

    name: str
    measure: str
    count: Count
    promised: float

    @property
    def kept(self) -> bool:
        """Whether the share may be as large as promised, by the upper end of its interval."""
        return self.count.interval()[1] >= self.promised

    def __str__(self) -> str:
        low, high = self.count.interval()
        return (
            f"{self.name}: {self.count.found} of {self.count.of} {self.measure} (99% interval {low:.2f} to {high:.2f}),"
            f" promised at least {self.promised:.2f}"
        )


def planted_copies(
    bars: pl.DataFrame, sessions: SessionTable, *, size: str, seeds: Sequence[int]
) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Return one planted copy per seed: its bars and its events (``EVENT_SCHEMA``)."""
    copies = (plant_independent(bars, sessions, size=size, seed=seed) for seed in seeds)
    return [(copy.bars, copy.events) for copy in copies]


def judge(events: pl.DataFrame, alerts: pl.DataFrame, scores: pl.DataFrame, control: pl.DataFrame) -> pl.DataFrame:
    """Return what became of each planted manipulation.

    A manipulation is detected if one of its bars, or the one after, has a confirmed alert, and the unchanged bar has
    none: an alert that would have come anyway detects nothing.

    Args:
        events: ``EVENT_SCHEMA`` and ``copy``.
        alerts: ``ALERT_SCHEMA``.
        scores: ``SCORE_SCHEMA``.
        control: ``symbol`` and ``bar_start`` of the alerts on unchanged bars.

    Returns:
        ``events`` with ``detected``, ``named`` (an alert has the planted kind), ``kind_named`` (that kind, else the
        kind of the first alert, else null), ``detectors`` of its alerts, ``score`` (largest, null without a scored bar)
        and ``delay_minutes`` (from the first changed bar to the first alert, null if not detected).
    """
    window = pl.col("bar_start").is_between("first", pl.col("last") + GRACE)
    keys = ["copy", "event_id"]
    caused = alerts.join(control, on=["symbol", "bar_start"], how="anti")
    hits = (
        events.join(caused.rename({"kind": "alert_kind"}), on=["copy", "symbol"])
        .filter(window)
        .sort("bar_start")
        .group_by(keys)
        .agg(
            named=(pl.col("alert_kind") == pl.col("kind")).any(),
            first_kind=pl.col("alert_kind").first(),
            detectors=pl.col("detectors").list.explode().unique().drop_nulls(),
            delay_minutes=(pl.col("bar_start") - pl.col("first")).dt.total_minutes().min(),
        )
    )
    largest = events.join(scores, on=["copy", "symbol"]).filter(window).group_by(keys).agg(pl.col("score").max())
    found = events.join(hits, on=keys, how="left").join(largest, on=keys, how="left")
    named = pl.col("named").fill_null(value=False)
    return found.with_columns(
        detected=pl.col("first_kind").is_not_null(),
        named=named,
        kind_named=pl.when(named).then("kind").otherwise("first_kind"),
    ).drop("first_kind")


def counts_of(judged: pl.DataFrame, detectors: Sequence[str]) -> Counts:
    """Return the counts of the manipulations of the promised size.

    Args:
        judged: result of ``judge``.
        detectors: the detectors of the models, also those that never alerted.
    """
    events = judged.filter(pl.col("size") == PROMISED_SIZE)
    rows = events.group_by("kind").agg(pl.len(), pl.col("detected", "named").sum())
    alerted = [name for names in events["detectors"].to_list() for name in names or ()]
    return Counts(
        {
            kind: KindCounts(Count(detected, planted), Count(named, planted))
            for kind, planted, detected, named in rows.sort("kind").iter_rows()
        },
        {name: Count(alerted.count(name), events.height) for name in detectors},
    )


def verdicts(counts: Counts, promised: Counts) -> list[RateVerdict]:
    """Compare the counts of a run with those of the bundle's evaluation, per kind and for all kinds together.

    A kind that the evaluation has not measured has no verdict. The sum over all kinds has the power that single kinds
    with few events lack: its promise is the mean of the kinds' shares, weighted by the events of the run.
    """
    known = {kind: found for kind, found in counts.kinds.items() if kind in promised.kinds}
    found = [
        RateVerdict(name, "alerted", count, promised.detectors[name].interval()[0])
        for name, count in counts.detectors.items()
        if name in promised.detectors
    ]
    for measure in ("detected", "named"):
        pairs = [(kind, getattr(run, measure), getattr(promised.kinds[kind], measure)) for kind, run in known.items()]
        found += [RateVerdict(kind, measure, run, before.interval()[0]) for kind, run, before in pairs]
        whole = Count(sum(run.found for _, run, _ in pairs), sum(run.of for _, run, _ in pairs))
        if whole.of:
            found.append(RateVerdict("all kinds", measure, whole, _pooled(pairs, whole.of)))
    return found


def _pooled(pairs: Sequence[tuple[str, Count, Count]], events: int) -> float:
    """Return the lower bound of the weighted mean of evaluated shares.

    The variance of a weighted sum of shares is taken as that of one share with the smallest number of events in
    proportion to its weight, which is never too small.
    """
    mean = sum(run.of * before.rate for _, run, before in pairs) / events
    evidence = min(before.of * events / run.of for _, run, before in pairs if run.of)
    whole = round(evidence)
    return Count(round(mean * whole), whole).interval()[0]


def episodes(alerts: pl.DataFrame) -> int:
    """Return the number of alert episodes: alerts of a symbol at most ``EPISODE_GAP`` apart count once."""
    if alerts.is_empty():
        return 0
    gap = pl.col("bar_start").diff().over("symbol", order_by="bar_start")
    return alerts.unique(["symbol", "bar_start"]).select((gap.is_null() | (gap > EPISODE_GAP)).sum()).item()


def events_of(copies: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the events of several copies, with ``copy``, the copy's position."""
    schema = pl.Schema({**EVENT_SCHEMA, "copy": pl.Int64})
    parts = [events.with_columns(copy=pl.lit(number, pl.Int64)) for number, events in enumerate(copies)]
    return pl.concat(parts) if parts else schema.to_frame()
