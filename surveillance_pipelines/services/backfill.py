"""Plan of a backfill: its job, days and run config, validated before the run starts."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.market import FIRST_DAY
from surveillance_pipelines.services.detection import pinned_bundle_hash
from surveillance_pipelines.services.platform import Stores

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
