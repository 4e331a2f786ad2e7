"""The initial visibility timeout of a lease holder's messages, for which the next holder has to wait."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE ops.leases ADD COLUMN hidden_seconds integer NOT NULL DEFAULT 0")
    op.execute("""
        COMMENT ON COLUMN ops.leases.hidden_seconds IS
        'Initial visibility timeout of the messages that the holder receives, in seconds; 0 means the shortest one.'
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE ops.leases DROP COLUMN hidden_seconds")
