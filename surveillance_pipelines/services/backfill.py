"""Plan of a backfill: its job, days and run config, validated before the run starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.market import FIRST_DAY
from surveillance_pipelines.services.detection import pinned_bundle_hash
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

SCORING_JOB: Final = "scoring_job"


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """One run of a job over a range of days, both included."""

    job: str
    first: date
    last: date
    run_config: dict[str, Any] = field(default_factory=dict)


def plan_backfill(stores: Stores, job: str, first: date, last: date, *, bundle: str | None = None) -> BackfillPlan:
    """Return the run of a job over a range of days.

    Args:
        stores: settings and database.
        job: name of the Dagster job.
        first: first UTC day.
        last: last UTC day, included.
        bundle: hash of a model bundle or a prefix of it; None means the champion.

    Raises:
        InvalidInputError: if the days are out of range, the bundle cannot score, or the job does not use a bundle.
    """
    today = stores.today()
    if not FIRST_DAY <= first <= last <= today:
        raise InvalidInputError(f"expected days between {FIRST_DAY} and {today}, got {first} to {last}")
    if bundle is None:
        return BackfillPlan(job, first, last)
    if job != SCORING_JOB:
        raise InvalidInputError(
            f"expected --bundle only with --job {SCORING_JOB}, got {job}, which uses no model", remedy="omit --bundle"
        )
    pinned = {"ops": {"batch_scoring": {"config": {"bundle_hash": pinned_bundle_hash(stores, bundle)}}}}
    return BackfillPlan(job, first, last, pinned)


def steps_after_landing(landed: "Sequence[pl.DataFrame]") -> list[str]:
    """Return what to do with landed bars, as sentences with commands that work for their days and bar sizes."""
    import polars as pl

    if not landed:
        return []
    bars = pl.concat(frame.select("date", "timeframe") for frame in landed)
    steps = []
    old, usable = bars.filter(pl.col("date") < FIRST_DAY), bars.filter(pl.col("date") >= FIRST_DAY)
    if not old.is_empty():
        steps.append(f"{old.height:,} bars before {FIRST_DAY} stay in bars_landed; the daily tables begin then")
    minutes, longer = usable.filter(pl.col("timeframe") == "1m"), usable.filter(pl.col("timeframe") != "1m")
    if not minutes.is_empty():
        first, last = minutes["date"].min(), minutes["date"].max()
        steps.append(f"next: `surveillance backfill {first} {last}`, then `surveillance train`")
    if not longer.is_empty():
        first, last = longer["date"].min(), longer["date"].max()
        tables = ", ".join(f"bars_{name}" for name in sorted(longer["timeframe"].unique()))
        steps.append(
            f"next: `surveillance backfill {first} {last}` writes {tables}; models train and score "
            "on 1-minute bars only"
        )
    return steps
