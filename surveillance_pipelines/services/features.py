"""Computes features of bars as known at an instant, with the functions of training and the live lane."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.instruments import calendars_of, sessions_of
from surveillance_pipelines.services.known_bars import KnownBars
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

WRITERS: Final = {".parquet": "write_parquet", ".csv": "write_csv"}
"""File suffix → writer method of a frame."""
_UNFINISHED: Final = ".unfinished"


def require_view(view: str, columns: Sequence[str] | None) -> None:
    """Raise ``InvalidInputError`` if the feature view does not exist or lacks a column."""
    from surveillance_pipelines.features.batch import chosen_columns
    from surveillance_pipelines.features.views import VIEWS

    if view not in VIEWS:
        raise InvalidInputError(f"--view: expected one of {', '.join(VIEWS)}, got {view!r}")
    chosen_columns(VIEWS[view], columns)


def is_compiled() -> bool:
    """Return whether the batch kernel is compiled; its first use compiles it in about 15 s."""
    from surveillance_pipelines.features import batch_kernel

    return batch_kernel.is_compiled()


def compute_features(
    stores: Stores,
    known: KnownBars,
    scope: "pl.DataFrame",
    view: str,
    *,
    columns: list[str] | None,
    calendar: str | None,
    advanced: Callable[[int], None],
) -> "pl.DataFrame":
    """Return the features of the bars in scope; the other known bars serve as history and peers.

    Args:
        stores: settings and database, for the calendars of registered instruments.
        known: the known bars.
        scope: the bars of the result, a part of the known ones.
        view: name of a feature view.
        columns: columns of the view; None means all.
        calendar: calendar of all symbols; None takes that of the registered instrument, else derives it from the
            spelling of each symbol.
        advanced: progress callback, called with the number of bars computed since the last call.

    Raises:
        InvalidInputError: if only corrections, without the first version of a bar, were known.
    """
    from surveillance_pipelines.features.batch import features_of_days
    from surveillance_pipelines.features.views import VIEWS

    sessions = sessions_of(known.bars, calendars_of(stores, known.bars["symbol"].unique(), calendar))
    answer = features_of_days(
        known.bars, scope["date"].unique().sort().to_list(), sessions,
        VIEWS[view], columns=columns, symbols=set(scope["symbol"]), advanced=advanced,
    )  # fmt: skip
    if answer.is_empty():
        raise InvalidInputError(
            "expected the first version of at least one bar, got only corrections",
            remedy="set a later --as-of",
        )
    return answer


def write_features(answer: "pl.DataFrame", out: Path) -> None:
    """Write a file atomically: under a temporary name first, then renamed."""
    unfinished = out.with_name(out.name + _UNFINISHED)
    try:
        getattr(answer, WRITERS[out.suffix])(unfinished)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
