"""Provenance of runs: settings, runtime, calendars and lake versions, recorded once per run.

Output rows refer to it by hashes (``config_hash``, ``runtime_hash``); a replay looks up their contents here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Literal

import psycopg

from surveillance_pipelines.engine.code_version import scoring_code_version
from surveillance_pipelines.hashing import canonical_json, sha256_json
from surveillance_pipelines.models.runtime import runtime_description, runtime_hash
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.tables import LAST_POSITION

RunLane = Literal["live", "features", "batch"]

_CONFIG: Final = "INSERT INTO ops.configs (config_hash, knobs) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_RUNTIME: Final = "INSERT INTO ops.runtimes (runtime_hash, description) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_CALENDARS: Final = "INSERT INTO ops.calendar_maps (calendars_hash, calendars) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_RUN: Final = f"""
    INSERT INTO ops.scoring_runs (lane, run_id, queue_url, first_day, last_day, sessions_first, sessions_last,
                                  calendars_hash, versions_read, table_written, version, config_hash, runtime_hash,
                                  code_version, after_position)
    SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, {LAST_POSITION}
"""

DayRange = tuple[date, date]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringRun:
    """One run that computes features or scores.

    Attributes:
        lane: ``live`` serves a queue, ``features`` writes a table of features, ``batch`` scores one.
        run_id: id of the Dagster run; None outside Dagster.
        calendar_of: symbol → trading calendar.
        queue_url: input queue; lane ``live`` only.
        days: first and last UTC day of the run; None in the live lane.
        sessions: first and last loaded session date; None means all recorded sessions.
        versions_read: lake table → version that was read.
        table_written: table of features; lane ``features`` only.
        version: version of ``table_written`` after the write.
    """

    lane: RunLane
    run_id: str | None
    calendar_of: Mapping[str, str]
    queue_url: str | None = None
    days: DayRange | None = None
    sessions: DayRange | None = None
    versions_read: Mapping[str, int | None] = field(default_factory=dict)
    table_written: str | None = None
    version: int | None = None


def record_run(connection: psycopg.Connection[Any], settings: Settings, run: ScoringRun) -> None:
    """Record the inputs of a run; the caller commits.

    Runs that score record them before the first row. A run that computes features records them after its write, because
    the version of the table is known only then: a crash in between leaves a version without a run until the days are
    computed again.
    """
    others = {symbol: name for symbol, name in run.calendar_of.items() if name != settings.default_calendar}
    first, last = run.days or (None, None)
    sessions_first, sessions_last = run.sessions or (None, None)
    connection.execute(_CONFIG, (settings.config_hash, canonical_json(settings.scoring_knobs)))
    connection.execute(_RUNTIME, (runtime_hash(), canonical_json(runtime_description())))
    connection.execute(_CALENDARS, (sha256_json(others), canonical_json(others)))
    connection.execute(
        _RUN,
        (
            run.lane, run.run_id, run.queue_url, first, last, sessions_first, sessions_last, sha256_json(others),
            canonical_json(dict(run.versions_read)), run.table_written, run.version, settings.config_hash,
            runtime_hash(), scoring_code_version(),
        ),
    )  # fmt: skip
