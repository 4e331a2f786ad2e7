"""Data incidents: faults of the data, one row each."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_DATA_INCIDENTS = """
CREATE TABLE surveillance.data_incidents (
    id           text PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('feed_silence', 'missing_bars', 'stale_price', 'possible_split')),
    calendar     text NOT NULL,
    symbol       text NOT NULL,
    session_date date NOT NULL,
    opens_at     timestamptz NOT NULL,
    first_minute timestamptz NOT NULL,
    last_minute  timestamptz NOT NULL,
    minutes      integer NOT NULL CHECK (minutes > 0),
    sentence     text NOT NULL,
    evidence     jsonb NOT NULL,
    found_by     text NOT NULL CHECK (found_by IN ('live', 'bars')),
    found_at     timestamptz NOT NULL,
    resolved_at  timestamptz,
    CHECK (last_minute >= first_minute)
);
CREATE INDEX data_incidents_by_first_minute ON surveillance.data_incidents (first_minute);
CREATE INDEX data_incidents_by_symbol ON surveillance.data_incidents (symbol, first_minute);
COMMENT ON TABLE surveillance.data_incidents IS
    'Faults of the data, which are not incidents of the market: one row each. Rows are extended, never deleted.';
COMMENT ON COLUMN surveillance.data_incidents.symbol IS 'Empty for all symbols of the calendar.';
COMMENT ON COLUMN surveillance.data_incidents.resolved_at IS
    'When a later computation of its day no longer found it, because bars arrived; else NULL.';
"""


def upgrade() -> None:
    op.execute(_DATA_INCIDENTS)


def downgrade() -> None:
    op.execute("DROP TABLE surveillance.data_incidents")
