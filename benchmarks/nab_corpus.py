"""The series and labels of NAB that the data folder holds, and NAB's published results on them."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import polars as pl

from benchmarks.detection_markets import DATA
from benchmarks.nab_scoring import NabSeries

SERIES: Final = DATA / "anomaly" / "nab.parquet"
WINDOWS: Final = DATA / "anomaly" / "nab_combined_windows.json"
PUBLISHED: Final = Path(__file__).with_name("nab_published.csv")
"""Weighted standard score per series, from the files ``results/<detector>/<detector>_standard_scores.csv`` of the
repository numenta/NAB, for the series of the data folder."""
FULL_SERIES: Final = 58
FULL_WINDOWS: Final = 116
"""Series and windows of NAB 1.1."""
PUBLISHED_TOTALS: Final[Mapping[str, float]] = MappingProxyType({
    "windowed_gaussian": -24.0131054891,
    "random_cut_forest": 3.98356657241,
    "cad_ose": 46.1714682545,
    "numenta_htm": 46.6344501971,
    "artime": 57.66075157860637,
})  # fmt: skip
"""Weighted standard score of each detector on all 58 series, from the same files."""
OFFICIAL: Final[Mapping[str, float]] = MappingProxyType({
    "windowed_gaussian": 39.6,
    "random_cut_forest": 51.7,
    "cad_ose": 69.9,
    "numenta_htm": 70.5,
    "artime": 74.9,
})  # fmt: skip
"""Standard scores of NAB's scoreboard. That of Numenta HTM is the upper end of its range; its file gives 70.1."""


def load_corpus(series: Path = SERIES, windows: Path = WINDOWS) -> list[NabSeries]:
    """Return the series of the data folder in the order of their names.

    Raises:
        ValueError: if the edge of a window is no instant of its series.
    """
    limits: Mapping[str, list[list[str]]] = json.loads(windows.read_text())
    parts = pl.read_parquet(series, glob=False).partition_by("file", maintain_order=True, as_dict=True)
    corpus = []
    for (name,), rows in sorted(parts.items()):
        times = rows["ts"].to_numpy()
        edges = tuple(
            (_row(str(name), times, first), _row(str(name), times, last)) for first, last in limits[str(name)]
        )
        corpus.append(NabSeries(str(name), times, rows["value"].to_numpy(), edges))
    return corpus


def published() -> pl.DataFrame:
    """Return NAB's weighted standard scores: ``file`` and a column per detector."""
    return pl.read_csv(PUBLISHED)


def _row(name: str, times: np.ndarray, instant: str) -> int:
    found = np.flatnonzero(times == np.datetime64(instant))
    if not len(found):
        raise ValueError(f"expected the edge {instant} of a window among the instants of {name}, found none")
    return int(found[0])
