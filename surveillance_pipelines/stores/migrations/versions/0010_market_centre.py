"""Which centre of the peers' returns a served bar was scored with: the mean or the median."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_UPGRADE = """
ALTER TABLE ops.live_bars ADD COLUMN market_centre text CHECK (market_centre IN ('mean', 'median'));
COMMENT ON COLUMN ops.live_bars.market_centre IS
    'Which centre of the peers'' returns market_return is. NULL, in rows older than this column, means the mean.';
"""


def upgrade() -> None:
    op.execute(_UPGRADE)


def downgrade() -> None:
    op.execute("ALTER TABLE ops.live_bars DROP COLUMN market_centre")
