"""Alerts on real, unchanged bars, drawn at random for people to judge: ``python -m benchmarks.real_alerts``.

Trains a bundle per market as ``benchmarks.detection`` does, scores the test days, and prints a seeded sample of the
alerts with the bars around them, the incidents, and whether the events on record (``events.csv``) were found.
"""

import csv
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.detection import train_market
from benchmarks.detection_markets import DATA, MARKETS, Market, MarketSpec, load_market
from surveillance_pipelines.batch.scoring import DayScores, score_day
from surveillance_pipelines.engine.scoring_rows import current_row_config
from surveillance_pipelines.strategies.pacing import SignalPace

SAMPLE: Final = 15
"""Alerts per market."""
SEED: Final = 11
AROUND: Final = timedelta(minutes=6)
_FILE: Final = "equity_minute/yahoo_1m_2019_2022.parquet"


def main() -> int:
    """Print the sample of each market of the file; return 0. Without recorded bars, say so."""
    if not DATA.exists():
        print(f"skipped: expected recorded bars in {DATA}, found none")
        return 0
    for spec in MARKETS:
        if spec.path == _FILE:
            market = load_market(spec, copies=0)
            _report(spec, market, _scored(market))
    return 0


def _scored(market: Market) -> DayScores:
    ensemble = train_market(market)
    pace = SignalPace(cooldown=0, warmup=0)
    config = current_row_config(ensemble, tenant="default", config_hash="benchmark", pace=pace)
    rows = market.clean.sort("symbol", "bar_start")
    return score_day(rows, ensemble, config, sessions=market.sessions)


def _report(spec: MarketSpec, market: Market, scored: DayScores) -> None:
    alerts = pl.DataFrame(
        {
            "symbol": [row.symbol for row in scored.anomalies],
            "at": [_instant(row.bar_start) for row in scored.anomalies],
            "kind": [row.kind for row in scored.anomalies],
            "score": [row.score for row in scored.anomalies],
            "why": [row.explanation.get("summary", "") for row in scored.anomalies],
        }
    )
    opened = [row for row in scored.incidents if row.incident_status == "confirmed"]
    severities = pl.Series([row.severity for row in scored.incidents if row.incident_status == "closed"])
    print(f"\n== {spec.name}: {alerts.height} alerts in {len(opened)} incidents, {market.symbol_days:.1f} symbol-days")
    print(dict(severities.value_counts().iter_rows()))
    _print_events(spec, market, alerts)
    for row in alerts.sample(min(SAMPLE, alerts.height), seed=SEED).sort("symbol", "at").iter_rows(named=True):
        _print_alert(market, row)


def _print_events(spec: MarketSpec, market: Market, alerts: pl.DataFrame) -> None:
    with (Path(DATA) / "events.csv").open(newline="") as file:
        for event in csv.DictReader(file):
            if "yahoo_1m" not in event["where"]:
                continue
            first, last = (datetime.fromisoformat(event[name]) for name in ("start_utc", "end_utc"))
            if not spec.test <= first.date() <= spec.last:
                continue
            symbols = [symbol for symbol in spec.symbols if symbol in event["where"]] or list(spec.symbols)
            bars = market.clean.filter(pl.col("symbol").is_in(symbols), pl.col("bar_start").is_between(first, last))
            found = alerts.filter(pl.col("symbol").is_in(symbols), pl.col("at").is_between(first, last))
            earliest = "none" if found.is_empty() else str(found.sort("at").row(0))
            print(f"event {event['event']}: {found.height} alerts on {bars.height} bars; first: {earliest}")


def _print_alert(market: Market, row: dict[str, Any]) -> None:
    print(f"\n{row['symbol']} {row['at']:%Y-%m-%d %H:%M} {row['kind']} score {row['score']:.3f}: {row['why']}")
    bars = market.bars.filter(
        pl.col("symbol") == row["symbol"], pl.col("bar_start").is_between(row["at"] - AROUND, row["at"] + AROUND)
    )
    usual = market.bars.filter(pl.col("symbol") == row["symbol"], pl.col("date") < row["at"].date())["volume"].median()
    print(f"   median volume of earlier days {usual:,.0f}")
    for bar in bars.iter_rows(named=True):
        mark = "->" if bar["bar_start"] == row["at"] else "  "
        volume = bar["volume"] or 0.0
        print(
            f"{mark} {bar['bar_start']:%H:%M} o {bar['open']:.3f} h {bar['high']:.3f} l {bar['low']:.3f} "
            f"c {bar['close']:.3f} v {volume:,.0f}"
        )


def _instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


if __name__ == "__main__":
    sys.exit(main())
