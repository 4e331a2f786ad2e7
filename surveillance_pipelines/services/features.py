"""Features of bars as known at an instant, computed by the functions that training and the live lane use."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.instruments import sessions_of
from surveillance_pipelines.services.known_bars import KnownBars

if TYPE_CHECKING:
    import polars as pl

WRITERS: Final = {".parquet": "write_parquet", ".csv": "write_csv"}
"""Suffix of a file → method of a frame that writes it."""
_UNFINISHED: Final = ".unfinished"


def require_view(view: str, columns: Sequence[str] | None) -> None:
    """Raise an ``InvalidInputError`` if there is no such feature view, or a column is not one of it."""
    from surveillance_pipelines.features.batch import chosen_columns
    from surveillance_pipelines.features.views import VIEWS

    if view not in VIEWS:
        raise InvalidInputError(f"--view: expected one of {', '.join(VIEWS)}, got {view!r}")
    chosen_columns(VIEWS[view], columns)


def is_compiled() -> bool:
    """Return whether the batch kernel is compiled already; the first use compiles it for a quarter of a minute."""
    from surveillance_pipelines.features import batch_kernel

    return batch_kernel.is_compiled()


def compute_features(
    known: KnownBars,
    scope: "pl.DataFrame",
    view: str,
    *,
    columns: list[str] | None,
    calendar: str | None,
    default_calendar: str,
    advanced: Callable[[int], None],
) -> "pl.DataFrame":
    """Return the features of the bars in scope; the other known bars are history and peers.

    Args:
        known: the bars.
        scope: those of them that are asked for.
        view: name of a feature view.
        columns: of the view; None for all.
        calendar: of all symbols; None to go by their spelling.
        default_calendar: of symbols whose spelling names none.
        advanced: told how many bars were computed since the last call.

    Raises:
        InvalidInputError: if nothing but corrections of unknown bars was known.
    """
    from surveillance_pipelines.features.batch import features_of_days
    from surveillance_pipelines.features.views import VIEWS

    answer = features_of_days(
        known.bars, scope["date"].unique().sort().to_list(), sessions_of(known.bars, calendar, default_calendar),
        VIEWS[view], columns=columns, symbols=set(scope["symbol"]), advanced=advanced,
    )  # fmt: skip
    if answer.is_empty():
        raise InvalidInputError(
            "expected bars whose first version was known, got corrections of unknown bars only",
            remedy="name a later --as-of",
        )
    return answer


def write_features(answer: "pl.DataFrame", out: Path) -> None:
    """Write a file under another name first, so that one of the final name is always whole."""
    unfinished = out.with_name(out.name + _UNFINISHED)
    try:
        getattr(answer, WRITERS[out.suffix])(unfinished)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
