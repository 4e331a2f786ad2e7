"""The contract of one model: its input, its output and its ``predict`` method.

``predict`` only computes numbers; ``engine/decisions.py`` decides on alerts and signals.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.predictions import PredictionKind, Predictions

FeatureWindow = npt.NDArray[np.float64]
"""float64[n, length, F]: per bar, the feature rows of the ``length`` bars that end with it, oldest first.

Rows of final bars are those that were first scored. NaN is a missing feature; a row of NaN is a bar before the
symbol's first."""

SEPARATOR: Final = "."
"""Separates member and statistic in the name of a column that another member of the bundle provides, such as
``autoencoder.reconstruction_error``."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The window that a model reads.

    Attributes:
        view: name of the feature view, which must be the bundle's.
        columns: the view's columns, in the model's order; then columns ``member.statistic`` of preceding members.
        length: bars per window, including the scored bar.
        timeframe: timeframe of the bars; bundles with another one than 1m are refused.
    """

    view: str
    columns: tuple[str, ...]
    length: int = 1
    timeframe: str = "1m"

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"expected a window of at least 1 bar, got {self.length}")
        if self.length > 1 and self.derived_columns:
            raise ValueError(
                f"expected windows of one bar for a model that reads {self.derived_columns}, got {self.length}: "
                "statistics of other members exist for the scored bar only"
            )

    @property
    def view_columns(self) -> tuple[str, ...]:
        """The columns that come from the feature view."""
        return tuple(name for name in self.columns if SEPARATOR not in name)

    @property
    def derived_columns(self) -> tuple[str, ...]:
        """The columns that other members provide; they follow the view's."""
        return tuple(name for name in self.columns if SEPARATOR in name)

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "columns": list(self.columns),
            "length": self.length,
            "timeframe": self.timeframe,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(value["view"], tuple(value["columns"]), int(value["length"]), value["timeframe"])


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The output of a model.

    Attributes:
        kind: the type of its predictions.
        labels: names of the probability columns, if any.
        horizons_minutes: how far ahead it predicts, if it does.
        statistic: name of its statistic, if other members or output rows use it; otherwise None.
    """

    kind: PredictionKind
    labels: tuple[str, ...] = ()
    horizons_minutes: tuple[int, ...] = ()
    statistic: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "horizons_minutes": list(self.horizons_minutes),
            "statistic": self.statistic,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(value["kind"], tuple(value["labels"]), tuple(value["horizons_minutes"]), value["statistic"])


class Model(Protocol):
    """A loaded model."""

    @property
    def id(self) -> str:
        """``name@version#hash``, with a hash of the model's files."""
        ...

    @property
    def input(self) -> InputSpec: ...

    @property
    def output(self) -> OutputSpec: ...

    def predict(self, window: FeatureWindow) -> Predictions:
        """Return the predictions for n bars.

        Args:
            window: float64[n, length, columns] in the order of ``input``; n is at least ``MIN_BATCH_ROWS``.
        """
        ...


class ModelFailedError(SurveillanceError, code=ErrorCode.FAILED):
    """A member of a bundle raised an error, or returned NaN, infinity or another kind of predictions than it declares.

    The other members still work.

    Attributes:
        model: the member's name.
    """

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"expected finite outputs of the {model}, got {reason}")
        self.model = model
