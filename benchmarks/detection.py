"""Detection of independent anomalies on real bars, beside naive detectors at an equal alert budget.

``python -m benchmarks.detection`` trains a bundle on the first days of each market (``detection_markets.py``), plants
anomalies of a generator that training never sees into copies of the last days, and counts the events that each
detector finds. Every threshold is set so that the detector raises ``BUDGET`` alerts per symbol and 390 clean bars.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from benchmarks.detection_baselines import BASELINES, combination, remembered
from benchmarks.detection_budgets import budgets
from benchmarks.detection_markets import DATA, MARKETS, VIEW, Market, Scorer, Scores, load_market
from benchmarks.detection_report import MEMBERS, OURS, RECORD, write_page
from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.training.bundle_training import save_bundle, train_bundle
from surveillance_pipelines.training.deadline import Deadline
from surveillance_pipelines.training.training_set import build_training_set

BUDGET: Final = 1.0
"""Alerts per symbol and ``BARS_PER_DAY`` clean bars, for every detector."""
SEED: Final = 1
_GRACE: Final = timedelta(minutes=1)
"""An alert on the bar after an event still belongs to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """Events of one market and size, with what one detector found.

    Attributes:
        detector: name of the detector.
        size: size of the events.
        events: kind, ``found``, and ``delay`` in minutes from the first changed bar to the first alert.
        alerts_per_day: alerts per symbol and 390 clean bars at the threshold.
    """

    detector: str
    size: str
    events: pl.DataFrame
    alerts_per_day: float


def main() -> int:
    """Run the benchmark, write its record and page, and return 0; without recorded bars, say so and change nothing."""
    if not DATA.exists():
        print(f"skipped: expected recorded bars in {DATA}, found none; {RECORD} keeps the last measurement")
        return 0
    results = []
    for spec in MARKETS:
        print(f"{spec.name}: planting", flush=True)
        market = load_market(spec)
        print(f"{spec.name}: training", flush=True)
        results.append(_market_result(market, train_market(market)))
    record = {"budget": BUDGET, "promised": ALERTS_PER_SYMBOL_DAY, "markets": results}
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {write_page(record)}")
    return 0


def train_market(market: Market) -> Ensemble:
    """Return the bundle that is trained on the training days of a market."""
    days = market.train["date"]
    rows = build_training_set(
        market.bars.filter(pl.col("date") < market.spec.test),
        market.sessions,
        first=market.spec.first,
        last=days.max(),  # pyright: ignore[reportArgumentType] (the training days are not empty)
        seed=SEED,
        view=VIEW,
    )
    trained = train_bundle(rows, seed=SEED, deadline=Deadline.after(1_800.0))
    with tempfile.TemporaryDirectory() as folder:
        save_bundle(trained, Path(folder) / "bundle")
        return Ensemble(load_bundle(Path(folder) / "bundle"))


def _market_result(market: Market, ensemble: Ensemble) -> dict[str, Any]:
    scorers = {OURS: fused(ensemble), **{name: member(ensemble, name) for name in MEMBERS}}
    naive = {name: remembered(fit(market.train)) for name, fit in BASELINES.items()}
    scorers |= naive | {"best combination": combination(list(naive.values()), market.train)}
    rows = []
    for name, scorer in scorers.items():
        print(f"{market.spec.name}: {name}", flush=True)
        rows += [summary(found, kind, part) for found in detect(market, name, scorer) for kind, part in kinds_of(found)]
    predictions = ensemble.predict(market.clean.select(VIEW.columns).to_numpy())
    return {
        "market": market.spec.name,
        "symbols": list(market.spec.symbols),
        "test_days": [market.spec.test.isoformat(), market.spec.last.isoformat()],
        "symbol_days": round(market.symbol_days, 1),
        "observed": float(predictions.is_anomaly.sum()) / market.symbol_days,
        "budgets": budgets(market.clean, predictions.is_anomaly),
        "rows": rows,
    }


def fused(ensemble: Ensemble) -> Scorer:
    """Return the bundle's score."""
    return lambda rows: ensemble.predict(rows.select(VIEW.columns).to_numpy()).anomaly_score


def member(ensemble: Ensemble, name: str) -> Scorer:
    """Return the statistic of a member, which has the order of its score without its upper bound."""

    def score(rows: pl.DataFrame) -> Scores:
        features = rows.select(VIEW.columns).to_numpy()
        if name == "classifier":
            return 1.0 - ensemble.predict(features).probabilities[:, 0]
        prediction: Any = ensemble.predict_member(name, features)
        return prediction.statistic

    return score


def detect(market: Market, detector: str, scorer: Scorer) -> Iterator[Detected]:
    """Yield the result of each size, at the threshold that spends the budget on the clean days."""
    clean = scorer(market.clean)
    allowed = int(BUDGET * market.symbol_days)
    threshold = float(np.sort(clean)[-allowed - 1])
    rate = float((clean > threshold).sum()) / market.symbol_days
    for size, rows in market.planted.items():
        alerts = rows.select("copy", "symbol", "bar_start").filter(pl.Series(scorer(rows) > threshold))
        events = market.events[size]
        hits = (
            events.join(alerts, on=["copy", "symbol"])
            .filter(pl.col("bar_start").is_between("first", pl.col("last") + _GRACE))
            .group_by("copy", "event_id")
            .agg(delay=(pl.col("bar_start") - pl.col("first")).dt.total_minutes().min())
        )
        found = events.join(hits, on=["copy", "event_id"], how="left").with_columns(found=pl.col("delay").is_not_null())
        yield Detected(detector, size, found, rate)


def kinds_of(found: Detected) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each kind with its events."""
    for (kind,), part in sorted(found.events.partition_by("kind", as_dict=True).items()):
        yield str(kind), part


def summary(found: Detected, kind: str, events: pl.DataFrame) -> dict[str, Any]:
    """Return the row of the record for the events of one kind."""
    delay = events["delay"].median()
    return {
        "detector": found.detector,
        "size": found.size,
        "kind": kind,
        "events": events.height,
        "found": int(events["found"].sum()),
        "delay_minutes": None if delay is None else float(delay),  # pyright: ignore[reportArgumentType]
        "alerts_per_symbol_day": round(found.alerts_per_day, 3),
    }


if __name__ == "__main__":
    sys.exit(main())
