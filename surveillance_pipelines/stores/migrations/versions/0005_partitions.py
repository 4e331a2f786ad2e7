"""Inbox, ledger and outbox by week of their commit, so that old weeks are dropped whole; replays of dead letters."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_WEEKS_AHEAD = 2

# Unique indexes stand on the partitions only: on a partitioned table they would have to include the partition key, and
# an id together with the instant of its commit is always unique. Each week's table is made like the default one.
# Weeks, not days: with 5 million rows in 30 days, looking up ten ids in every partition takes 3 ms, in weeks 0.6 ms.
_PARENTS = """
CREATE TABLE ops.inbox (
    message_id      text NOT NULL,
    position        bigint NOT NULL DEFAULT nextval('ops.inbox_positions'),
    queue_url       text NOT NULL,
    group_id        text,
    dedup_id        text,
    sequence_number text,
    body            text NOT NULL,
    sent_at         timestamptz,
    received_at     timestamptz NOT NULL,
    receive_count   integer NOT NULL,
    event_time      timestamptz,
    symbol          text,
    run_id          text,
    committed_at    timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (committed_at);
CREATE INDEX inbox_by_event_time ON ops.inbox (event_time);
CREATE INDEX inbox_by_queue ON ops.inbox (queue_url, position);
CREATE INDEX inbox_by_position ON ops.inbox (position);
CREATE TABLE ops.inbox_default PARTITION OF ops.inbox DEFAULT;
ALTER TABLE ops.inbox_default ADD PRIMARY KEY (message_id);
COMMENT ON TABLE ops.inbox IS 'Raw messages as received, kept before anything is made of them. By week of commit.';

CREATE TABLE ops.ledger (
    message_id   text NOT NULL,
    dedup_id     text,
    queue_url    text NOT NULL,
    outcome      text NOT NULL CHECK (outcome IN ('scored', 'late', 'dead', 'duplicate')),
    reason       text,
    committed_at timestamptz NOT NULL,
    run_id       text,
    fencing      bigint
) PARTITION BY RANGE (committed_at);
CREATE TABLE ops.ledger_default PARTITION OF ops.ledger DEFAULT;
ALTER TABLE ops.ledger_default ADD PRIMARY KEY (message_id);
CREATE UNIQUE INDEX ledger_default_by_dedup_id ON ops.ledger_default (queue_url, dedup_id)
    WHERE dedup_id IS NOT NULL AND outcome <> 'duplicate';
COMMENT ON TABLE ops.ledger IS 'How each input ended: exactly one outcome. By week of commit.';

CREATE TABLE ops.outbox (
    id           text NOT NULL,
    position     bigint NOT NULL DEFAULT nextval('ops.outbox_positions'),
    queue_url    text NOT NULL,
    group_id     text NOT NULL,
    body         text NOT NULL,
    created_at   timestamptz NOT NULL,
    published_at timestamptz,
    run_id       text
) PARTITION BY RANGE (created_at);
CREATE INDEX outbox_unpublished ON ops.outbox (queue_url, position) WHERE published_at IS NULL;
CREATE TABLE ops.outbox_default PARTITION OF ops.outbox DEFAULT;
ALTER TABLE ops.outbox_default ADD PRIMARY KEY (id);
COMMENT ON TABLE ops.outbox IS 'Messages that must reach the output queue, in order. By week of commit.';

ALTER SEQUENCE ops.inbox_positions OWNED BY ops.inbox.position;
ALTER SEQUENCE ops.outbox_positions OWNED BY ops.outbox.position;
"""

# Rows that a missing partition has sent to the default one move to the new partition before it is attached.
_ADD_PARTITION = """
CREATE FUNCTION ops.add_partition(parent text, day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    monday timestamp := date_trunc('week', day::timestamp);
    partition text := format('%s_%s', parent, to_char(monday, 'YYYYMMDD'));
    key text := CASE parent WHEN 'outbox' THEN 'created_at' ELSE 'committed_at' END;
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
COMMENT ON FUNCTION ops.add_partition IS
    'Give inbox, ledger or outbox the partition of the week (UTC) of a day; false if it has it.';
"""

_MOVE = """
SELECT ops.add_partition(parent, day)
FROM (SELECT generate_series(0, {ahead}) * 7 + (now() AT TIME ZONE 'UTC')::date
      UNION SELECT (committed_at AT TIME ZONE 'UTC')::date FROM ops.ledger_flat
      UNION SELECT (received_at AT TIME ZONE 'UTC')::date FROM ops.inbox_flat
      UNION SELECT (created_at AT TIME ZONE 'UTC')::date FROM ops.outbox_flat) AS wanted (day),
     unnest(ARRAY['inbox', 'ledger', 'outbox']) AS parent
ORDER BY day;

INSERT INTO ops.inbox
SELECT m.message_id, m.position, m.queue_url, m.group_id, m.dedup_id, m.sequence_number, m.body, m.sent_at,
       m.received_at, m.receive_count, m.event_time, m.symbol, m.run_id, coalesce(l.committed_at, m.received_at)
FROM ops.inbox_flat AS m LEFT JOIN ops.ledger_flat AS l USING (message_id);
INSERT INTO ops.ledger
SELECT message_id, dedup_id, queue_url, outcome, reason, committed_at, run_id, fencing FROM ops.ledger_flat;
INSERT INTO ops.outbox
SELECT id, position, queue_url, group_id, body, created_at, published_at, run_id FROM ops.outbox_flat;

SELECT setval('ops.inbox_positions', max(position)) FROM ops.inbox_flat HAVING max(position) IS NOT NULL;
SELECT setval('ops.outbox_positions', max(position)) FROM ops.outbox_flat HAVING max(position) IS NOT NULL;
DROP TABLE ops.inbox_flat, ops.ledger_flat, ops.outbox_flat;
"""

_REPLAYS = """
ALTER TABLE ops.dead_letters ADD COLUMN replayed_as text;
COMMENT ON COLUMN ops.dead_letters.replayed_as IS 'MessageId of the newest message that brought it back.';

CREATE TABLE ops.dead_letter_replays (
    dedup_id     text PRIMARY KEY,
    message_id   text NOT NULL REFERENCES ops.dead_letters (message_id) ON DELETE CASCADE,
    queue_url    text NOT NULL,
    body         text NOT NULL,
    requested_at timestamptz NOT NULL,
    replayed_as  text
);
CREATE INDEX dead_letter_replays_by_letter ON ops.dead_letter_replays (message_id);
COMMENT ON TABLE ops.dead_letter_replays IS
    'Refused messages put back on their queue, once per body; written before the sending, its MessageId after it.';
"""

_FLAT = """
CREATE TABLE ops.inbox (
    message_id      text PRIMARY KEY,
    position        bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    queue_url       text NOT NULL,
    group_id        text,
    dedup_id        text,
    sequence_number text,
    body            text NOT NULL,
    sent_at         timestamptz,
    received_at     timestamptz NOT NULL,
    receive_count   integer NOT NULL,
    event_time      timestamptz,
    symbol          text,
    run_id          text
);
CREATE INDEX inbox_by_event_time ON ops.inbox (event_time);
CREATE INDEX inbox_by_queue ON ops.inbox (queue_url, position);
COMMENT ON TABLE ops.inbox IS 'Raw messages as received, kept before anything is made of them.';

CREATE TABLE ops.ledger (
    message_id   text PRIMARY KEY,
    dedup_id     text,
    queue_url    text NOT NULL,
    outcome      text NOT NULL CHECK (outcome IN ('scored', 'late', 'dead', 'duplicate')),
    reason       text,
    committed_at timestamptz NOT NULL,
    run_id       text,
    fencing      bigint
);
CREATE UNIQUE INDEX ledger_by_dedup_id ON ops.ledger (queue_url, dedup_id)
    WHERE dedup_id IS NOT NULL AND outcome <> 'duplicate';
CREATE INDEX ledger_by_committed_at ON ops.ledger (committed_at);
COMMENT ON TABLE ops.ledger IS 'How each input ended: exactly one outcome.';

CREATE TABLE ops.outbox (
    id           text PRIMARY KEY,
    position     bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    queue_url    text NOT NULL,
    group_id     text NOT NULL,
    body         text NOT NULL,
    created_at   timestamptz NOT NULL,
    published_at timestamptz,
    run_id       text
);
CREATE INDEX outbox_unpublished ON ops.outbox (queue_url, position) WHERE published_at IS NULL;
COMMENT ON TABLE ops.outbox IS 'Messages that must reach the output queue, in order.';
"""

# What only one table can refuse stays out of it: the later of two rows of one id, which no run of ours writes.
_MOVE_BACK = """
INSERT INTO ops.inbox (message_id, position, queue_url, group_id, dedup_id, sequence_number, body, sent_at,
                       received_at, receive_count, event_time, symbol, run_id) OVERRIDING SYSTEM VALUE
SELECT message_id, position, queue_url, group_id, dedup_id, sequence_number, body, sent_at, received_at, receive_count,
       event_time, symbol, run_id
FROM ops.inbox_by_week ORDER BY position ON CONFLICT DO NOTHING;
INSERT INTO ops.ledger
SELECT message_id, dedup_id, queue_url, outcome, reason, committed_at, run_id, fencing
FROM ops.ledger_by_week ORDER BY committed_at ON CONFLICT DO NOTHING;
INSERT INTO ops.outbox (id, position, queue_url, group_id, body, created_at, published_at, run_id)
OVERRIDING SYSTEM VALUE
SELECT id, position, queue_url, group_id, body, created_at, published_at, run_id
FROM ops.outbox_by_week ORDER BY position ON CONFLICT DO NOTHING;

SELECT setval(pg_get_serial_sequence('ops.inbox', 'position'), max(position)) FROM ops.inbox
HAVING max(position) IS NOT NULL;
SELECT setval(pg_get_serial_sequence('ops.outbox', 'position'), max(position)) FROM ops.outbox
HAVING max(position) IS NOT NULL;
DROP TABLE ops.inbox_by_week, ops.ledger_by_week, ops.outbox_by_week;
DROP FUNCTION ops.add_partition;
"""


def upgrade() -> None:
    _set_aside("flat")
    op.execute("CREATE SEQUENCE ops.inbox_positions; CREATE SEQUENCE ops.outbox_positions;")
    for script in (_PARENTS, _ADD_PARTITION, _MOVE.format(ahead=_WEEKS_AHEAD), _REPLAYS):
        op.execute(script)


def downgrade() -> None:
    op.execute("DROP TABLE ops.dead_letter_replays; ALTER TABLE ops.dead_letters DROP COLUMN replayed_as;")
    _set_aside("by_week")
    for script in (_FLAT, _MOVE_BACK):
        op.execute(script)


def _set_aside(suffix: str) -> None:
    """Rename the tables, and drop the indexes whose names their successors need."""
    for table in ("inbox", "ledger", "outbox"):
        op.execute(f"""
            ALTER TABLE ops.{table} RENAME TO {table}_{suffix};
            ALTER TABLE ops.{table}_{suffix} DROP CONSTRAINT IF EXISTS {table}_pkey;
        """)
    op.execute(f"""
        DROP INDEX ops.inbox_by_event_time; DROP INDEX ops.inbox_by_queue; DROP INDEX ops.outbox_unpublished;
        DROP INDEX IF EXISTS ops.ledger_by_committed_at, ops.ledger_by_dedup_id;
        ALTER TABLE ops.inbox_{suffix} DROP CONSTRAINT IF EXISTS inbox_position_key;
        ALTER TABLE ops.outbox_{suffix} DROP CONSTRAINT IF EXISTS outbox_position_key;
    """)
