"""The first tables: ``ops`` for the live lane's bookkeeping, ``surveillance`` for what users read."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_OPS = """
CREATE SCHEMA ops;

CREATE TABLE ops.leases (
    queue_url    text PRIMARY KEY,
    holder       text NOT NULL,
    fencing      bigint NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    run_id       text
);
COMMENT ON TABLE ops.leases IS 'Who serves a queue. Every live transaction checks holder and fencing number.';

CREATE TABLE ops.inbox (
    message_id      text PRIMARY KEY,
    position        bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    queue_url       text NOT NULL,
    group_id        text,
    dedup_id        text,
    sequence_number text,
    body            text NOT NULL,
    sent_at         timestamptz,
    received_at     timestamptz NOT NULL,
    receive_count   integer NOT NULL,
    event_time      timestamptz,
    symbol          text,
    run_id          text
);
CREATE INDEX inbox_by_event_time ON ops.inbox (event_time);
COMMENT ON TABLE ops.inbox IS 'Raw messages as received, kept before anything is made of them.';

CREATE TABLE ops.ledger (
    message_id   text PRIMARY KEY,
    dedup_id     text,
    queue_url    text NOT NULL,
    outcome      text NOT NULL CHECK (outcome IN ('scored', 'late', 'dead', 'duplicate')),
    reason       text,
    committed_at timestamptz NOT NULL,
    run_id       text,
    fencing      bigint
);
CREATE UNIQUE INDEX ledger_by_dedup_id ON ops.ledger (queue_url, dedup_id)
    WHERE dedup_id IS NOT NULL AND outcome <> 'duplicate';
CREATE INDEX ledger_by_committed_at ON ops.ledger (committed_at);
COMMENT ON TABLE ops.ledger IS 'How each input ended: exactly one outcome.';

CREATE TABLE ops.dead_letters (
    message_id  text PRIMARY KEY,
    queue_url   text,
    source      text NOT NULL DEFAULT 'sqs',
    body        text NOT NULL,
    code        text NOT NULL,
    reason      text NOT NULL,
    received_at timestamptz NOT NULL,
    replayed_at timestamptz
);
CREATE INDEX dead_letters_by_received_at ON ops.dead_letters (received_at);
COMMENT ON TABLE ops.dead_letters IS 'Input that was refused, with the reason in words.';

CREATE TABLE ops.feature_state (
    queue_url       text NOT NULL,
    symbol          text NOT NULL,
    feature_view    text NOT NULL,
    as_of_bar_start timestamptz,
    day             date,
    state           bytea NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (queue_url, symbol, feature_view)
);
COMMENT ON TABLE ops.feature_state IS 'Snapshots from which a live run continues.';

CREATE TABLE ops.live_bars (
    symbol            text NOT NULL,
    bar_start         timestamptz NOT NULL,
    revision          integer NOT NULL,
    open              double precision NOT NULL,
    high              double precision NOT NULL,
    low               double precision NOT NULL,
    close             double precision NOT NULL,
    volume            double precision NOT NULL,
    trades            integer NOT NULL,
    first_event_time  timestamptz NOT NULL,
    event_time        timestamptz NOT NULL,
    bar_status        text NOT NULL,
    knowledge_time    timestamptz NOT NULL,
    source_message_id text NOT NULL,
    market_return     double precision NOT NULL,
    market_peers      integer NOT NULL,
    source            text NOT NULL,
    queue_url         text NOT NULL,
    run_id            text,
    committed_at      timestamptz NOT NULL,
    PRIMARY KEY (symbol, bar_start, revision)
);
CREATE INDEX live_bars_by_bar_start ON ops.live_bars (bar_start);
COMMENT ON TABLE ops.live_bars IS 'Bars as the live lane closed and revised them, with the market context they saw.';

CREATE TABLE ops.clock_rows (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue_url      text NOT NULL,
    event_clock    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    after_position bigint NOT NULL,
    run_id         text
);
COMMENT ON TABLE ops.clock_rows IS 'Readings of the event clock that closed bars, each after the inbox position named.';

CREATE TABLE ops.outbox (
    id           text PRIMARY KEY,
    position     bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    queue_url    text NOT NULL,
    group_id     text NOT NULL,
    body         text NOT NULL,
    created_at   timestamptz NOT NULL,
    published_at timestamptz,
    run_id       text
);
CREATE INDEX outbox_unpublished ON ops.outbox (queue_url, position) WHERE published_at IS NULL;
COMMENT ON TABLE ops.outbox IS 'Messages that must reach the output queue, in order.';

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
"""

_REFERENCE = """
CREATE SCHEMA surveillance;

CREATE TABLE surveillance.instruments (
    symbol      text PRIMARY KEY,
    name        text,
    asset_class text,
    calendar    text NOT NULL,
    currency    text,
    active      boolean NOT NULL DEFAULT true,
    added_at    timestamptz NOT NULL,
    source      text NOT NULL
);

CREATE TABLE surveillance.sessions (
    calendar     text NOT NULL,
    session_date date NOT NULL,
    opens_at     timestamptz NOT NULL,
    closes_at    timestamptz NOT NULL,
    PRIMARY KEY (calendar, session_date)
);

CREATE TABLE surveillance.ingestion_runs (
    id             text PRIMARY KEY,
    source         text NOT NULL,
    started_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    rows_in        bigint NOT NULL DEFAULT 0,
    rows_landed    bigint NOT NULL DEFAULT 0,
    rows_dead      bigint NOT NULL DEFAULT 0,
    rows_duplicate bigint NOT NULL DEFAULT 0,
    detail         jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ingestion_runs_by_started_at ON surveillance.ingestion_runs (started_at);
"""

# The row contract (contracts/outputs.py) in its order; a test compares the two.
_ROW_CONTRACT = """
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
"""

_OUTPUTS = f"""
CREATE TABLE surveillance.anomalies ({_ROW_CONTRACT}
    alert_status         text NOT NULL CHECK (alert_status IN ('opened', 'confirmed', 'retracted')),
    alert_id             text NOT NULL,
    price                double precision NOT NULL,
    volume               double precision NOT NULL,
    reconstruction_error double precision
);
CREATE INDEX anomalies_by_symbol ON surveillance.anomalies (symbol, bar_start);
CREATE INDEX anomalies_by_bar_start ON surveillance.anomalies (bar_start);
CREATE INDEX anomalies_by_alert ON surveillance.anomalies (alert_id);

CREATE TABLE surveillance.signals ({_ROW_CONTRACT}
    action           text NOT NULL CHECK (action IN ('BUY', 'SELL', 'HOLD')),
    price            double precision NOT NULL,
    buy_probability  double precision NOT NULL,
    hold_probability double precision NOT NULL,
    sell_probability double precision NOT NULL,
    horizon_minutes  integer NOT NULL
);
CREATE INDEX signals_by_symbol ON surveillance.signals (symbol, bar_start);
CREATE INDEX signals_by_bar_start ON surveillance.signals (bar_start);

CREATE TABLE surveillance.predictions (
    id                   text PRIMARY KEY,
    symbol               text NOT NULL,
    timeframe            text NOT NULL,
    bar_start            timestamptz NOT NULL,
    revision             integer NOT NULL,
    source               text NOT NULL,
    event_time           timestamptz NOT NULL,
    knowledge_time       timestamptz NOT NULL,
    price                double precision NOT NULL,
    reconstruction_error double precision,
    anomaly_score        double precision NOT NULL,
    buy_probability      double precision NOT NULL,
    hold_probability     double precision NOT NULL,
    sell_probability     double precision NOT NULL,
    horizon_minutes      integer NOT NULL,
    bundle_hash          text NOT NULL,
    feature_view         text NOT NULL,
    warmup               boolean NOT NULL,
    run_id               text,
    t_received           timestamptz,
    t_computed           timestamptz,
    t_committed          timestamptz,
    outcome_return       double precision,
    outcome_direction    text CHECK (outcome_direction IN ('BUY', 'SELL', 'HOLD')),
    outcome_at           timestamptz
);
CREATE INDEX predictions_by_symbol ON surveillance.predictions (symbol, bar_start);
CREATE INDEX predictions_by_bar_start ON surveillance.predictions (bar_start);
"""

_MODELS = """
CREATE TABLE surveillance.model_versions (
    id                        uuid PRIMARY KEY,
    version                   text NOT NULL,
    strategy_id               text NOT NULL,
    model_type                text NOT NULL,
    bundle_hash               text NOT NULL,
    path                      text NOT NULL,
    mlflow_version            integer,
    mlflow_run_id             text,
    trained_at                timestamptz NOT NULL,
    training_duration_seconds double precision NOT NULL,
    training_dataset_size     bigint NOT NULL,
    is_active                 boolean NOT NULL DEFAULT false,
    is_warmup_mode            boolean NOT NULL DEFAULT false,
    created_at                timestamptz NOT NULL,
    updated_at                timestamptz NOT NULL,
    UNIQUE (strategy_id, version)
);
CREATE UNIQUE INDEX one_active_version ON surveillance.model_versions (strategy_id) WHERE is_active;

CREATE TABLE surveillance.model_metrics (
    id                      uuid PRIMARY KEY,
    model_version_id        uuid NOT NULL REFERENCES surveillance.model_versions (id),
    model                   text NOT NULL,
    split                   text NOT NULL,
    metric_name             text NOT NULL,
    metric_value            double precision NOT NULL,
    metric_type             text NOT NULL
        CHECK (metric_type IN ('classification', 'regression', 'trading_performance')),
    evaluated_at            timestamptz NOT NULL,
    evaluation_dataset_size bigint NOT NULL
);
CREATE INDEX model_metrics_by_version ON surveillance.model_metrics (model_version_id, metric_name);
CREATE INDEX model_metrics_by_time ON surveillance.model_metrics (evaluated_at);
"""


def upgrade() -> None:
    for script in (_OPS, _REFERENCE, _OUTPUTS, _MODELS):
        op.execute(script)


def downgrade() -> None:
    op.execute("DROP SCHEMA surveillance CASCADE; DROP SCHEMA ops CASCADE;")
