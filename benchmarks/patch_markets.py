"""The patch encoder on bars: VUS-PR and event recall at an equal alert budget, beside the present detectors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.detection import detect, fused, kinds_of, member, summary, train_market
from benchmarks.detection_baselines import BASELINES, remembered
from benchmarks.detection_markets import Market, MarketSpec, Scorer, Scores, load_market
from benchmarks.detection_report import MEMBERS, OURS
from benchmarks.patch_scores import (
    WINDOW,
    at_the_end,
    combined,
    mean_shift,
    memory_distances,
    point_deviation,
    sub_pca,
    windows_of,
)
from surveillance_pipelines.evaluation.independent_anomalies import SIZES
from surveillance_pipelines.evaluation.volume_under_surface import vus_pr
from surveillance_pipelines.training.patch_encoder import PatchEncoder, train_patch_encoder

Floats = npt.NDArray[np.float64]

CHANNELS: Final = ("return_z", "range_ratio", "volume_z", "close_location")
COPIES: Final = 20
"""Planted copies per symbol-set, divided by its symbols: fewer events than in ``benchmarks.detection``."""
BUFFER: Final = 10
"""Longest buffer of VUS-PR, in minutes."""
SEED: Final = 1
_NAIVE: Final = ("robust z", "spectral residual", "isolation forest")


def market_result(spec: MarketSpec) -> dict[str, Any]:
    """Return VUS-PR and recall of all detectors on one market."""
    market = load_market(replace(spec, copies=max(2, COPIES // len(spec.symbols))))
    ensemble = train_market(market)
    patches = PatchDetectors.fit(market.train)
    scorers: dict[str, Scorer] = {name: remembered(score) for name, score in patches.scorers().items()}
    scorers |= {name: remembered(BASELINES[name](market.train)) for name in _NAIVE}
    scorers |= {OURS: remembered(fused(ensemble)), **{name: remembered(member(ensemble, name)) for name in MEMBERS}}
    rows, volumes = [], []
    for name, scorer in scorers.items():
        print(f"{spec.name}: {name}", flush=True)
        rows += [summary(found, kind, part) for found in detect(market, name, scorer) for kind, part in kinds_of(found)]
        volumes += [{"detector": name, "size": size, "vus_pr": _volume(market, size, scorer)} for size in SIZES]
    return {"market": spec.name, "copies": market.events["full"]["copy"].n_unique(), "rows": rows, "volumes": volumes}


@dataclass(frozen=True, slots=True, eq=False)
class PatchDetectors:
    """An encoder for a market, with the training bars of each symbol.

    Attributes:
        encoder: trained on all symbols.
        known: symbol → float64[n, channels], its training bars.
    """

    encoder: PatchEncoder
    known: Mapping[str, Floats]

    @classmethod
    def fit(cls, train: pl.DataFrame) -> "PatchDetectors":
        """Return the detectors of a market, from feature rows sorted by symbol and start."""
        parts = train.partition_by("symbol", maintain_order=True, as_dict=True)
        known = {str(symbol): _channels(rows) for (symbol,), rows in parts.items()}
        return cls(train_patch_encoder(list(known.values()), seed=SEED), known)

    def scorers(self) -> dict[str, Scorer]:
        """Return the scorers by name. A bar is scored by the patch or window that ends there."""
        return {
            "patch encoder": lambda rows: self._scores(rows, self._encoded),
            "patch encoder and PAI": lambda rows: self._scores(rows, self._encoded_with_amplitude),
            "Sub-PCA": lambda rows: self._scores(rows, self._sub_pca),
        }

    def _scores(self, rows: pl.DataFrame, score: Any) -> Scores:
        """Return the scores of bars, each series continued from the last training bars of its symbol."""
        found = []
        for symbol, part in _series(rows):
            known = self.known[symbol]
            before = known[-WINDOW:]
            found.append(score(known, np.concatenate([before, _channels(part)]))[len(before) :])
        return np.concatenate(found)

    def _encoded(self, known: Floats, values: Floats) -> Floats:
        return memory_distances(self.encoder, values, known, at_the_end, SEED)[0]

    def _encoded_with_amplitude(self, known: Floats, values: Floats) -> Floats:
        terms = [(score(values), score(known)) for score in (point_deviation(known), mean_shift(known))]
        return combined([memory_distances(self.encoder, values, known, at_the_end, SEED), *terms])

    def _sub_pca(self, known: Floats, values: Floats) -> Floats:
        return at_the_end(sub_pca(windows_of(known))(windows_of(values)), len(values))


def _series(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    keys = [name for name in ("copy", "symbol") if name in rows.columns]
    for part in rows.partition_by(keys, maintain_order=True):
        yield part["symbol"][0], part


def _channels(rows: pl.DataFrame) -> Floats:
    return np.nan_to_num(rows.select(CHANNELS).to_numpy().astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _volume(market: Market, size: str, scorer: Scorer) -> float:
    """Return the mean VUS-PR over the planted series of one size."""
    rows = market.planted[size]
    events = market.events[size].select("copy", "symbol", "first", "last")
    inside = (
        rows.select("copy", "symbol", "bar_start")
        .join(events, on=["copy", "symbol"])
        .filter(pl.col("bar_start").is_between("first", "last"))
        .select("copy", "symbol", "bar_start", label=pl.lit(value=True))
        .unique()
    )
    labelled = (
        rows.select("copy", "symbol", "bar_start", score=pl.Series(scorer(rows)))
        .join(inside, on=["copy", "symbol", "bar_start"], how="left", maintain_order="left")
        .with_columns(pl.col("label").fill_null(value=False))
    )
    volumes = [
        vus_pr(part["label"].to_numpy(), part["score"].to_numpy(), BUFFER)
        for part in labelled.partition_by(["copy", "symbol"], maintain_order=True)
        if part["label"].any()
    ]
    return float(np.mean(volumes))
