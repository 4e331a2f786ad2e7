"""What an instrument's calendar is based on, and its asset class by its spelling."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE surveillance.instruments ADD COLUMN calendar_basis text")
    op.execute("""
        COMMENT ON COLUMN surveillance.instruments.calendar_basis IS
        'What the calendar is based on: stated, suffix, venue, crypto pair, currency pair, future, index, or default '
        '(assumed); NULL for instruments of earlier releases.'
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE surveillance.instruments DROP COLUMN calendar_basis")
