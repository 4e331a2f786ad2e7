"""Small models for tests: bars of a simulated market, real training, a real bundle."""

from datetime import date
from functools import cache
from pathlib import Path

import polars as pl

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.simulator import default_market, simulate
from surveillance_pipelines.training.autoencoder import AutoencoderConfig
from surveillance_pipelines.training.boosting import BoostingConfig
from surveillance_pipelines.training.bundle_training import TrainedBundle, save_bundle, train_bundle
from surveillance_pipelines.training.deadline import Deadline
from surveillance_pipelines.training.training_data import TrainingSet
from surveillance_pipelines.training.training_set import build_training_set

TINY_CONFIGS = {
    "autoencoder": AutoencoderConfig(epochs=4),
    "classifier": BoostingConfig(rounds=12, depth=4, learning_rate=0.4),
    "direction": BoostingConfig(rounds=3, depth=2),
}
TINY_SYMBOLS = ("AAPL", "MSFT", "SPY")
TINY_FIRST, TINY_LAST = date(2024, 3, 4), date(2024, 3, 11)  # six sessions


@cache
def tiny_market(seed: int = 7) -> tuple[pl.DataFrame, SessionTable]:
    """Return 1-minute bars of three symbols over six sessions, and the sessions."""
    sessions = build_sessions("XNYS", TINY_FIRST, TINY_LAST)
    return simulate(default_market(TINY_SYMBOLS, seed), sessions), SessionTable.from_frame(sessions)


@cache
def tiny_training_set(seed: int = 7) -> TrainingSet:
    bars, sessions = tiny_market(seed)
    return build_training_set(bars, sessions, first=TINY_FIRST, last=TINY_LAST, seed=seed, per_symbol_day=12.0)


@cache
def single_symbol_training_set() -> TrainingSet:
    """Return the training set of one symbol, in which no anomaly is relative to another symbol."""
    bars, sessions = tiny_market()
    alone = bars.filter(pl.col("symbol") == "AAPL")
    return build_training_set(alone, sessions, first=TINY_FIRST, last=TINY_LAST, seed=7, per_symbol_day=12.0)


@cache
def tiny_models(seed: int = 7) -> TrainedBundle:
    return train_bundle(tiny_training_set(seed), seed=seed, deadline=Deadline.after(120.0), configs=TINY_CONFIGS)


def build_tiny_bundle(path: Path, seed: int = 7) -> str:
    """Write a bundle to a new folder and return its hash; the models are trained once per process and seed."""
    return save_bundle(tiny_models(seed), path)
