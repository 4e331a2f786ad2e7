"""A standby beside each queue's holder, what a dead holder held, which bundles served, and which models were out."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE ops.leases ADD COLUMN role text NOT NULL DEFAULT 'holder' CHECK (role IN ('holder', 'standby'));
        ALTER TABLE ops.leases ADD COLUMN ended text;
        ALTER TABLE ops.leases DROP CONSTRAINT leases_pkey;
        ALTER TABLE ops.leases ADD PRIMARY KEY (queue_url, role);
        COMMENT ON TABLE ops.leases IS
            'Who serves a queue and who stands by. Every live transaction checks holder and fencing number.';

        CREATE TABLE ops.in_flight (
            queue_url   text NOT NULL,
            fencing     bigint NOT NULL,
            batch       bigint NOT NULL,
            receipts    text[] NOT NULL,
            received_at timestamptz NOT NULL,
            PRIMARY KEY (queue_url, fencing, batch)
        );
        COMMENT ON TABLE ops.in_flight IS
            'Receipt handles of messages received and not yet deleted: the next holder shows them to itself at once.';

        CREATE TABLE ops.served_bundles (
            id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            queue_url      text NOT NULL,
            bundle_hash    text NOT NULL,
            feature_view   text NOT NULL,
            after_position bigint NOT NULL,
            recorded_at    timestamptz NOT NULL,
            run_id         text
        );
        COMMENT ON TABLE ops.served_bundles IS 'Which bundle scored a queue, each from the inbox position named.';

        CREATE TABLE ops.breaker_events (
            id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            queue_url      text NOT NULL,
            model          text NOT NULL,
            state          text NOT NULL CHECK (state IN ('open', 'half_open', 'closed')),
            reason         text NOT NULL,
            after_position bigint NOT NULL,
            recorded_at    timestamptz NOT NULL,
            run_id         text
        );
        COMMENT ON TABLE ops.breaker_events IS 'When a model was taken out of service, tried again and let back in.';
    """)


def downgrade() -> None:
    op.execute("""
        DROP TABLE ops.breaker_events; DROP TABLE ops.served_bundles; DROP TABLE ops.in_flight;
        DELETE FROM ops.leases WHERE role = 'standby';
        ALTER TABLE ops.leases DROP CONSTRAINT leases_pkey;
        ALTER TABLE ops.leases ADD PRIMARY KEY (queue_url);
        ALTER TABLE ops.leases DROP COLUMN role;
        ALTER TABLE ops.leases DROP COLUMN ended;
    """)
