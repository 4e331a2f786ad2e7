"""Feature snapshots without PostgreSQL's compression, which takes longer than the rest of their insertion."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE ops.feature_state ALTER COLUMN state SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.execute("ALTER TABLE ops.feature_state ALTER COLUMN state SET STORAGE EXTENDED")
