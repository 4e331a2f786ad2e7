"""Scores the served bars with the shadow, beside the champion; nothing but the lake table ``shadow_scores`` changes."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.feature_tables import feature_table_of
from surveillance_pipelines.lifecycle.deployments import Scope
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.evaluation.shadow import ShadowComparison
    from surveillance_pipelines.lifecycle.deployments import Deployment
    from surveillance_pipelines.models.ensemble import Predictor

SHADOW_TABLE: Final = "shadow_scores"
SERVED_SOURCE: Final = "sqs"
"""Source of the bars that the live lane built from a queue."""


@dataclass(frozen=True, slots=True)
class ShadowScores:
    """The served bars of a range of days, as scored by the shadow and by the champion.

    Attributes:
        shadow: name of the shadow, such as ``v4``.
        champion: name of the champion; ``warmup`` for the warm-up rules.
        days: days with served bars.
        comparison: the alerts of both.
        version: version of the lake table after the last write; None if nothing was written.
    """

    shadow: str
    champion: str
    days: tuple[date, ...]
    comparison: "ShadowComparison"
    version: int | None


def score_shadow(stores: Stores, first: date, last: date, *, run_id: str) -> ShadowScores | None:
    """Score the served bars of a range of days with the newest shadow of the tenant; None if there is no shadow.

    The shadow publishes nothing: its scores are written to the lake table ``shadow_scores`` only, each day of the range
    is replaced. The champion scores the same bars again for the comparison, and these scores are not stored.

    Args:
        stores: settings, lake and database.
        first: first UTC day.
        last: last UTC day, included.
        run_id: id of the run, recorded on every row.

    Raises:
        NoModelError: if there is no champion and the warm-up mode is disabled.
        BundleError: if a bundle is damaged or differs from the registered one.
    """
    import polars as pl

    from surveillance_pipelines.batch.scoring import SCORES_SCHEMA
    from surveillance_pipelines.evaluation.shadow import compare_alerts
    from surveillance_pipelines.stores.predictors import load_pinned_predictor, load_predictor

    deployed = newest_shadow(stores)
    if deployed is None:
        return None
    with stores.connect() as connection:
        shadow = load_pinned_predictor(connection, stores.settings, deployed.model_id)
        champion = load_predictor(connection, stores.settings)
    sessions, lake = stores.session_table(first, last), stores.lake
    days = [day for day in lake.days(feature_table_of(shadow.feature_view)) if first <= day <= last]
    ours, theirs, version = [SCORES_SCHEMA.to_frame()], [SCORES_SCHEMA.to_frame()], None
    for day in days:
        scores = _scores(stores, shadow, day, sessions, run_id)
        version = lake.write_days(SHADOW_TABLE, scores, days=[day])
        ours.append(scores)
        theirs.append(_scores(stores, champion, day, sessions, run_id))
    scored = pl.concat(ours)
    return ShadowScores(
        shadow=deployed.name,
        champion=champion.bundle_hash[:12],
        days=tuple(scored["date"].unique().sort()),
        comparison=compare_alerts(pl.concat(theirs), scored),
        version=version,
    )


def newest_shadow(stores: Stores) -> "Deployment | None":
    """Return the newest deployment in the role shadow of the tenant."""
    from surveillance_pipelines.stores.deployments import open_deployments

    with stores.connect() as connection:
        rows = open_deployments(connection, Scope(tenant=stores.settings.tenant))
    return next((row for row in reversed(rows) if row.role == "shadow"), None)


def _scores(stores: Stores, predictor: "Predictor", day: date, sessions: "SessionTable", run_id: str) -> "pl.DataFrame":
    """Return the scores of the served bars of a day; nothing is stored."""
    import polars as pl

    from surveillance_pipelines.batch.scoring import score_day
    from surveillance_pipelines.engine.scoring_rows import row_config
    from surveillance_pipelines.features.batch import feature_schema
    from surveillance_pipelines.features.views import VIEWS
    from surveillance_pipelines.stores.feature_rows import EarlierRows

    table, schema = feature_table_of(predictor.feature_view), feature_schema(VIEWS[predictor.feature_view])
    features = stores.lake.read(table, days=[day], schema=schema).sort("symbol", "bar_start")
    served = features.filter(pl.col("source") == SERVED_SOURCE)
    earlier = EarlierRows(stores.lake, table, schema, None, predictor.window_length - 1).before(day, served)
    config = row_config(stores.settings, predictor, run_id=run_id)
    return score_day(served, predictor, config, earlier=earlier, sessions=sessions).scores
