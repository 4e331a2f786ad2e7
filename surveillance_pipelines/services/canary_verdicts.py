"""What a canary run shows besides detection: whether every message was served as batch scoring would serve it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl
from scipy.stats import binomtest

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.evaluation.canaries import BUDGETS, CONFIDENCE, episodes
from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY, BARS_PER_DAY
from surveillance_pipelines.market.asset_classes import asset_class_of
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.services.canary_lane import BAR_COLUMNS, LaneResult

TOLERANCE: Final = 1e-6
"""Relative difference of a bar's values, and difference of scores: sizes of ticks are sums of floats."""

EQUAL_SHARE: Final = 0.98
"""Share of a symbol's bars whose live and batch scores must be equal. They differ only in the peers' returns of symbols
that this run did not draw."""

EQUAL_ALERTS: Final = 0.95
"""Share of the alerts of a copy that live and batch must have in common, for the same reason. Alerts are so rare that
their loss changes few bars."""

FIRST_BARS: Final = 60
"""Bars of a symbol that are not compared with batch scoring if its messages start within a session: the engine does not
know the peers' returns of the minute before, which features keep for as long as this."""


@dataclass(frozen=True, slots=True)
class Control:
    """Alerts on the unchanged bars.

    Attributes:
        bars: number of scored bars.
        alerts: number of confirmed alerts.
        episodes: number of alert episodes.
    """

    bars: int
    alerts: int
    episodes: int

    @property
    def rate(self) -> float:
        """Episodes per symbol and ``BARS_PER_DAY`` bars."""
        return self.episodes * BARS_PER_DAY / max(self.bars, 1)

    @property
    def low(self) -> float:
        """Lower end of the binomial interval of ``rate``."""
        if self.bars == 0:
            return 0.0
        found = binomtest(self.episodes, self.bars).proportion_ci(CONFIDENCE, method="exact")
        return float(found.low) * BARS_PER_DAY

    @property
    def limit(self) -> float:
        """The largest accepted ``low``."""
        return BUDGETS * ALERTS_PER_SYMBOL_DAY

    @property
    def is_quiet(self) -> bool:
        return self.bars > 0 and self.low <= self.limit


def measure_control(result: LaneResult) -> Control:
    """Return the alerts on unchanged bars."""
    alerts = result.alert_frame()
    return Control(bars=len(result.scores), alerts=alerts.height, episodes=episodes(alerts))


def outside_training(symbols: Iterable[str], sessions: SessionTable, predictor: Predictor) -> dict[str, str]:
    """Return the symbols whose calendar or asset class no training bar had, although the symbol itself was trained on.

    Their registration has changed since the training, or is wrong.
    """
    domain, found = predictor.training_domain, dict[str, str]()
    if domain is None or domain.symbols is None:
        return found
    for symbol in sorted(domain.symbols & set(symbols)):
        calendar = sessions.for_symbol(symbol).calendar
        if outside := domain.outside(symbol, calendar, asset_class_of(symbol, calendar)):
            found[symbol] = "not as in training: " + ", ".join(
                f"{name.replace('_', ' ')} {value}" for name, value in outside.items()
            )
    return found


def lane_problems(sent: pl.DataFrame, result: LaneResult, batch: pl.DataFrame) -> dict[str, str]:
    """Return symbol → the first thing that is wrong with how its messages were served; ``""`` for the whole lane.

    Args:
        sent: ``BAR_SCHEMA``, the bars whose messages were sent.
        result: what the lane made of them.
        batch: ``SCORES_SCHEMA`` of the same bars from batch scoring.
    """
    found: dict[str, str] = {}
    for symbol, problem in _problems(sent, result, batch):
        found.setdefault(symbol, problem)
    return found


def _problems(sent: pl.DataFrame, result: LaneResult, batch: pl.DataFrame) -> Iterator[tuple[str, str]]:
    if result.dead:
        yield "", f"messages refused: {', '.join(f'{code} {count}' for code, count in sorted(result.dead.items()))}"
    if result.late:
        yield "", f"{result.late} of {result.messages} messages late or duplicate"
    if result.excluded:
        yield "", f"models out of service: {', '.join(sorted(result.excluded))}"
    yield from _of_bars(sent, result)
    yield from _of_scores(sent, result, batch)


def _of_bars(sent: pl.DataFrame, result: LaneResult) -> Iterator[tuple[str, str]]:
    """Compare the bars that the engine built with those that were sent."""
    built = result.bar_frame()
    values = BAR_COLUMNS[2:]
    pairs = sent.select(BAR_COLUMNS).join(built, on=["symbol", "bar_start"], how="left", suffix="_built")
    equal = [
        ((pl.col(name) - pl.col(f"{name}_built")).abs() <= TOLERANCE * (pl.col(name).abs() + TOLERANCE)).fill_null(
            value=False
        )
        for name in values
    ]
    counts = pairs.group_by("symbol").agg(pl.len(), wrong=(~pl.all_horizontal(equal)).sum()).sort("symbol")
    for symbol, bars, wrong in counts.iter_rows():
        if wrong > 1:  # with running totals, the volume of the first message is unknown
            yield symbol, f"{wrong} of {bars} bars were not built as sent"


def _of_scores(sent: pl.DataFrame, result: LaneResult, batch: pl.DataFrame) -> Iterator[tuple[str, str]]:
    """Compare the live scores and alerts with those of batch scoring."""
    keys = ["symbol", "bar_start"]
    live = result.score_frame().select(*keys, "score")
    alerts = result.alert_frame().select(*keys, live_kind="kind").unique(keys)
    expected = batch.select(
        *keys, "anomaly_score", batch_kind=pl.when("is_anomaly").then("kind").otherwise(pl.lit(None, pl.String))
    )
    compared = sent.select(keys).join(_first_compared(sent, batch), on="symbol")
    compared = compared.with_columns(late=pl.col("bar_start") >= pl.col("from"))
    pairs = compared.join(live, on=keys, how="left").join(alerts, on=keys, how="left")
    pairs = pairs.join(expected, on=keys, how="left")
    scored = pl.col("score").is_not_null()
    same = ((pl.col("score") - pl.col("anomaly_score")).abs() <= TOLERANCE) & pl.col("live_kind").eq_missing(
        pl.col("batch_kind")
    )
    alerting = pairs.filter("late").select(live=pl.col("live_kind"), batch=pl.col("batch_kind"))
    alerting = alerting.filter(pl.any_horizontal(pl.all().is_not_null()))
    others = alerting.filter(pl.col("live").ne_missing(pl.col("batch"))).height
    if others > max(1.0, (1.0 - EQUAL_ALERTS) * alerting.height):
        yield "", f"{others} of {alerting.height} alerts are missing, or of another kind, live or in batch scoring"
    differs = pl.col("late") & ~same.fill_null(value=False)
    counts = pairs.group_by("symbol").agg(pl.len(), pl.col("late").sum(), scored=scored.sum(), differ=differs.sum())
    for symbol, bars, late, scores, differ in counts.sort("symbol").iter_rows():
        if scores < bars:
            yield symbol, f"{scores} of {bars} bars have a score"
        elif differ > (1.0 - EQUAL_SHARE) * late:
            yield symbol, f"{differ} of {late} bars have another score or alert than in batch scoring"


def _first_compared(sent: pl.DataFrame, batch: pl.DataFrame) -> pl.DataFrame:
    """Return ``symbol`` and ``from``, the first bar to compare: the first, or the one after ``FIRST_BARS`` minutes."""
    first = sent.group_by("symbol").agg(pl.col("bar_start").min())
    within = batch.select("symbol", bar_start=pl.col("bar_start") + timedelta(minutes=1), within=pl.lit(value=True))
    skipped = pl.when("within").then(timedelta(minutes=FIRST_BARS)).otherwise(timedelta())
    known = first.join(within, on=["symbol", "bar_start"], how="left")
    return known.select("symbol", (pl.col("bar_start") + skipped).alias("from"))
