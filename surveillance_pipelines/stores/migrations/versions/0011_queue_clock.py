"""Clock rows by the queue's clock with their symbols, senders of messages, and the number of a holder's commits."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE ops.clock_rows ADD COLUMN queue_clock timestamptz;
        ALTER TABLE ops.clock_rows ADD COLUMN symbols text[];
        ALTER TABLE ops.clock_rows ALTER COLUMN event_clock DROP NOT NULL;
        COMMENT ON TABLE ops.clock_rows IS
            'Readings of the queue''s clock that closed bars, each after the inbox position named.';
        COMMENT ON COLUMN ops.clock_rows.event_clock IS
            'Event clock of the whole queue, in rows of releases that closed all bars due by it; else NULL.';
        COMMENT ON COLUMN ops.clock_rows.queue_clock IS
            'All messages sent before this instant had been received, except for groups with messages in progress.';
        COMMENT ON COLUMN ops.clock_rows.symbols IS 'Symbols whose bar in progress was closed; NULL in older rows.';

        ALTER TABLE ops.inbox ADD COLUMN sender_id text;
        COMMENT ON COLUMN ops.inbox.sender_id IS 'SenderId of SQS: the IAM user or role that sent the message.';

        ALTER TABLE ops.leases ADD COLUMN commits bigint NOT NULL DEFAULT 0;
        COMMENT ON COLUMN ops.leases.commits IS
            'Number of the holder''s last commit: shows whether a commit took effect whose answer was lost.';
    """)


def downgrade() -> None:
    op.execute("""
        UPDATE ops.clock_rows SET event_clock = queue_clock WHERE event_clock IS NULL;
        ALTER TABLE ops.clock_rows ALTER COLUMN event_clock SET NOT NULL;
        ALTER TABLE ops.clock_rows DROP COLUMN queue_clock;
        ALTER TABLE ops.clock_rows DROP COLUMN symbols;
        ALTER TABLE ops.inbox DROP COLUMN sender_id;
        ALTER TABLE ops.leases DROP COLUMN commits;
    """)
