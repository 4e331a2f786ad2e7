"""Incidents, and what people decided about them."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# The row contract (contracts/outputs.py) in its order; a test compares the two.
_INCIDENTS = """
CREATE TABLE surveillance.incidents (
    id                text PRIMARY KEY,
    schema_version    text NOT NULL,
    event_time        timestamptz NOT NULL,
    knowledge_time    timestamptz NOT NULL,
    source            text NOT NULL,
    source_message_id text,
    symbol            text NOT NULL,
    timeframe         text NOT NULL,
    bar_start         timestamptz NOT NULL,
    revision          integer NOT NULL,
    bar_status        text NOT NULL CHECK (bar_status IN ('provisional', 'final', 'revised')),
    input_hash        text NOT NULL,
    feature_view      text NOT NULL,
    bundle_hash       text NOT NULL,
    code_version      text NOT NULL,
    config_hash       text NOT NULL,
    runtime_hash      text NOT NULL,
    score             double precision NOT NULL,
    threshold         double precision NOT NULL,
    kind              text NOT NULL,
    confidence        double precision NOT NULL,
    risk_score        double precision NOT NULL,
    explanation       jsonb NOT NULL,
    fallback_used     boolean NOT NULL,
    warmup            boolean NOT NULL,
    tenant            text NOT NULL,
    strategy          text NOT NULL,
    correlation_id    text,
    run_id            text,
    t_received        timestamptz,
    t_computed        timestamptz,
    t_committed       timestamptz,
    t_published       timestamptz,
    incident_status   text NOT NULL
        CHECK (incident_status IN ('opened', 'confirmed', 'updated', 'closed', 'retracted')),
    incident_id       text NOT NULL,
    severity          text NOT NULL CHECK (severity IN ('low', 'medium', 'high')),
    first_bar_start   timestamptz NOT NULL,
    last_bar_start    timestamptz NOT NULL,
    alerts            integer NOT NULL,
    kinds             jsonb NOT NULL,
    alert_ids         jsonb NOT NULL,
    first_price       double precision NOT NULL,
    price             double precision NOT NULL,
    volume            double precision NOT NULL,
    market_return     double precision,
    market_peers      integer
);
CREATE INDEX incidents_by_symbol ON surveillance.incidents (symbol, bar_start);
CREATE INDEX incidents_by_bar_start ON surveillance.incidents (bar_start);
CREATE INDEX incidents_by_incident ON surveillance.incidents (incident_id);
COMMENT ON TABLE surveillance.incidents IS
    'Steps in the life of incidents, several rows per incident: opened, confirmed, updated, closed or retracted.';
"""

_DISPOSITIONS = """
CREATE TABLE surveillance.dispositions (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      text NOT NULL,
    incident_id text NOT NULL,
    disposition text NOT NULL
        CHECK (disposition IN ('manipulation', 'suspicious', 'explained', 'data_error', 'false_alarm')),
    note        text,
    decided_by  text NOT NULL,
    decided_at  timestamptz NOT NULL
);
CREATE INDEX dispositions_by_incident ON surveillance.dispositions (incident_id);
COMMENT ON TABLE surveillance.dispositions IS
    'What people decided about incidents; the newest row of an incident holds. Rows are never changed.';
"""


def upgrade() -> None:
    op.execute(_INCIDENTS)
    op.execute(_DISPOSITIONS)


def downgrade() -> None:
    op.execute("DROP TABLE surveillance.dispositions; DROP TABLE surveillance.incidents;")
