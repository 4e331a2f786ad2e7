"""Predictions keyed by bar and id: a backfill of years writes each day beside the day before it.

An id is a hash, so a key of it alone sends every new row to a random page of an index that outgrows memory: 2.3 million
rows in, a row cost four times as much as the first ones.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE surveillance.predictions DROP CONSTRAINT predictions_pkey;
        DROP INDEX surveillance.predictions_by_bar_start;
        ALTER TABLE surveillance.predictions ADD PRIMARY KEY (bar_start, id);
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE surveillance.predictions DROP CONSTRAINT predictions_pkey;
        ALTER TABLE surveillance.predictions ADD PRIMARY KEY (id);
        CREATE INDEX predictions_by_bar_start ON surveillance.predictions (bar_start);
    """)
