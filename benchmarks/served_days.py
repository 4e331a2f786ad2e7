"""Batch scoring of thirty served days: every row equals the served one, and later days change none of them.

``python -m benchmarks.served_days`` takes about ten minutes on two cores. Drain runs serve a simulated market for
thirty sessions and, if the recorded bars (``DATA``) exist, these for twelve. Then the warehouse lane fills and scores
the same days with the bundle that served them, which is no longer the champion.
"""

import argparse
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.harness import REPOSITORY, counted
from benchmarks.live_lane import services_of
from benchmarks.models import proof_models
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.files.bars import read_bars
from surveillance_pipelines.market.files.options import FileOptions
from surveillance_pipelines.market.simulator import default_market, simulate
from surveillance_pipelines.models.bundle import copy_bundle
from surveillance_pipelines_tests.runtime.served_world import Market, Outcome, make_world, serve_and_compare
from surveillance_pipelines_tests.storage_fixtures import service_settings

DATA: Final = REPOSITORY.parent / "shared" / "data" / "equity_minute" / "yahoo_1m_2019_2022.parquet"
SIMULATED: Final = ("AAPL", "MSFT", "SPY")
REAL: Final = ("AAPL", "GME", "TSLA")
LATER: Final = 4
"""Number of days after the served ones by which the range is extended."""
FIRST: Final = date(2024, 1, 2)
REAL_FIRST: Final = date(2022, 3, 14)
_MARGIN: Final = timedelta(days=40)


def simulated(days: int) -> Market:
    """Return a market of three simulated symbols and the number of served sessions."""
    sessions = build_sessions("XNYS", FIRST - _MARGIN, FIRST + timedelta(days=2 * (days + LATER)) + _MARGIN)
    own = sessions.filter(pl.col("session_date") >= FIRST).head(days + LATER)
    return Market(simulate(default_market(SIMULATED, seed=17), own), sessions, served=days)


def recorded() -> Market:
    """Return the regular sessions of three recorded symbols, all but the last four of them served."""
    found = read_bars(DATA, FileOptions(adjustment="split")).frame
    inside = pl.col("bar_start").dt.time().is_between(pl.time(13, 30), pl.time(19, 59))
    bars = found.filter(pl.col("symbol").is_in(REAL), pl.col("date") >= REAL_FIRST, inside)
    days = bars["date"].unique().sort()
    sessions = build_sessions("XNYS", REAL_FIRST - _MARGIN, days[-1] + _MARGIN)
    landed = bars.with_columns(source=pl.lit("yfinance")).sort("symbol", "bar_start")
    return Market(landed, sessions, served=len(days) - LATER)


def main() -> int:
    """Run the proof for both markets, print the counts, and return 0 if every row is equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30, help="sessions of the simulated market that are served")
    markets = {"simulated": simulated(parser.parse_args().days)}
    if DATA.is_file():
        markets["recorded"] = recorded()
    else:
        print(f"recorded market skipped: no data (expected {DATA})")
    outcomes = {name: _prove(name, market) for name, market in markets.items()}
    held = all(outcome.holds for outcome in outcomes.values())
    counted(
        "served_days",
        work="days served by drain runs, scored at rest with the bundle named by its hash; then days added after them",
        goal="every anomaly, signal and prediction equal, field by field; no served day changed",
        found=[line for name, market in markets.items() for line in _found(name, market, outcomes[name])],
        met=held,
    )
    return 0 if held else 1


def _found(name: str, market: Market, outcome: Outcome) -> list[str]:
    equal = ", ".join(f"{table.equal:,} of {table.served:,} {table.table}" for table in outcome.compared)
    days = f"{name}: {market.served} days, {sum(outcome.outcomes.values()):,} messages"
    changed = ", ".join(outcome.changed) or "nothing"
    return [f"{days}: equal {equal}; added {outcome.added}; changed by {LATER} later days: {changed}"]


def _prove(name: str, market: Market) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="served-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        places: dict[str, Any] = {
            "lake_url": str(folder / "lake"),
            "model_storage_path": folder / "models",
            "mlflow_tracking_uri": f"sqlite:///{folder}/mlflow.db",
        }
        settings = service_settings(folder / "services").model_copy(update=places)
        with services_of(settings) as services:
            bundle = copy_bundle(proof_models().bundle.path, folder / "models" / "v1")
            world = make_world(settings, services.server_url, bundle, market)
            outcome = serve_and_compare(world, market, runs=5, say=lambda text: print(f"  {text}", flush=True))
    print(f"{name}: {market.served} days served, {sum(outcome.outcomes.values()):,} messages; then {LATER} days more")
    for table in outcome.compared:
        print(
            f"  {table.table}: {table.served:,} served, {table.scored:,} scored at rest, {table.equal:,} equal",
            *table.differences,
            sep="\n    ",
        )
    print(f"  rows that scoring added where they had been served: {outcome.added}; changed by later days: ", end="")
    print(", ".join(outcome.changed) or "nothing")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
