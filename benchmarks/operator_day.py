"""A scripted day of operation: ``python -m benchmarks.operator_day`` (about ten minutes on two idle cores).

An operator starts a home, loads bars, trains, serves a session, meets a bad setting, a damaged file and refused
messages, upgrades a home of an older commit, backs up, restores at another path and replays outputs there. Each step is
a process of the command line. Its exit code and the phrases that its reader needs are compared with what is expected;
each command that an output suggests must exist with its options. The transcript has all commands with their output.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import operator_parts as parts
from benchmarks.harness import REPOSITORY, counted
from benchmarks.operator_suggestions import refusals
from benchmarks.operator_terminal import DayError, Terminal, Transcript
from benchmarks.upgrade_release import Release
from benchmarks.worktree import commit_before, short_hash, worktree

MIGRATIONS: Final = "surveillance_pipelines/stores/migrations/versions"
GOAL: Final = "every exit code and phrase as expected; no traceback, no secret; every suggested command exists"


@dataclass(frozen=True)
class Outcome:
    """The result of the day.

    Attributes:
        transcript: all commands, expectations and problems.
        commits: older commit of the upgraded home, and this checkout.
        seconds: duration.
    """

    transcript: Transcript
    commits: tuple[str, str]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the day; return 0 if everything was as expected, else 1."""
    options = _options(arguments)
    # A background process of a shell ignores SIGINT, and its children too; commands are ended with ctrl-C here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="operator-day-"))
    outcome = run_day(folder.resolve(), options.old_commit or commit_before(REPOSITORY, MIGRATIONS))
    transcript = outcome.transcript
    print(f"\ntranscript: {transcript.path}")
    result = counted(
        "operator_day",
        work=f"a day of operation in {transcript.steps} commands of {outcome.commits[1]}; one home of "
        f"{outcome.commits[0]} is upgraded; {outcome.seconds:.0f} s",
        goal=GOAL,
        found=[
            f"{transcript.expectations:,} expectations compared, {len(transcript.problems)} not met",
            f"{len(transcript.suggested)} different commands suggested by outputs",
            *(f"NOT AS EXPECTED: {problem}" for problem in transcript.problems),
        ],
        met=not transcript.problems,
        figures={"steps": transcript.steps, "seconds": round(outcome.seconds, 1), "old_commit": outcome.commits[0]},
        path=options.result,
    )
    return 0 if result["met"] else 1


def run_day(folder: Path, old_commit: str) -> Outcome:
    """Run all parts in a folder that is kept, because it holds the transcript."""
    began = time.monotonic()
    transcript = Transcript(folder / "transcript.txt")
    print(f"folder of the day: {folder}", flush=True)
    this = Release("this", REPOSITORY)
    main_terminal = Terminal(folder / "main", this, transcript)
    try:
        parts.first_day(main_terminal)
        with worktree(folder / "old", old_commit) as root:
            parts.upgrade(
                Terminal(folder / "upgraded", Release("older", root), transcript), Release("this", REPOSITORY)
            )
        parts.copy_to_another_place(main_terminal)
    except DayError as error:
        transcript.fail(f"the day ends here: {error}")
    finally:
        parts.stop_everything(folder)
    transcript.part("suggested commands")
    for command, reason in refusals(transcript.suggested).items():
        transcript.fail(f"`{command}` is suggested and refused: {reason}")
    commits = short_hash(REPOSITORY, old_commit), short_hash(REPOSITORY, "HEAD")
    return Outcome(transcript, commits, time.monotonic() - began)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a scripted day of operation and write its transcript.")
    parser.add_argument("--folder", type=Path, help="folder of homes and transcript; default: a new temporary one")
    parser.add_argument(
        "--old-commit", help="commit of the home that is upgraded; default: the one before the newest migration"
    )
    parser.add_argument("--result", type=Path, help="file of the counts; default: proof/counts/operator_day.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
