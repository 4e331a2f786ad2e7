"""What a replay needs beside the rows: where features started, what each run stood on, what peers had done."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SEEDS = """
CREATE TABLE ops.lane_seeds (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue_url       text NOT NULL,
    symbol          text NOT NULL,
    feature_view    text NOT NULL,
    calendar        text NOT NULL,
    as_of_bar_start timestamptz,
    history         bytea NOT NULL,
    sha256          text NOT NULL,
    after_position  bigint NOT NULL,
    recorded_at     timestamptz NOT NULL,
    run_id          text
);
CREATE INDEX lane_seeds_by_symbol ON ops.lane_seeds (symbol, queue_url, id);
COMMENT ON TABLE ops.lane_seeds IS
    'Bars that a symbol''s features were seeded from, each from the inbox position named: a replay starts there.';
"""

_RUNS = """
CREATE TABLE ops.configs (
    config_hash text PRIMARY KEY,
    knobs       jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ops.configs IS 'The settings that can change a score, by the hash that output rows carry.';

CREATE TABLE ops.runtimes (
    runtime_hash text PRIMARY KEY,
    description  jsonb NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ops.runtimes IS 'Processor, libraries and inference settings, by the hash that output rows carry.';

CREATE TABLE ops.calendar_maps (
    calendars_hash text PRIMARY KEY,
    calendars      jsonb NOT NULL
);
COMMENT ON TABLE ops.calendar_maps IS
    'Symbols that trade on another calendar than the default, by the hash of them all.';

CREATE TABLE ops.scoring_runs (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane           text NOT NULL CHECK (lane IN ('live', 'features', 'batch')),
    run_id         text,
    queue_url      text,
    after_position bigint,
    first_day      date,
    last_day       date,
    sessions_first date,
    sessions_last  date,
    calendars_hash text NOT NULL REFERENCES ops.calendar_maps,
    versions_read  jsonb NOT NULL DEFAULT '{}',
    table_written  text,
    version        bigint,
    config_hash    text NOT NULL REFERENCES ops.configs,
    runtime_hash   text NOT NULL REFERENCES ops.runtimes,
    code_version   text NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX scoring_runs_by_queue ON ops.scoring_runs (queue_url, id) WHERE lane = 'live';
CREATE INDEX scoring_runs_by_run ON ops.scoring_runs (run_id);
COMMENT ON TABLE ops.scoring_runs IS
    'What each run that computed features or scores stood on: settings, runtime, calendars, versions of the lake.';
"""

_SESSIONS = """
ALTER TABLE surveillance.sessions ADD COLUMN recorded_at timestamptz;
ALTER TABLE surveillance.sessions ALTER COLUMN recorded_at SET DEFAULT clock_timestamp();

CREATE TABLE surveillance.replaced_sessions (
    calendar     text NOT NULL,
    session_date date NOT NULL,
    opens_at     timestamptz NOT NULL,
    closes_at    timestamptz NOT NULL,
    replaced_at  timestamptz NOT NULL,
    PRIMARY KEY (calendar, session_date, replaced_at)
);
COMMENT ON TABLE surveillance.replaced_sessions IS 'Hours that a session had on record before an exchange moved it.';

CREATE FUNCTION surveillance.keep_replaced_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO surveillance.replaced_sessions
    VALUES (OLD.calendar, OLD.session_date, OLD.opens_at, OLD.closes_at, clock_timestamp());
    RETURN NEW;
END $$;
CREATE TRIGGER keep_replaced_session BEFORE UPDATE OF opens_at, closes_at ON surveillance.sessions
    FOR EACH ROW EXECUTE FUNCTION surveillance.keep_replaced_session();
"""

_OUTPUTS = """
ALTER TABLE surveillance.anomalies ADD COLUMN market_return double precision, ADD COLUMN market_peers integer;
ALTER TABLE surveillance.signals ADD COLUMN market_return double precision, ADD COLUMN market_peers integer;
ALTER TABLE surveillance.predictions ADD COLUMN input_hash text;
"""


def upgrade() -> None:
    for script in (_SEEDS, _RUNS, _SESSIONS, _OUTPUTS):
        op.execute(script)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE surveillance.predictions DROP COLUMN input_hash;
        ALTER TABLE surveillance.signals DROP COLUMN market_return, DROP COLUMN market_peers;
        ALTER TABLE surveillance.anomalies DROP COLUMN market_return, DROP COLUMN market_peers;
        DROP TRIGGER keep_replaced_session ON surveillance.sessions;
        DROP FUNCTION surveillance.keep_replaced_session;
        DROP TABLE surveillance.replaced_sessions;
        ALTER TABLE surveillance.sessions DROP COLUMN recorded_at;
        DROP TABLE ops.scoring_runs; DROP TABLE ops.calendar_maps; DROP TABLE ops.runtimes; DROP TABLE ops.configs;
        DROP TABLE ops.lane_seeds;
    """)
