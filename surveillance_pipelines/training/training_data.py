"""The rows for training and evaluation, as a frame with a fingerprint, built by ``training_set``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.features.views import VIEWS, FeatureView
from surveillance_pipelines.features.windows import windows_of

Split = Literal["train", "validation", "test", "purged", "context"]
"""``context`` rows are not examples; they only provide earlier bars for windows of several bars."""

LABELS: Final = (NORMAL, *ANOMALY_KINDS)
"""All labels, in order; ``TrainingSet.labels`` are those of one training set."""

LEFT_OUT: Final = "kinds_left_out"
"""Name of the kinds left out, with their reasons, in ``TrainingSet.params``; absent if there are none."""

ROW_COLUMNS: Final = {
    "date": pl.Date,  # UTC date of bar_start
    "symbol": pl.String,
    "bar_start": UTC_MICROSECONDS,
    "replica": pl.Int32,  # 0: unchanged bars; n: the n-th copy, with planted anomalies
    "split": pl.String,
    "label": pl.String,  # one of LABELS; null: shortly after a planted anomaly, or too little history
    "anomaly_id": pl.String,  # id of the planted anomaly, else null
    "severity": pl.Float64,
    "forward_return": pl.Float64,  # log return over the horizon; null if the day ends earlier
}
"""Columns of a training set, in addition to the feature view's."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """Feature rows with labels and splits.

    Attributes:
        frame: ``ROW_COLUMNS``, then the columns of the view as float64, NaN where missing.
        view: the feature view's name.
        params: parameters of its construction, JSON-safe.
        fingerprint: sha256 of the input bars, of their positions in the trading sessions, and of ``params``.
    """

    frame: pl.DataFrame
    view: str
    params: dict[str, Any]
    fingerprint: str

    @property
    def feature_view(self) -> FeatureView:
        return VIEWS[self.view]

    @property
    def left_out(self) -> Mapping[str, str]:
        """The kinds of anomaly that cannot exist in the training days, each with the reason."""
        return self.params.get(LEFT_OUT, {})

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the classifier: ``normal`` and all kinds that are not left out, in the order of ``LABELS``."""
        return tuple(label for label in LABELS if label not in self.left_out)

    def rows(self, *splits: Split, labelled: bool = False, original: bool = False) -> pl.DataFrame:
        """Return the rows of some splits.

        Args:
            splits: names of the splits.
            labelled: only rows with a label.
            original: only unchanged bars, no copies.
        """
        frame = self.frame.filter(pl.col("split").is_in(splits))
        if labelled:
            frame = frame.filter(pl.col("label").is_not_null())
        return frame.filter(pl.col("replica") == 0) if original else frame

    def inputs(self, rows: pl.DataFrame, columns: tuple[str, ...], length: int = 1) -> npt.NDArray[np.float64]:
        """Return the model inputs of rows of this set: windows of features, float64[n, length, d].

        Args:
            rows: rows of ``frame``, with ``replica``, ``symbol`` and ``bar_start``.
            columns: columns of the feature view.
            length: bars per window; bars that are not in the set are NaN.
        """
        if length == 1:
            return feature_matrix(rows, columns)[:, np.newaxis, :]
        keys = ["replica", "symbol", "bar_start"]
        ordered = self.frame.sort(keys).with_row_index("place")
        places = ordered.select(
            *keys,
            pl.col("place").cast(pl.Int64),
            begin=pl.col("place").first().over("replica", "symbol").cast(pl.Int64),
        )
        found = rows.select(keys).join(places, on=keys, how="left", maintain_order="left")
        values = feature_matrix(ordered, columns)
        return windows_of(values, found["place"].to_numpy(), found["begin"].to_numpy(), length)

    def save(self, folder: Path) -> None:
        """Write the set to a folder: ``rows.parquet`` and ``training_set.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.frame.write_parquet(folder / "rows.parquet")
        about = {"view": self.view, "params": self.params, "fingerprint": self.fingerprint}
        (folder / "training_set.json").write_text(json.dumps(about, indent=2))

    @classmethod
    def load(cls, folder: Path) -> "TrainingSet":
        """Read a set written by ``save``."""
        about = json.loads((folder / "training_set.json").read_text())
        return cls(frame=pl.read_parquet(folder / "rows.parquet", glob=False), **about)


def class_numbers(labels: pl.Series, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return labels as their positions in ``classes``, int64[n].

    Raises:
        polars.exceptions.InvalidOperationError: if a label is not in ``classes``.
    """
    return labels.replace_strict(list(classes), list(range(len(classes))), return_dtype=pl.Int64).to_numpy()
