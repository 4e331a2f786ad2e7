"""Deliveries by outbox row and channel, one cursor per queue and channel, and the type of outbox rows as a column."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE ops.outbox_deliveries (
    channel      text NOT NULL,
    position     bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    delivered_at timestamptz NOT NULL,
    reference    text
) PARTITION BY RANGE (created_at);
CREATE TABLE ops.outbox_deliveries_default PARTITION OF ops.outbox_deliveries DEFAULT;
ALTER TABLE ops.outbox_deliveries_default ADD PRIMARY KEY (channel, position);
COMMENT ON TABLE ops.outbox_deliveries IS
    'When each outbox row (position) was first delivered to each channel. By week of the commit of the outbox row.';
COMMENT ON COLUMN ops.outbox_deliveries.created_at IS 'The created_at of the outbox row, so that both share a week.';
COMMENT ON COLUMN ops.outbox_deliveries.reference IS 'Id that the channel gave the message, such as a stream entry id.';

CREATE TABLE ops.delivery_cursors (
    queue_url  text NOT NULL,
    channel    text NOT NULL,
    position   bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    error      text,
    failed_at  timestamptz,
    PRIMARY KEY (queue_url, channel)
) WITH (fillfactor = 50);
COMMENT ON TABLE ops.delivery_cursors IS
    'Every outbox row of a queue up to this position is delivered to the channel.';
COMMENT ON COLUMN ops.delivery_cursors.error IS
    'Why the channel last failed or refused a row; NULL since it accepts rows.';

COMMENT ON TABLE ops.leases IS
    'Who serves an input queue, or delivers to a channel (queue_url is then delivery:<channel>), and who stands by. '
    'Every transaction of the holder checks holder and fencing number.';
"""

_ADD_PARTITION = """
CREATE OR REPLACE FUNCTION ops.add_partition(parent text, day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    monday timestamp := date_trunc('week', day::timestamp);
    partition text := format('%s_%s', parent, to_char(monday, 'YYYYMMDD'));
    key text := CASE WHEN parent IN ({tables}) THEN 'created_at' ELSE 'committed_at' END;
    since timestamptz := monday AT TIME ZONE 'UTC';
    until timestamptz := (monday + interval '7 days') AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(format('ops.%I', partition)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE ops.%I (LIKE ops.%I INCLUDING ALL)', partition, parent || '_default');
    EXECUTE format(
        'WITH strays AS (DELETE FROM ops.%I WHERE %I >= %L AND %I < %L RETURNING *) '
        'INSERT INTO ops.%I SELECT * FROM strays',
        parent || '_default', key, since, key, until, partition
    );
    EXECUTE format('ALTER TABLE ops.%I ATTACH PARTITION ops.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, partition, since, until);
    RETURN true;
END $$;
"""

# The deliveries get the weeks that the outbox has. A queue's cursor stands before its first unpublished row; published
# rows behind that one (there should be none) are found by their deliveries.
_UPGRADE = """
SELECT ops.add_partition('outbox_deliveries', to_date(right(child.relname, 8), 'YYYYMMDD'))
FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = 'ops.outbox'::regclass AND child.relname <> 'outbox_default'
ORDER BY child.relname;

INSERT INTO ops.outbox_deliveries (channel, position, created_at, delivered_at)
SELECT 'sqs', position, created_at, published_at FROM ops.outbox WHERE published_at IS NOT NULL;

INSERT INTO ops.delivery_cursors (queue_url, channel, position, updated_at)
SELECT queue_url, 'sqs',
       coalesce(min(position) FILTER (WHERE published_at IS NULL) - 1, max(position)),
       coalesce(max(published_at), now())
FROM ops.outbox GROUP BY queue_url;

ALTER TABLE ops.outbox ADD COLUMN row_type text;
UPDATE ops.outbox SET row_type = body::jsonb ->> 'type';
ALTER TABLE ops.outbox ALTER COLUMN row_type SET NOT NULL;

DROP INDEX ops.outbox_unpublished;
ALTER TABLE ops.outbox DROP COLUMN published_at;
CREATE INDEX outbox_by_queue ON ops.outbox (queue_url, position);
COMMENT ON TABLE ops.outbox IS 'Messages to deliver to every configured channel, in order. By week of commit.';
"""

_DOWNGRADE = """
ALTER TABLE ops.outbox ADD COLUMN published_at timestamptz;
UPDATE ops.outbox SET published_at = delivered_at
FROM ops.outbox_deliveries AS delivered
WHERE delivered.channel = 'sqs' AND delivered.position = outbox.position;
DROP INDEX ops.outbox_by_queue;
CREATE INDEX outbox_unpublished ON ops.outbox (queue_url, position) WHERE published_at IS NULL;
ALTER TABLE ops.outbox DROP COLUMN row_type;
DROP TABLE ops.delivery_cursors;
DROP TABLE ops.outbox_deliveries;
DELETE FROM ops.leases WHERE starts_with(queue_url, 'delivery:');
COMMENT ON TABLE ops.outbox IS 'Messages that must reach the output queue, in order. By week of commit.';
COMMENT ON TABLE ops.leases IS 'Who serves a queue. Every live transaction checks holder and fencing number.';
"""


def upgrade() -> None:
    op.execute(_TABLES)
    op.execute(_ADD_PARTITION.replace("{tables}", "'outbox', 'outbox_deliveries'"))
    op.execute(_UPGRADE)


def downgrade() -> None:
    op.execute(_DOWNGRADE)
    op.execute(_ADD_PARTITION.replace("{tables}", "'outbox'"))
