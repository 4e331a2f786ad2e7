"""Canaries: the table of planted manipulations, and the guarantee that no output or input table holds one."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_CANARIES = """
CREATE TABLE surveillance.canaries (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        text NOT NULL CHECK (run_id LIKE 'canary:%'),
    planted_at    timestamptz NOT NULL,
    kind          text NOT NULL,
    size          text NOT NULL,
    symbol        text NOT NULL,
    first_bar     timestamptz NOT NULL,
    last_bar      timestamptz NOT NULL,
    move          double precision NOT NULL,
    detected      boolean NOT NULL,
    named         boolean NOT NULL,
    kind_named    text,
    score         double precision,
    delay_minutes integer,
    bundle_hash   text NOT NULL,
    config_hash   text NOT NULL,
    code_version  text NOT NULL,
    CHECK (detected OR NOT named)
);
CREATE INDEX canaries_by_run ON surveillance.canaries (planted_at, run_id);
COMMENT ON TABLE surveillance.canaries IS
    'Manipulations planted into copies of real days and sent through the shadow lane, and whether they were detected.';
COMMENT ON COLUMN surveillance.canaries.move IS 'Largest move of the price, as a logarithm.';
COMMENT ON COLUMN surveillance.canaries.score IS 'Largest score of its bars; NULL if none was scored.';
COMMENT ON COLUMN surveillance.canaries.kind_named IS
    'The planted kind if an alert has it, else the kind of the first alert.';
"""

_GUARDS = {
    "surveillance.anomalies": "run_id NOT LIKE 'canary:%'",
    "surveillance.incidents": "run_id NOT LIKE 'canary:%'",
    "surveillance.signals": "run_id NOT LIKE 'canary:%'",
    "surveillance.predictions": "run_id NOT LIKE 'canary:%'",
    "ops.outbox": 'body NOT LIKE \'%"run_id":"canary:%\'',
    "ops.inbox": "message_id NOT LIKE 'canary:%'",
    "ops.ledger": "message_id NOT LIKE 'canary:%'",
    "ops.live_bars": "source_message_id NOT LIKE 'canary:%'",
}
"""Table → condition of every row. The shadow lane has the mark ``canary:`` in the ids of all its rows and messages."""


def upgrade() -> None:
    op.execute(_CANARIES)
    for table, condition in _GUARDS.items():
        # NOT VALID: no canary can exist yet, and the tables may hold many rows.
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT no_canary CHECK ({condition}) NOT VALID")


def downgrade() -> None:
    for table in _GUARDS:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT no_canary")
    op.execute("DROP TABLE surveillance.canaries")
