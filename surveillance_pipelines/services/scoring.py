"""Batch scoring of a range of days: select the models, record the run, score and store every day."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from surveillance_pipelines.contracts.feature_tables import feature_table_of
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.services.training_match import InstrumentMatch, match_instruments

if TYPE_CHECKING:
    from surveillance_pipelines.batch.backfill import ScoredRange
    from surveillance_pipelines.models.training_domain import TrainingDomain


@dataclass(frozen=True, slots=True)
class BatchScoring:
    """Totals over the scored days, and the models.

    Attributes:
        found: the totals.
        bundle_hash: hash of the bundle; ``warmup`` for the warm-up rules.
        warmup: whether the warm-up rules scored.
        instruments: every scored symbol, compared with the training data of the models.
        domain: domain of the training data; None for the warm-up rules.
    """

    found: "ScoredRange"
    bundle_hash: str
    warmup: bool
    instruments: "list[InstrumentMatch]"
    domain: "TrainingDomain | None"


def score_range(stores: Stores, first: date, last: date, *, bundle: str, run_id: str) -> BatchScoring:
    """Score the features of a range of days, day by day, and store the results.

    Args:
        stores: settings, lake and database.
        first: first UTC day.
        last: last UTC day, included.
        bundle: hash or hash prefix of a registered bundle; ``warmup`` for the warm-up rules; empty for the champion.
        run_id: id of the run, recorded on every row.

    Raises:
        NoModelError: if no bundle is promoted and the warm-up mode is disabled.
        BundleError: if the bundle is damaged or differs from the registered one.
    """
    from surveillance_pipelines.batch.backfill import ScoredRange, score_days
    from surveillance_pipelines.engine.scoring_rows import row_config
    from surveillance_pipelines.stores.predictors import load_pinned_predictor, load_predictor
    from surveillance_pipelines.stores.provenance import ScoringRun, record_run

    found, settings = ScoredRange(), stores.settings
    with stores.connect() as connection:
        predictor = (
            load_pinned_predictor(connection, settings, bundle) if bundle else load_predictor(connection, settings)
        )
        rows = row_config(settings, predictor, run_id=run_id)
        sessions = stores.session_table(first, last)
        table = feature_table_of(predictor.feature_view)
        version = stores.lake.version(table)
        run = ScoringRun(
            lane="batch",
            run_id=run_id,
            calendar_of=sessions.calendar_of,
            days=(first, last),
            sessions=stores.session_range(first, last),
            versions_read={table: version},
        )
        record_run(connection, settings, run)
        days = score_days(
            stores.lake, connection, predictor, rows, first=first, last=last, sessions=sessions, version=version
        )
        for done in days:
            found.add(done)
    domain = predictor.training_domain
    instruments = match_instruments(found.bars_of, found.alerts_of, domain, sessions)
    return BatchScoring(found, predictor.bundle_hash, predictor.warmup, instruments, domain)
