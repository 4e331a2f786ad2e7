"""The contract of one model: its input, its output and its ``predict`` method.

``predict`` only computes numbers; ``engine/decisions.py`` decides on alerts and signals.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, get_args

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.predictions import DIRECTIONS, NORMAL, PredictionKind, Predictions

FeatureWindow = npt.NDArray[np.float64]
"""float64[n, length, F]: per bar, the feature rows of the ``length`` bars that end with it, oldest first.

Rows of final bars are those that were first scored. NaN is a missing feature; a row of NaN is a bar before the
symbol's first."""

SEPARATOR: Final = "."
"""Separates member and statistic in the name of a column that another member of the bundle provides, such as
``autoencoder.reconstruction_error``."""


MAX_WINDOW_BARS: Final = 1_440
"""Longest window: a day of 1-minute bars. Each symbol keeps the feature rows of a window in memory."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The window that a model reads.

    Attributes:
        view: name of the feature view, which must be the bundle's.
        columns: columns of the view, in the view's order; then columns ``member.statistic`` of preceding members.
        length: bars per window, including the scored bar; at most ``MAX_WINDOW_BARS``.
        timeframe: timeframe of the bars; bundles with another one than 1m are refused.

    Raises:
        ValueError: if a value has another type or is out of bounds.
    """

    view: str
    columns: tuple[str, ...]
    length: int = 1
    timeframe: str = "1m"

    def __post_init__(self) -> None:
        require_texts("view, timeframe and columns", (self.view, self.timeframe, *self.columns))
        require_whole_numbers("the length", (self.length,))
        if not 1 <= self.length <= MAX_WINDOW_BARS:
            raise ValueError(f"expected a window of 1 to {MAX_WINDOW_BARS} bars, got {self.length}")
        if not self.columns:
            raise ValueError("expected at least one column, got none")
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
        return cls(value["view"], tuple(value["columns"]), value["length"], value["timeframe"])


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The output of a model.

    Attributes:
        kind: the type of its predictions.
        labels: names of the probability columns, if any.
        horizons_minutes: how far ahead it predicts, if it does.
        statistic: name of its statistic, if other members or output rows use it; otherwise None.

    Raises:
        ValueError: if a value has another type, or the kind needs other labels or horizons.
    """

    kind: PredictionKind
    labels: tuple[str, ...] = ()
    horizons_minutes: tuple[int, ...] = ()
    statistic: str | None = None

    def __post_init__(self) -> None:
        statistic = () if self.statistic is None else (self.statistic,)
        require_texts("kind, labels and statistic of the output", (self.kind, *self.labels, *statistic))
        require_whole_numbers("the horizons", self.horizons_minutes)
        if self.kind not in get_args(PredictionKind):
            raise ValueError(f"expected an output among {list(get_args(PredictionKind))}, got {self.kind!r}")
        if min(self.horizons_minutes, default=1) < 1:
            raise ValueError(f"expected horizons of at least 1 minute, got {list(self.horizons_minutes)}")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"expected different labels, got {list(self.labels)}")
        if self.kind == "anomaly_kind" and (len(self.labels) < 2 or self.labels[0] != NORMAL):
            raise ValueError(f"expected the label {NORMAL!r} and then others, got {list(self.labels)}")
        if self.kind == "direction" and (self.labels != DIRECTIONS or not self.horizons_minutes):
            raise ValueError(
                f"expected the labels {list(DIRECTIONS)} and a horizon, got {list(self.labels)} and "
                f"{list(self.horizons_minutes)}"
            )

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


def require_texts(names: str, values: Iterable[Any]) -> None:
    """Check that values, such as those of a JSON file, are strings that are not empty.

    Raises:
        ValueError: if one is not.
    """
    odd = [value for value in values if not isinstance(value, str) or not value]
    if odd:
        raise ValueError(f"expected text in {names}, got {odd[0]!r:.100}")


def require_whole_numbers(name: str, values: Iterable[Any]) -> None:
    """Check that values are whole numbers; booleans are none.

    Raises:
        ValueError: if one is not.
    """
    odd = [value for value in values if not isinstance(value, int) or isinstance(value, bool)]
    if odd:
        raise ValueError(f"expected a whole number in {name}, got {odd[0]!r:.100}")


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
