"""The parts of the scripted day, in the order in which they run."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.operator_files import damage, dead_letter_messages, market_files, newest_file
from benchmarks.operator_home import count, send, stop_services
from benchmarks.operator_terminal import DayError, Terminal
from benchmarks.upgrade_release import Release

SYMBOLS: Final = ("AAPL", "AMZN", "GOOG", "MSFT", "SPY", "TSLA")
SETTINGS: Final = {"SYMBOLS": ",".join(SYMBOLS), "FALLBACK_TO_YFINANCE": "false"}
"""Settings of all homes; Yahoo is not asked, because the day needs no network."""
NEW_SYMBOL: Final = "BTC-USD"
"""Not in ``SYMBOLS``, and traded at all hours."""
_LEDGER: Final = "SELECT count(*) FROM ops.ledger"
_UNPUBLISHED: Final = """
    SELECT count(*) FROM ops.outbox o
    WHERE NOT EXISTS (SELECT FROM ops.outbox_deliveries d WHERE d.position = o.position)
"""
_LONGEST: Final = 400.0
_RED: Final = ("│ fail │", "dagster._core", "__ASSET_JOB")
"""What `status` does not print while nothing has failed; names of Dagster's classes and jobs mean nothing to a user."""


def first_day(terminal: Terminal) -> None:
    """Start a home, load bars, train, serve, and get three kinds of trouble out of the way."""
    terminal.configure(SETTINGS)
    _first_start(terminal)
    bars, ticks, expected = market_files(terminal.folder, SYMBOLS)
    _ingest(terminal, bars)
    _train(terminal)
    _serve(terminal, ticks, expected)
    _bad_settings(terminal)
    _failed_run(terminal)
    _dead_letters(terminal)


def upgrade(old: Terminal, release: Release) -> None:
    """Create and serve a home with an older release, then continue it with this one."""
    old.transcript.part("8. upgrade a home of an older release")
    old.configure(SETTINGS)
    bars, ticks, expected = market_files(old.folder, SYMBOLS)
    old.transcript.note("commands of the older release")
    old.run("ingest", str(bars))
    old.run("feed", str(ticks))
    with old.serving():
        _wait_served(old, expected)
    stop_services(old.home)
    new = old.with_release(release)
    new.transcript.note("commands of this release")
    new.run("backup", "before-upgrade.tar", says=("wrote before-upgrade.tar",))
    new.run("prepare", says=("up to date",))
    new.run("doctor", says=("no check failed",), never=("fail ",))
    with new.serving():
        new.run("feed", "simulated", says=("sent",))
        _wait_served(new, expected + 1, published=True)
        new.run("status", says=("ledger: scored",), never=_RED)
    new.run("replay", "--sample", "20", says=("20 outputs replayed: 20 equal",))
    stop_services(new.home)


def copy_to_another_place(terminal: Terminal) -> None:
    """Back up the home while it serves, restore it at another path, and replay outputs there."""
    say = terminal.transcript
    archive, place = terminal.folder / "home.tar", terminal.folder / "another place" / "restored"
    say.part("9. backup")
    with terminal.serving():
        terminal.run("backup", str(archive), says=("not included", f"wrote {archive}"))
        terminal.run("backup", str(archive), code=2, says=("expected", "what to do"), note="the same target again")
    say.part("10. restore into an empty home at another path")
    terminal.run("restore", str(archive), code=1, says=("what to do",), note="forget to name another home")
    terminal.run("--home", str(place), "restore", str(archive), says=("restored", "as in the manifest", "next:"))
    terminal.run("--home", str(place), "doctor", says=("no check failed",))
    terminal.run("--home", str(place), "status")
    say.part("11. replay 20 outputs at the other path")
    terminal.run("--home", str(place), "replay", "--sample", "20", says=("20 outputs replayed: 20 equal",))
    terminal.run("--home", str(place), "alerts", "--limit", "3")
    terminal.run("--home", str(place), "reset", "--yes", says=("deleted",))
    terminal.run("--home", str(place), "status", says=("no data yet",))


def stop_everything(folder: Path) -> None:
    """Stop the embedded services of all homes of the day."""
    for record in folder.glob("**/services.json"):
        stop_services(record.parent)


def _first_start(terminal: Terminal) -> None:
    terminal.transcript.part("1. first start")
    terminal.run("--help", says=("doctor", "up", "status"))
    terminal.run("status", says=("no data yet", "surveillance demo"))
    terminal.run("doctor", says=("no check failed",))
    with terminal.serving():
        terminal.run("status", says=("none: the warm-up rules serve",))
        terminal.run("doctor", says=("no check failed",))
        terminal.run("alerts", says=("no alerts yet",))
        terminal.run("dead-letters", "list", says=("no dead letters",))
        terminal.run("models", "list")
        terminal.run("replay", "--sample", "20", code=1, says=("no outputs to replay yet",))


def _ingest(terminal: Terminal, bars: Path) -> None:
    terminal.transcript.part("2. ingest a file of bars")
    terminal.run("ingest", str(bars.with_suffix(".parquet")), code=2, says=("expected",), note="a typo")
    terminal.run("train", code=1, says=("what to do",), note="train too early")
    terminal.run("ingest", str(bars), "--dry-run", says=("nothing is stored",))
    ingested = terminal.run("ingest", str(bars), says=("0 refused", "next: `surveillance backfill"))
    terminal.run("ingest", str(bars), says=("no new bars",), note="the same file again")
    terminal.run(*ingested.suggested("backfill"), says=("checks passed", "bars_are_fresh did not pass", "ingest them"))
    terminal.run("status", says=("bars_1m",), never=_RED)


def _train(terminal: Terminal) -> None:
    terminal.transcript.part("3. train")
    terminal.run("train", says=("promoted: v1 is the champion",))
    terminal.run("models", "list", says=("champion",))
    terminal.run("models", "history", says=("champion",))


def _serve(terminal: Terminal, ticks: Path, expected: int) -> None:
    terminal.transcript.part("4. serve")
    with terminal.serving():
        terminal.run("feed", str(ticks), says=(f"sent {expected:,} ticks",))
        _wait_served(terminal, expected, published=True)
        listed = terminal.run("alerts", says=("explain one",))
        explained = terminal.run("alerts", "show", _first_id(listed.text), says=("threshold", "recompute this row"))
        terminal.run(*explained.suggested("replay"), says=("1 output replayed: 1 equal",))
        terminal.run("alerts", "show", "abcdef123456", code=2, says=("expected", "what to do"), note="an unknown id")
        terminal.run("alerts", "--symbols", "NFLX", says=("no alert matches",))
        terminal.run("tail", "--peek", "--count", "3")
        terminal.run("status", says=("ledger: scored", "held by"), never=_RED)
        terminal.run("doctor", says=("no check failed",))
    terminal.run("status", says=("released by",), never=_RED, note="after ctrl-C")


def _bad_settings(terminal: Terminal) -> None:
    terminal.transcript.part("5. bad settings")
    terminal.configure({**SETTINGS, "MODEL_RETRAINING_SCHEDULE": "every monday"})
    named = ("MODEL_RETRAINING_SCHEDULE", "every monday")
    for command in ("status", "up", "doctor"):
        terminal.run(command, code=1 if command == "doctor" else 2, says=named)
    terminal.configure({**SETTINGS, "SQS_QUEUE_URLS": "https://example.com/q.fifo"})
    meant = ("SQS_QUEUE_URLS", "did you mean SQS_QUEUE_URL?")
    terminal.run("status", says=meant)
    terminal.run("doctor", says=meant)
    with terminal.serving(says=meant):
        pass
    terminal.configure(SETTINGS)
    terminal.run("doctor", says=("no check failed",), never=("variable ",), note="corrected")


def _failed_run(terminal: Terminal) -> None:
    terminal.transcript.part("6. a failed run")
    file, day = newest_file(terminal.home / "lake" / "bars_landed")
    terminal.run("backfill", "2015-01-05", "2015-01-05", says=("no bars for these days",), note="a day without bars")
    damage(file)
    terminal.transcript.note(f"a disk error damages {file.name}")
    terminal.run("backfill", day, day, code=1, says=("what to do",))
    terminal.run("status", says=("failed market_data_job",))
    checked = terminal.run("doctor", code=1, says=("failed market_data_job", file.name))
    terminal.run(*checked.suggested("ingest"), says=("landed",), note="follow the remedy of `doctor`")
    terminal.run("backfill", day, day, says=("checks passed",))
    terminal.run("status")
    terminal.run("doctor", says=("no check failed",))


def _dead_letters(terminal: Terminal) -> None:
    terminal.transcript.part("7. many dead letters")
    bad = dead_letter_messages(NEW_SYMBOL)
    with terminal.serving():
        before = count(terminal.home, _LEDGER)
        send(terminal.home, bad)
        terminal.transcript.note(f"a producer sends {len(bad)} messages, all of which are refused")
        _wait_served(terminal, before + len(bad))
        terminal.run("status", says=("ledger: dead",))
        listed = terminal.run("dead-letters", "list", says=("unknown_symbol", "not_json"))
        terminal.run("dead-letters", "list", "--code", "not_json", says=("newest",))
        terminal.run("dead-letters", "show", _first_id(listed.text.split("newest", 1)[1]), says=("reason",))
        bulk = ("dead-letters", "replay", "--code", "unknown_symbol")
        terminal.run(*bulk, code=1, note="before the symbol is registered")
    terminal.run("instruments", "add", NEW_SYMBOL, says=("from their next start",), note="after ctrl-C")
    with terminal.serving():
        terminal.run(*bulk, "--dry-run", says=("would be sent",))
        known = sum(entry.group_id == NEW_SYMBOL for entry in bad)
        terminal.run(*bulk, says=("sent as",))
        _wait_served(terminal, before + len(bad) + known)
        terminal.run("dead-letters", "list", "--code", "unknown_symbol", says=("scored",))
        terminal.run(*bulk, says=("nothing to replay",), note="again")
        terminal.run("dead-letters", "replay", "--code", "not_json", code=1, says=("cannot be sent",))
        terminal.run("dead-letters", "redrive", says=("nothing to redrive",))
        terminal.run("status")
        terminal.run("doctor")


def _first_id(text: str) -> str:
    """Return the id in the first row of a table, whose first column has the ids."""
    rows = [line.strip("│ ").split("│")[0].strip() for line in text.splitlines() if line.startswith("│")]
    if not rows:
        raise DayError(f"expected a table with ids, got:\n{text}")
    return rows[0]


def _wait_served(terminal: Terminal, inputs: int, *, published: bool = False) -> None:
    """Wait until a number of inputs has an outcome and, if asked for, every output is published."""

    def is_done() -> bool:
        return count(terminal.home, _LEDGER) >= inputs and not (published and count(terminal.home, _UNPUBLISHED))

    seconds = _until(is_done, lambda: f"{count(terminal.home, _LEDGER):,} of {inputs:,} inputs served")
    terminal.transcript.note(f"the operator waits {seconds:.0f} s until {inputs:,} inputs are served")


def _until(condition: Callable[[], bool], progress: Callable[[], str]) -> float:
    began, reported = time.monotonic(), time.monotonic()
    while not condition():
        if time.monotonic() - began > _LONGEST:
            raise DayError(f"expected progress within {_LONGEST:.0f} s: {progress()}")
        if time.monotonic() - reported > 10:
            reported = time.monotonic()
            print(f"     {reported - began:.0f} s so far: {progress()}", flush=True)
        time.sleep(0.5)
    return time.monotonic() - began
