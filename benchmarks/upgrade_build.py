"""The home of the old release at the upgrade: history, models, batch scores and a session served in part."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.upgrade_feed import OPENING, SYMBOLS, Bar, Burst, make_feed, with_bad_input, with_repeat
from benchmarks.upgrade_home import LOG_TAIL, Platform
from benchmarks.upgrade_release import BARS_TABLE, CRASH_FILE, QUEUE_STATE_FILE, SIMULATION, UpgradeError
from benchmarks.upgrade_serving import drain_run, serve

SESSIONS: Final = 8
FIRST_DAY: Final = date(2024, 1, 16)
SCORED_DAY: Final = date(2024, 1, 24)
LAST_DAY: Final = date(2024, 1, 25)
"""Last day of the training; the days from ``SCORED_DAY`` on are scored in batch."""

CROSSING: Final = 70
"""Minute of the upgrade: a few bars after the snapshot of the features that follows 64 bars."""
RESTART: Final = 30
"""Minute before which the first drain run is stopped with SIGTERM and a second one started."""
MINUTES: Final = 103
REPEATED_MINUTE: Final = 10
BAD_INPUT: Final = (20, 60, 80, 95)
"""Minutes with a late tick, a malformed message and one of an unknown symbol; two on each side of the upgrade."""

_OPEN_ALERTS: Final = """
    SELECT alert_id FROM surveillance.anomalies GROUP BY alert_id
    HAVING bool_and(alert_status = 'opened') ORDER BY alert_id
"""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Crossing:
    """State of the home at the upgrade, and the rest of the feed.

    Attributes:
        sent: number of messages sent so far.
        unfinished: how many of them are still in the queue; some have an outcome already.
        open_alerts: ids of alerts that are opened and neither confirmed nor retracted.
        unpublished: ids of outbox rows that are not marked as published.
        rest: bursts to send after the upgrade.
    """

    sent: int
    unfinished: int
    open_alerts: tuple[str, ...]
    unpublished: tuple[str, ...]
    rest: tuple[Burst, ...]


def build(platform: Platform, seed: int, say: Say) -> Crossing:
    """Fill an empty home, serve the first part of a session, and crash in the middle of a bar."""
    platform.surveillance("ingest", "simulate", "--days", str(SESSIONS), "--last", str(LAST_DAY), "--seed", str(seed))
    platform.surveillance("backfill", str(FIRST_DAY), str(LAST_DAY))
    say(f"ingested and filled {SESSIONS} sessions of {len(SYMBOLS)} symbols")
    platform.surveillance("train", "--last", str(LAST_DAY), "--seed", str(seed))
    say(f"trained and promoted bundle {platform.champion()[:12]}")
    platform.surveillance("backfill", str(SCORED_DAY), str(LAST_DAY), "--job", "scoring_job")
    say("scored two days in batch")
    return _serve_first_part(platform, feed(platform, seed), say)


def feed(platform: Platform, seed: int) -> list[Burst]:
    """Return the bursts of the served session; its prices continue from the bars in the lake."""
    bars = (
        pl.read_delta(str(platform.home / BARS_TABLE)).sort("bar_start").group_by("symbol").agg(pl.col("close").last())
    )
    asked = {"day": str(OPENING.date()), "seed": seed, "prices": dict(bars.iter_rows())}
    done = platform.release.run([sys.executable, "-c", SIMULATION, json.dumps(asked)], platform.home)
    if done.returncode != 0:
        raise UpgradeError(f"expected a simulated session, got {done.stderr[-LOG_TAIL:]}")
    rows = json.loads(done.stdout)
    groups = [rows[start : start + len(SYMBOLS)] for start in range(0, MINUTES * len(SYMBOLS), len(SYMBOLS))]
    minutes = [{row.pop("symbol"): Bar(**row) for row in group} for group in groups]
    bursts = make_feed(minutes, crossing=CROSSING, seed=seed)
    for minute in BAD_INPUT:
        bursts = with_bad_input(bursts, minute)
    repeated = next(burst for burst in bursts if burst.minute == REPEATED_MINUTE).messages[0]
    return with_repeat(bursts, CROSSING + 5, repeated)


def forget_dedup_ids(home: Path) -> None:
    """Make the stopped queue server forget deduplication ids, as SQS does after five minutes."""
    file = home / QUEUE_STATE_FILE
    state = json.loads(file.read_text())
    for queue in state["payload"]["queues"]["data"].values():
        queue["dedup_cache"] = {}
    file.write_text(json.dumps(state))


def _serve_first_part(platform: Platform, bursts: Sequence[Burst], say: Say) -> Crossing:
    """Serve up to the crossing; the second run opens alerts and is killed between commit and publication.

    The rest of the minute and the whole next one then wait in the queue. The next run receives them as a backlog, in
    which the clock closes no bar: the open alerts see the rest of their bar however long the upgrade takes.
    """
    places = [(burst.minute, burst.number) for burst in bursts]
    restart, crash, backlog = (places.index(place) for place in ((RESTART, 0), (CROSSING, 2), (CROSSING + 2, 0)))
    with drain_run(platform, "first") as drain:
        sent = serve(platform, drain, bursts[:restart], sent=0)
        drain.stop()
    say(f"served {sent:,} messages; a consumer took {len(platform.consume()):,} off the output queue")
    with drain_run(platform, "second", can_crash=True) as drain:
        sent = serve(platform, drain, bursts[restart:crash], sent=sent)
        (platform.home.parent / CRASH_FILE).touch()
        platform.send(bursts[crash].messages)
        drain.wait_killed()
    for burst in bursts[crash + 1 : backlog]:
        platform.send(burst.messages)
    sent += sum(len(burst.messages) for burst in bursts[crash:backlog])
    found = Crossing(
        sent=sent,
        unfinished=platform.waiting_inputs(),
        open_alerts=tuple(row["alert_id"] for row in platform.query(_OPEN_ALERTS)),
        unpublished=tuple(
            row["id"]
            for row in platform.query("SELECT id FROM ops.outbox WHERE published_at IS NULL ORDER BY position")
        ),
        rest=tuple(bursts[backlog:]),
    )
    if not found.open_alerts or not found.unpublished:
        raise UpgradeError(
            f"expected open alerts and unpublished rows at the upgrade, found {len(found.open_alerts)} and "
            f"{len(found.unpublished)}: try another --seed"
        )
    say(
        f"killed after {sent:,} messages: {len(found.open_alerts)} open alerts, {len(found.unpublished)} unpublished "
        f"rows, {found.unfinished} messages in the input queue"
    )
    return found
