"""Predictions name their settings, runtime and models, so that a replay need not search for them.

The settings of older rows follow from their ids, which are recomputed for every configuration on record: a row's id is
the hash of what it was made of, its configuration included. Models that were out of service stay unknown (NULL).
"""

import json

import sqlalchemy as sa
from alembic import op

from surveillance_pipelines.hashing import canonical_json, sha256_text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ROWS_AT_ONCE = 10_000

_NULL_ROWS = """
    SELECT id, bar_start, symbol, timeframe, (extract(epoch FROM bar_start) * 1000000)::bigint, revision, feature_view,
           bundle_hash
    FROM surveillance.predictions WHERE config_hash IS NULL AND (bar_start, id) > (:bar_start, :id)
    ORDER BY bar_start, id LIMIT :limit
"""
_FILL = """
    UPDATE surveillance.predictions AS p SET config_hash = known.config_hash
    FROM unnest(CAST(:ids AS text[]), CAST(:starts AS timestamptz[]), CAST(:hashes AS text[]))
         AS known (id, bar_start, config_hash)
    WHERE p.bar_start = known.bar_start AND p.id = known.id
"""
_RUNTIME = """
    UPDATE surveillance.predictions AS p SET runtime_hash = run.runtime_hash
    FROM (SELECT run_id, min(runtime_hash) AS runtime_hash FROM ops.scoring_runs
          WHERE run_id IS NOT NULL AND lane IN ('live', 'batch')
          GROUP BY run_id HAVING count(DISTINCT runtime_hash) = 1) AS run
    WHERE p.run_id = run.run_id AND p.runtime_hash IS NULL
"""


def upgrade() -> None:
    op.execute("""
        ALTER TABLE surveillance.predictions
            ADD COLUMN config_hash text, ADD COLUMN runtime_hash text,
            ADD COLUMN model_ids jsonb, ADD COLUMN excluded_models jsonb;
        COMMENT ON COLUMN surveillance.predictions.model_ids IS
            'Ids of the bundle''s members that serve, name@version#hash; NULL in rows older than this column.';
        COMMENT ON COLUMN surveillance.predictions.excluded_models IS
            'Members that were not asked because they had failed; NULL in rows older than this column.';
    """)
    connection = op.get_bind()
    configs = connection.execute(sa.text("SELECT config_hash, knobs FROM ops.configs ORDER BY recorded_at DESC")).all()
    tenants = {
        config_hash: (json.loads(knobs) if isinstance(knobs, str) else knobs)["tenant"]
        for config_hash, knobs in configs
    }
    if tenants:
        _fill_config_hashes(connection, tenants)
        connection.execute(sa.text(_RUNTIME))


def _fill_config_hashes(connection: sa.Connection, tenants: dict[str, str]) -> None:
    last = {"bar_start": "-infinity", "id": ""}
    while rows := connection.execute(sa.text(_NULL_ROWS), {**last, "limit": _ROWS_AT_ONCE}).all():
        found = [(row[0], row[1], _config_of(row, tenants)) for row in rows]
        known = [item for item in found if item[2] is not None]
        if known:
            ids, starts, hashes = (list(column) for column in zip(*known, strict=True))
            connection.execute(sa.text(_FILL), {"ids": ids, "starts": starts, "hashes": hashes})
        last = {"bar_start": rows[-1][1], "id": rows[-1][0]}


def _config_of(row: sa.Row, tenants: dict[str, str]) -> str | None:
    """Return the configuration under which a final score row gets its id; None if none on record does."""
    id_, _, symbol, timeframe, bar_start, revision, feature_view, bundle_hash = row
    for config_hash, tenant in tenants.items():
        parts = ["score", "score", tenant, "surveillance", symbol, timeframe, bar_start, revision, "final", None,
                 feature_view, bundle_hash, config_hash]  # fmt: skip
        if sha256_text(canonical_json(parts)) == id_:
            return config_hash
    return None


def downgrade() -> None:
    op.execute("""
        ALTER TABLE surveillance.predictions
            DROP COLUMN config_hash, DROP COLUMN runtime_hash, DROP COLUMN model_ids, DROP COLUMN excluded_models;
    """)
