"""Failed runs of the orchestrator, and the way to a queue's newest message."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE ops.run_failures (
            run_id    text PRIMARY KEY,
            job       text NOT NULL,
            queue     text,
            error     text NOT NULL,
            failed_at timestamptz NOT NULL
        );
        CREATE INDEX run_failures_by_time ON ops.run_failures (failed_at);
        COMMENT ON TABLE ops.run_failures IS 'Dagster runs that failed, with their errors.';
        CREATE INDEX inbox_by_queue ON ops.inbox (queue_url, position);
    """)


def downgrade() -> None:
    op.execute("DROP TABLE ops.run_failures; DROP INDEX ops.inbox_by_queue;")
