"""Deployments: one table says which model serves, in place of ``is_active`` and ``ops.bundle_timeline``.

Each promotion on record becomes a champion's row and, once another model followed, a retired model's row.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_DEPLOYMENTS = """
CREATE TABLE surveillance.deployments (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant           text NOT NULL,
    strategy         text NOT NULL,
    kind             text NOT NULL,
    model_id         text NOT NULL,
    version          text,
    model_version_id uuid REFERENCES surveillance.model_versions (id) ON DELETE SET NULL,
    path             text,
    feature_view     text,
    role             text NOT NULL CHECK (role IN ('champion', 'challenger', 'shadow', 'canary', 'retired')),
    traffic_share    double precision NOT NULL,
    since            timestamptz NOT NULL,
    until            timestamptz,
    decided_by       text NOT NULL,
    reasons          text[] NOT NULL,
    CHECK (until >= since),
    CHECK (CASE role WHEN 'champion' THEN traffic_share = 1
                     WHEN 'challenger' THEN traffic_share >= 0 AND traffic_share < 1
                     WHEN 'canary' THEN traffic_share > 0 AND traffic_share < 1
                     ELSE traffic_share = 0 END)
);
CREATE UNIQUE INDEX one_champion ON surveillance.deployments (tenant, strategy, kind)
    WHERE role = 'champion' AND until IS NULL;
CREATE UNIQUE INDEX one_role_per_model
    ON surveillance.deployments (tenant, strategy, kind, model_id, coalesce(version, '')) WHERE until IS NULL;
CREATE INDEX deployments_by_model ON surveillance.deployments (model_id);
CREATE INDEX deployments_by_version ON surveillance.deployments (model_version_id);
COMMENT ON TABLE surveillance.deployments IS
    'Which model had which role since when, by whose decision and why: the only record of which model serves.';
COMMENT ON COLUMN surveillance.deployments.model_id IS 'Hash of a bundle, or id of a model.';
COMMENT ON COLUMN surveillance.deployments.path IS 'Folder of the model when it was deployed.';
COMMENT ON COLUMN surveillance.deployments.traffic_share IS
    'Share of the decisions; a champion (1) serves what challengers and canaries leave.';
"""

# A timeline row names no strategy: its version does. An active version that is not the newest promotion of its strategy
# was activated by hand, when its row was last changed.
_PROMOTIONS = """
CREATE TEMPORARY TABLE promotions ON COMMIT DROP AS
WITH recorded AS (
    SELECT t.id, coalesce(v.strategy_id, 'surveillance') AS strategy, t.bundle_hash AS model_id,
           'v' || t.version AS version, v.id AS model_version_id, t.path, t.feature_view, t.promoted_at AS since,
           CASE WHEN t.reason LIKE 'passed the gate in run %' THEN 'training_job' ELSE 'not recorded' END AS decided_by,
           t.reason, coalesce(v.is_active, false) AS is_active, v.updated_at
    FROM ops.bundle_timeline AS t
    LEFT JOIN LATERAL (
        SELECT * FROM surveillance.model_versions
        WHERE version = 'v' || t.version AND bundle_hash = t.bundle_hash
        ORDER BY strategy_id = 'surveillance' DESC, strategy_id LIMIT 1
    ) AS v ON true
), newest AS (
    SELECT DISTINCT ON (strategy) strategy, model_version_id, since FROM recorded ORDER BY strategy, since DESC, id DESC
), every AS (
    SELECT * FROM recorded
    UNION ALL
    SELECT NULL, v.strategy_id, v.bundle_hash, v.version, v.id, v.path, NULL, greatest(v.updated_at, newest.since),
           'migration 0008', 'active before deployments were recorded', true, v.updated_at
    FROM surveillance.model_versions AS v LEFT JOIN newest ON newest.strategy = v.strategy_id
    WHERE v.is_active AND newest.model_version_id IS DISTINCT FROM v.id
), followed AS (
    SELECT *, lead(since) OVER strategies AS followed_at, lead(version) OVER strategies AS followed_by,
           lead(decided_by) OVER strategies AS followed_decision, lead(since) OVER models AS again_at
    FROM every
    WINDOW strategies AS (PARTITION BY strategy ORDER BY since, id NULLS LAST),
           models AS (PARTITION BY strategy, model_id, version ORDER BY since, id NULLS LAST)
)
SELECT *, CASE WHEN followed_at IS NOT NULL THEN followed_at
               WHEN is_active THEN NULL
               ELSE greatest(coalesce(updated_at, now()), since) END AS until
FROM followed;

INSERT INTO surveillance.deployments
    (tenant, strategy, kind, model_id, version, model_version_id, path, feature_view, role, traffic_share, since, until,
     decided_by, reasons)
SELECT 'default', strategy, 'bundle', model_id, version, model_version_id, path, feature_view, role, traffic_share,
       since, until, decided_by, ARRAY[reason]
FROM (
    SELECT strategy, model_id, version, model_version_id, path, feature_view, 'champion' AS role, 1.0 AS traffic_share,
           since, until, decided_by, reason, id
    FROM promotions
    UNION ALL
    SELECT strategy, model_id, version, model_version_id, path, feature_view, 'retired', 0.0, until, again_at,
           coalesce(followed_decision, 'migration 0008'),
           CASE WHEN followed_by IS NULL THEN 'not active when deployments were first recorded'
                ELSE 'replaced by ' || followed_by END, id
    FROM promotions
    WHERE until IS NOT NULL AND (again_at IS NULL OR again_at > until)
) AS rows
ORDER BY since, role, id NULLS LAST;
"""

# CASCADE drops the dbt views that read the column: the next build makes them again. Tables stay.
_DROP_OLD = """
DROP TABLE ops.bundle_timeline;
DROP INDEX surveillance.one_active_version;
ALTER TABLE surveillance.model_versions DROP COLUMN is_active CASCADE;
"""

# What the old tables cannot hold is lost: other roles than champion, other tenants than the one chosen here, and models
# that are no numbered version.
_RESTORE_OLD = """
CREATE TABLE ops.bundle_timeline (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version      integer NOT NULL,
    bundle_hash  text NOT NULL,
    path         text NOT NULL,
    feature_view text NOT NULL,
    promoted_at  timestamptz NOT NULL,
    reason       text NOT NULL
);
COMMENT ON TABLE ops.bundle_timeline IS 'Which model bundle was champion since when, and why.';
ALTER TABLE surveillance.model_versions ADD COLUMN is_active boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX one_active_version ON surveillance.model_versions (strategy_id) WHERE is_active;

CREATE TEMPORARY TABLE champions ON COMMIT DROP AS
SELECT *, first_value(tenant) OVER (PARTITION BY strategy ORDER BY tenant = 'default' DESC, tenant) AS chosen
FROM surveillance.deployments WHERE kind = 'bundle' AND role = 'champion';

INSERT INTO ops.bundle_timeline (version, bundle_hash, path, feature_view, promoted_at, reason)
SELECT substr(version, 2)::integer, model_id, path, coalesce(feature_view, 'core_v1'), since,
       array_to_string(reasons, '; ')
FROM champions
WHERE tenant = chosen AND version ~ '^v[0-9]+$' AND path IS NOT NULL AND decided_by <> 'migration 0008'
ORDER BY id;
UPDATE surveillance.model_versions AS v SET is_active = true
FROM champions WHERE champions.model_version_id = v.id AND champions.tenant = chosen AND champions.until IS NULL
    AND champions.strategy = v.strategy_id;
DROP TABLE surveillance.deployments CASCADE;
"""


def upgrade() -> None:
    for script in (_DEPLOYMENTS, _PROMOTIONS, _DROP_OLD):
        op.execute(script)


def downgrade() -> None:
    op.execute(_RESTORE_OLD)
