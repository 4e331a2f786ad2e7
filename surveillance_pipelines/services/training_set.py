"""Builds the training set of a range of days from ``bars_1m``."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.errors import NotReadyError
from surveillance_pipelines.contracts.feature_tables import TRAINING_VIEW
from surveillance_pipelines.contracts.market import LANDED_TABLE
from surveillance_pipelines.services.build_folder import BuildFolder
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.training.training_data import TrainingSet

MIN_DAYS: Final = 3
"""Days for training, calibration and test."""


@dataclass(frozen=True, slots=True)
class BuiltTrainingSet:
    """A training set, and the table version of the bars that it was built from."""

    rows: "TrainingSet"
    bars_version: int | None


def build_rows(
    stores: Stores,
    folder: BuildFolder,
    *,
    first: date | None,
    last: date | None,
    seed: int,
    per_symbol_day: float,
) -> BuiltTrainingSet:
    """Build the training set of a range of days and save it in the folder of the run.

    Args:
        stores: lake and database.
        folder: folder of the run.
        first: first UTC day; None means the oldest.
        last: last UTC day, included; None means the newest.
        seed: seed of the planted anomalies, and of the training.
        per_symbol_day: anomalies to plant per symbol and day, over all copies of the bars.

    Raises:
        NotReadyError: if ``bars_1m`` is empty.
        ValueError: if the range has fewer than three days with bars.
    """
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.features.batch import with_history
    from surveillance_pipelines.features.views import VIEWS
    from surveillance_pipelines.training.training_set import build_training_set

    lake = stores.lake
    version = lake.version("bars_1m")
    first, last = _bounds(lake.days("bars_1m"), first, last)

    def read(since: date, until: date) -> "pl.DataFrame":
        return lake.read("bars_1m", days=(since, until), schema=BAR_SCHEMA, version=version)

    bars = with_history(read, first, last)
    built = build_training_set(
        bars,
        stores.session_table(min(bars["date"].to_list(), default=first), last),
        first=first,
        last=last,
        seed=seed,
        per_symbol_day=per_symbol_day,
        view=VIEWS[TRAINING_VIEW],
    )
    built.save(folder.training_set)
    folder.save_facts("data", {"bars_1m_delta_version": version, "fingerprint": built.fingerprint})
    return BuiltTrainingSet(built, version)


def require_training_bars(stores: Stores, first: date | None, last: date | None) -> None:
    """Check that the lake has enough days of 1-minute bars, before a run starts.

    Raises:
        NotReadyError: if it has not; the remedy depends on what has landed.
    """
    days = [day for day in stores.lake.days("bars_1m") if (first or day) <= day <= (last or day)]
    if len(days) >= MIN_DAYS:
        return
    asked = "".join([f" from {first}" if first else "", f" to {last}" if last else ""])
    landed = stores.lake.days(LANDED_TABLE)
    raise NotReadyError(
        f"expected at least {MIN_DAYS} days of 1-minute bars in the lake{asked}, found {len(days)}",
        remedy=f"`surveillance backfill {landed[0]} {landed[-1]}` computes them from the landed bars, if these are "
        "1-minute bars; the models train on no others"
        if landed
        else "load 1-minute bars with `surveillance ingest PATH`, then run `surveillance backfill FIRST LAST`",
    )


def _bounds(days: list[date], first: date | None, last: date | None) -> tuple[date, date]:
    if not days:
        raise NotReadyError(
            "expected bars_1m to hold days to train on, found none", remedy="ingest bars and run market_data_job first"
        )
    return first or days[0], last or days[-1]
