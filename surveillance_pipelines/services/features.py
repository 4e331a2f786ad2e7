"""Computes features of bars as known at an instant, with the functions of training and the live lane."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.instruments import sessions_of
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
    known: KnownBars,
    scope: "pl.DataFrame",
    view: str,
    *,
    columns: list[str] | None,
    calendar: str | None,
    default_calendar: str,
    advanced: Callable[[int], None],
) -> "pl.DataFrame":
    """Return the features of the bars in scope; the other known bars serve as history and peers.

    Args:
        known: the known bars.
        scope: the bars of the result, a part of the known ones.
        view: name of a feature view.
        columns: columns of the view; None means all.
        calendar: calendar of all symbols; None derives it from the spelling of each symbol.
        default_calendar: calendar of symbols with an unspecific spelling.
        advanced: progress callback, called with the number of bars computed since the last call.

    Raises:
        InvalidInputError: if only corrections, without the first version of a bar, were known.
    """
    from surveillance_pipelines.features.batch import features_of_days
    from surveillance_pipelines.features.views import VIEWS

    answer = features_of_days(
        known.bars, scope["date"].unique().sort().to_list(), sessions_of(known.bars, calendar, default_calendar),
        VIEWS[view], columns=columns, symbols=set(scope["symbol"]), advanced=advanced,
    )  # fmt: skip
    if answer.is_empty():
        raise InvalidInputError(
            "expected the first version of at least one bar, got only corrections",
            remedy="set a later --as-of",
        )
    return answer


@dataclass(frozen=True, slots=True)
class FeatureDays:
    """Features of a range of days, the table version of the write, and the number of bars read."""

    frame: "pl.DataFrame"
    version: int
    bars_read: int


def compute_feature_days(stores: Stores, table: str, first: date, last: date, *, run_id: str) -> FeatureDays:
    """Write the features of every revision-0 bar of a range of days, and record the inputs of the run.

    The state of a day is rebuilt from the 512 bars before it, so days can be computed in any order.
    """
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.features.batch import features_of_days, with_history
    from surveillance_pipelines.stores.provenance import ScoringRun

    lake = stores.lake
    bars_version = lake.version("bars_1m")

    def read(since: date, until: date) -> "pl.DataFrame":
        return lake.read("bars_1m", days=(since, until), schema=BAR_SCHEMA, version=bars_version)

    bars = with_history(read, first, last)
    days = sorted(day for day in bars["date"].unique() if first <= day <= last)
    since = min(bars["date"].to_list(), default=first)
    sessions = stores.session_table(since, last)
    frame = features_of_days(bars, days, sessions)
    version = stores.replace_days(table, frame, first, last)
    stores.record_run(
        ScoringRun(
            lane="features",
            run_id=run_id,
            calendar_of=sessions.calendar_of,
            days=(first, last),
            sessions=stores.session_range(since, last),
            versions_read={"bars_1m": bars_version},
            table_written=table,
            version=version,
        )
    )
    return FeatureDays(frame, version, bars.height)


def write_features(answer: "pl.DataFrame", out: Path) -> None:
    """Write a file atomically: under a temporary name first, then renamed."""
    unfinished = out.with_name(out.name + _UNFINISHED)
    try:
        getattr(answer, WRITERS[out.suffix])(unfinished)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
