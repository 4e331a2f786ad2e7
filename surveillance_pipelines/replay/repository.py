"""PostgreSQL queries of a replay: stored outputs, recorded runs, and the inputs of the live lane."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from surveillance_pipelines.clock import DAY_US, to_datetime, to_us, utc_date
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.outputs import INSTANT_FIELDS, Anomaly, column_names
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.features.views import HISTORY_BARS
from surveillance_pipelines.hashing import sha256_json
from surveillance_pipelines.market.messages import decode_tick
from surveillance_pipelines.market.volume import VolumeTotal
from surveillance_pipelines.replay.comparison import PROVENANCE, ROW_TYPES, CannotReplayError, RowKind, StoredOutput
from surveillance_pipelines.replay.incidents import alert_of
from surveillance_pipelines.replay.live import Message, StoredSeed
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.sessions import load_sessions
from surveillance_pipelines.stores.tables import BAR_COLUMNS, PREDICTIONS, bar_of

_KEYED_BY_ID: Final[tuple[tuple[RowKind, str], ...]] = (
    ("anomaly", "surveillance.anomalies"),
    ("incident", "surveillance.incidents"),
    ("signal", "surveillance.signals"),
)
_MESSAGES: Final = """
    SELECT message_id, body, received_at, event_time, symbol FROM ops.inbox JOIN ops.ledger l USING (message_id)
    WHERE inbox.symbol = %s AND inbox.queue_url = %s AND inbox.event_time >= %s AND inbox.event_time < %s
      AND l.outcome = 'scored' AND inbox.position <= %s
    ORDER BY inbox.position
"""
_TOTAL_BEFORE: Final = """
    SELECT body, received_at FROM ops.inbox JOIN ops.ledger l USING (message_id)
    WHERE inbox.symbol = %s AND inbox.queue_url = %s AND inbox.event_time < %s
      AND l.outcome IN ('scored', 'late')
      AND inbox.position < (SELECT position FROM ops.inbox WHERE message_id = %s)
    ORDER BY inbox.event_time DESC, inbox.position DESC LIMIT 1
"""
_SEED: Final = """
    SELECT history, sha256, calendar, as_of_bar_start FROM ops.lane_seeds
    WHERE symbol = %s AND queue_url = %s AND feature_view = %s
      AND (as_of_bar_start IS NULL OR as_of_bar_start < %s) AND after_position < %s
    ORDER BY id DESC LIMIT 1
"""
_BARS: Final = (
    f"SELECT {', '.join(BAR_COLUMNS)} FROM ops.live_bars WHERE symbol = %s AND queue_url = %s AND revision = 0"  # noqa: S608 (constant names)
)
_RUN: Final = """
    SELECT * FROM ops.scoring_runs JOIN ops.calendar_maps USING (calendars_hash)
    WHERE lane = 'live' AND queue_url = %(queue)s AND (run_id = %(run)s OR after_position < %(position)s)
    ORDER BY coalesce(run_id = %(run)s, false) DESC, id DESC LIMIT 1
"""
_BATCH_RUN: Final = """
    SELECT * FROM ops.scoring_runs JOIN ops.calendar_maps USING (calendars_hash)
    WHERE lane = 'batch' AND run_id = %s AND first_day <= %s AND last_day >= %s ORDER BY id DESC LIMIT 1
"""
_FEATURES_RUN: Final = """
    SELECT * FROM ops.scoring_runs JOIN ops.calendar_maps USING (calendars_hash)
    WHERE lane = 'features' AND version <= %s AND first_day <= %s AND last_day >= %s AND table_written = %s
    ORDER BY version DESC, id DESC LIMIT 1
"""
_NEWEST: Final = """
    SELECT max(bar_start) FROM (
        SELECT max(bar_start) AS bar_start FROM surveillance.anomalies
        UNION ALL SELECT max(bar_start) FROM surveillance.signals
        UNION ALL SELECT max(bar_start) FROM surveillance.predictions
    ) AS newest
"""
_SAMPLE: Final = """
    SELECT id, bar_start FROM (
        SELECT id, bar_start FROM surveillance.anomalies WHERE bar_start >= %(since)s
        UNION ALL SELECT id, bar_start FROM surveillance.incidents WHERE bar_start >= %(since)s
        UNION ALL SELECT id, bar_start FROM surveillance.signals WHERE bar_start >= %(since)s
        UNION ALL SELECT id, bar_start FROM surveillance.predictions WHERE bar_start >= %(since)s
        UNION ALL SELECT id, NULL FROM ops.outbox
        WHERE created_at >= %(since)s AND row_type = 'score' AND body LIKE '%%"bar_status":"provisional"%%'
          AND (body::jsonb ->> 'bar_start')::timestamptz >= %(since)s
    ) AS outputs
    ORDER BY md5(id || %(seed)s) LIMIT %(size)s
"""
_SAME_DAY: Final = """
    symbol = %(symbol)s AND bar_start >= %(since)s AND bar_start < %(until)s
    AND (tenant, strategy, timeframe) = (%(tenant)s, %(strategy)s, %(timeframe)s)
"""
_WRITTEN_LIVE: Final = "t_received IS NOT NULL"
_WRITTEN_BY_BATCH: Final = """
    alert_status = 'confirmed'
    AND (bundle_hash, config_hash, feature_view) = (%(bundle_hash)s, %(config_hash)s, %(feature_view)s)
"""
_MINUTES_PER_DAY: Final = 1440
END_OF_TIME: Final = 2**62
"""An inbox position after every message."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A row of ``ops.scoring_runs``."""

    config_hash: str
    runtime_hash: str
    code_version: str
    calendars: Mapping[str, str]
    sessions: tuple[date, date]
    days: tuple[date | None, date | None]
    versions_read: Mapping[str, Any]
    recorded_at: datetime


class ReplayRepository:
    """Reads what a replay needs from the platform's tables."""

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings) -> None:
        self._connection: Final = connection
        self._settings: Final = settings
        self._sessions: dict[tuple[Any, ...], SessionTable] = {}
        self._bar_starts: dict[str, int] = {}  # of sampled outputs

    def sample(self, size: int, seed: int, since: date | None = None) -> list[str]:
        """Return the ids of random outputs; the same seed and rows give the same ids."""
        values = {"since": since or date.min, "seed": str(seed), "size": size}
        drawn = self._connection.execute(_SAMPLE, values).fetchall()
        self._bar_starts |= {id_: to_us(start) for id_, start in drawn if start is not None}
        return [id_ for id_, _ in drawn]

    def newest_day(self) -> date | None:
        """Return the UTC day of the newest bar with an output."""
        row = self._connection.execute(_NEWEST).fetchone()
        return None if row is None or row[0] is None else row[0].date()

    def output(self, id_: str) -> StoredOutput | None:
        """Return the output with an id, from its table or, if it was only published, from its message."""
        for kind, table in _KEYED_BY_ID:
            columns = column_names(ROW_TYPES[kind])
            query = f"SELECT {', '.join(columns)} FROM {table} WHERE id = %s"  # noqa: S608 (constant names)
            row = self._connection.execute(query.encode(), (id_,)).fetchone()
            if row is not None:
                return StoredOutput(kind, _values(dict(zip(columns, row, strict=True))))
        message = self._message(id_)
        if message is not None and message.bar_status != "final":
            return message
        start = self._bar_starts.get(id_) if message is None else message.bar_start
        return self._prediction(id_, start) or message

    def _message(self, id_: str) -> StoredOutput | None:
        row = self._connection.execute("SELECT body FROM ops.outbox WHERE id = %s", (id_,)).fetchone()
        if row is None:
            return None
        message = json.loads(row[0])
        kind: RowKind = message.pop("type")
        given = [name for name in INSTANT_FIELDS if message.get(name) is not None]
        instants = {name: to_us(datetime.fromisoformat(message[name])) for name in given}
        return StoredOutput(kind, message | instants)

    def _prediction(self, id_: str, bar_start: int | None) -> StoredOutput | None:
        """Return a prediction; without the start of its bar, the index cannot be used and the whole table is read."""
        known = "" if bar_start is None else "AND bar_start = %(start)s"
        query = f"SELECT {', '.join(PREDICTIONS.columns)} FROM surveillance.predictions WHERE id = %(id)s {known}"  # noqa: S608
        values = {"id": id_, "start": None if bar_start is None else to_datetime(bar_start)}
        row = self._connection.execute(query.encode(), values).fetchone()
        if row is None:
            return None
        values = _values(dict(zip(PREDICTIONS.columns, row, strict=True)))
        # Rows of older releases lack these columns' values; legacy.py searches for them.
        known = {name: value for name, value in values.items() if value is not None or name not in PROVENANCE}
        return StoredOutput("prediction", known)

    def was_opened(self, alert_id: str) -> bool:
        """Return whether an alert was opened."""
        query = "SELECT 1 FROM surveillance.anomalies WHERE alert_id = %s AND alert_status = 'opened' LIMIT 1"
        return self._connection.execute(query, (alert_id,)).fetchone() is not None

    def alerts_of_day(self, output: StoredOutput) -> list[Anomaly]:
        """Return the alert rows of an output's symbol, tenant, strategy and UTC day.

        For a row of the live lane, these are the live lane's; for one of batch scoring, the confirmed ones of its
        bundle and settings, whichever lane wrote them first.
        """
        columns, values = column_names(Anomaly), dict(output.values)
        day = values["bar_start"] - values["bar_start"] % DAY_US
        values |= {"since": to_datetime(day), "until": to_datetime(day + DAY_US)}
        written_by = _WRITTEN_LIVE if output.is_live else _WRITTEN_BY_BATCH
        query = f"SELECT {', '.join(columns)} FROM surveillance.anomalies WHERE {_SAME_DAY} AND {written_by}"  # noqa: S608
        rows = self._connection.execute(query.encode(), values)
        return [alert_of(_values(dict(zip(columns, row, strict=True)))) for row in rows]

    def knobs(self, config_hash: str) -> Mapping[str, Any]:
        """Return the settings with a hash.

        Raises:
            CannotReplayError: if they are not on record, or damaged.
        """
        if config_hash == self._settings.config_hash:
            return self._settings.scoring_knobs
        row = self._connection.execute(
            "SELECT knobs FROM ops.configs WHERE config_hash = %s", (config_hash,)
        ).fetchone()
        if row is None:
            raise CannotReplayError(f"the settings of config_hash {config_hash} are not on record in ops.configs")
        if sha256_json(row[0]) != config_hash:
            raise CannotReplayError(f"the settings in ops.configs under {config_hash} are damaged: their hash differs")
        return row[0]

    def configs(self) -> list[str]:
        """Return the hashes of all settings: the current ones first, then those on record, newest first."""
        rows = self._connection.execute("SELECT config_hash FROM ops.configs ORDER BY recorded_at DESC")
        return list(dict.fromkeys([self._settings.config_hash, *(config_hash for (config_hash,) in rows)]))

    def runtime(self, runtime_hash: str) -> Mapping[str, Any] | None:
        """Return the description of a runtime, None if it is not on record."""
        query = "SELECT description FROM ops.runtimes WHERE runtime_hash = %s"
        row = self._connection.execute(query, (runtime_hash,)).fetchone()
        return None if row is None else row[0]

    def excluded_models(self, queue_url: str) -> list[str]:
        """Return the models that were ever out of service in a queue's runs."""
        query = "SELECT DISTINCT model FROM ops.breaker_events WHERE queue_url = %s AND state = 'open' ORDER BY model"
        return [model for (model,) in self._connection.execute(query, (queue_url,))]

    def inbox_position(self, message_id: str | None) -> tuple[str, int] | None:
        """Return queue and inbox position of a message, None if it is no longer kept."""
        query = "SELECT queue_url, position FROM ops.inbox WHERE message_id = %s"
        return self._connection.execute(query, (message_id,)).fetchone()

    def queue_of_bar(self, symbol: str, bar_start: int) -> str | None:
        """Return the queue that a closed bar came from."""
        query = "SELECT queue_url FROM ops.live_bars WHERE symbol = %s AND bar_start = %s AND revision = 0"
        row = self._connection.execute(query, (symbol, to_datetime(bar_start))).fetchone()
        return None if row is None else row[0]

    def live_run(self, queue_url: str, position: int, run_id: str | None) -> RecordedRun | None:
        """Return the run with an id or, outside Dagster, the run that processed a message of a queue."""
        return self._run(_RUN, {"queue": queue_url, "position": position, "run": run_id})

    def batch_run(self, run_id: str | None, day: date) -> RecordedRun | None:
        """Return the run that scored a day."""
        return self._run(_BATCH_RUN, (run_id, day, day))

    def features_run(self, table: str, version: int, day: date) -> RecordedRun | None:
        """Return the run that wrote a day of a features table, as of a version of the table."""
        return self._run(_FEATURES_RUN, (version, day, day, table))

    def sessions(self, run: RecordedRun | None, knobs: Mapping[str, Any], **calendar_of: str) -> SessionTable:
        """Return the trading sessions that a run had, or the current ones if the run is not on record."""
        default = knobs["default_calendar"]
        mapping = {**(run.calendars if run else {}), **calendar_of}
        names = (default, *sorted(set(mapping.values()) - {default}))
        first, last = run.sessions if run else (date.min, date.max)
        key = (names, first, last, run.recorded_at if run else None)
        if key not in self._sessions:
            as_of = run.recorded_at if run else None
            self._sessions[key] = load_sessions(self._connection, names, first, last, as_of=as_of)
        return self._sessions[key].with_calendars(mapping)

    def seed(self, symbol: str, queue_url: str, view: str, bar_start: int, position: int | None) -> StoredSeed | None:
        """Return a symbol's last seed before a bar and before an inbox position; None: before the bar closed."""
        last = END_OF_TIME if position is None else position
        values = (symbol, queue_url, view, to_datetime(bar_start), last)
        row = self._connection.execute(_SEED, values).fetchone()
        if row is None:
            return None
        history, digest, calendar, as_of = row
        return StoredSeed(bytes(history), digest, calendar, None if as_of is None else to_us(as_of))

    def bar(self, symbol: str, queue_url: str, bar_start: int) -> Bar | None:
        """Return a closed bar, revision 0."""
        bars = self._bars("bar_start = %s", symbol, queue_url, to_datetime(bar_start))
        return bars[0] if bars else None

    def bars_before(
        self, symbol: str, queue_url: str, bar_start: int, after: int | None, window_length: int = 1
    ) -> tuple[list[Bar], bool]:
        """Return the revision-0 bars needed for the features of a bar, and whether they suffice without a seed.

        Args:
            symbol: the instrument.
            queue_url: the queue that served it.
            bar_start: start of the bar.
            after: start of the last bar of the seed.
            window_length: bars per window of the models.
        """
        wanted = HISTORY_BARS if window_length == 1 else HISTORY_BARS + _MINUTES_PER_DAY + window_length
        beginning, day = to_datetime(-1 if after is None else after), to_datetime(bar_start - bar_start % DAY_US)
        start = to_datetime(bar_start)
        condition = "bar_start >= %s AND bar_start > %s AND bar_start < %s ORDER BY bar_start"
        today = self._bars(condition, symbol, queue_url, day, beginning, start)
        condition = "bar_start < %s AND bar_start > %s ORDER BY bar_start DESC LIMIT %s"
        earlier = self._bars(condition, symbol, queue_url, day, beginning, wanted)
        return [*reversed(earlier), *today], len(earlier) == wanted

    def messages(
        self, symbol: str, queue_url: str, bar_start: int, *, until: int | None = None, bars: int = 1
    ) -> list[Message]:
        """Return the scored messages of ``bars`` consecutive minutes, up to an inbox position, in order."""
        begin, end = to_datetime(bar_start), to_datetime(bar_start) + timedelta(microseconds=bars * MINUTE_US)
        last = END_OF_TIME if until is None else until
        rows = self._connection.execute(_MESSAGES, (symbol, queue_url, begin, end, last))
        return [Message(id_, body, to_us(at), to_us(time), name) for id_, body, at, time, name in rows]

    def volume_before(self, symbol: str, queue_url: str, first: Message, sessions: SessionTable) -> VolumeTotal | None:
        """Return the running total of a symbol before a message."""
        end = to_datetime(first.event_time - first.event_time % MINUTE_US + MINUTE_US)
        row = self._connection.execute(_TOTAL_BEFORE, (symbol, queue_url, end, first.message_id)).fetchone()
        if row is None:
            return None
        tick: Any = decode_tick(row[0], sent_at=None)
        session_id, _, _ = sessions.for_symbol(symbol).position(tick.event_time)
        return VolumeTotal(session_id, tick.volume, tick.event_time)

    def prediction_hashes(self, symbol: str, bar_starts: Sequence[int], view: str) -> dict[int, str]:
        """Return bar start → hash of the scored features, for closed bars of the live lane."""
        query = (
            "SELECT bar_start, input_hash FROM surveillance.predictions WHERE symbol = %s AND bar_start = ANY(%s)"
            " AND feature_view = %s AND input_hash IS NOT NULL AND t_received IS NOT NULL"
        )
        rows = self._connection.execute(query, (symbol, [to_datetime(start) for start in bar_starts], view))
        return {to_us(start): digest for start, digest in rows}

    def _bars(self, condition: str, *parameters: Any) -> list[Bar]:
        rows = self._connection.execute(f"{_BARS} AND {condition}".encode(), parameters)
        return [bar_of(row) for row in rows]

    def _run(self, query: str, parameters: Any) -> RecordedRun | None:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(query.encode(), parameters).fetchone()
        if row is None:
            return None
        return RecordedRun(
            row["config_hash"], row["runtime_hash"], row["code_version"], row["calendars"],
            (row["sessions_first"] or date.min, row["sessions_last"] or date.max),
            (row["first_day"], row["last_day"]), row["versions_read"], row["recorded_at"],
        )  # fmt: skip


def day_of(output: StoredOutput) -> date:
    """Return the UTC day of an output's bar."""
    return utc_date(output.bar_start)


def _values(record: dict[str, Any]) -> dict[str, Any]:
    record = {name: to_us(value) if isinstance(value, datetime) else value for name, value in record.items()}
    if "anomaly_score" in record:
        record["score"] = record.pop("anomaly_score")
    return record
