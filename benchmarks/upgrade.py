"""Proof of the upgrade promise: rows, bundles and snapshots of an older release serve and replay as they did.

``python -m benchmarks.upgrade --old-commit 5ca38ec`` (about five minutes on two idle cores). The old release, run from
a worktree of its commit, fills a home, trains and promotes a bundle, serves part of a session and is killed in the
middle of a bar. It leaves open alerts, unpublished rows in the outbox and messages in both queues. The home is copied;
then the old release continues from one copy and this checkout from the other, at the same path and with the same
messages. Their rows and messages are compared field by field; ``upgrade_comparison`` names the fields left out.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import upgrade_checks as checks
from benchmarks.harness import REPOSITORY, counted
from benchmarks.upgrade_build import Crossing, build, forget_dedup_ids
from benchmarks.upgrade_checks import OUTPUTS, Continued, Tables
from benchmarks.upgrade_comparison import Check
from benchmarks.upgrade_feed import OPENING
from benchmarks.upgrade_home import Platform, running
from benchmarks.upgrade_release import Release, UpgradeError
from benchmarks.upgrade_serving import drain_run, serve
from benchmarks.worktree import UnknownCommitError, short_hash, worktree

OLD_COMMIT: Final = "5ca38ec"
GOAL: Final = "every row, alert, message and replay equal; nothing compared is empty"
NEW_OUTPUTS: Final = 40
"""Outputs of the new release to replay, beside the rows that close the open alerts."""


class BrokenPromiseError(RuntimeError):
    """The new release cannot continue from the home of the old one."""


@dataclass(frozen=True)
class Evidence:
    """Everything that the checks compare.

    Attributes:
        crossing: state of the home at the upgrade.
        old: rows and messages of the old release since then.
        new: rows and messages of the new release since then.
        drawn: outputs of the old release to replay, id → kind.
        drawn_new: outputs of the new release to replay, id → kind.
        replayed: results of replaying both with the new release.
        filled: tables of the new release after a backfill of the served day.
    """

    crossing: Crossing
    old: Continued
    new: Continued
    drawn: dict[str, str]
    drawn_new: dict[str, str]
    replayed: list[dict[str, Any]]
    filled: Tables


class Steps:
    """Prints each finished step with the seconds since the start."""

    def __init__(self) -> None:
        self._began: Final = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, text: str) -> None:
        print(f"{self.seconds:6.1f} s  {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proof; return 0 if the promise is kept, 1 if it is not, 2 if the proof could not be carried out."""
    options = _options(arguments)
    say = Steps()
    commits = (short_hash(REPOSITORY, options.old_commit), short_hash(options.new, "HEAD"))
    with _ending_on_sigterm():
        try:
            found = _evidence(options, commits, say)
            made = judge(found, options.outputs)
            _show(made)
            result = summary(made, found, commits, say.seconds)
        except BrokenPromiseError as error:
            print(error, file=sys.stderr)
            result = failure(str(error), commits)
        except (UnknownCommitError, UpgradeError) as error:
            print(f"not proved: {error}", file=sys.stderr)
            return 2
    return 0 if counted("upgrade", path=options.result, **result)["met"] else 1


def judge(found: Evidence, outputs: int) -> list[Check]:
    """Return the result of every check."""
    old, new = found.old, found.new
    ours = "outputs of the new release, replayed by it"
    return [
        checks.check_migration(old, new),
        *checks.check_config_hashes(new),
        checks.check_champion(old, new),
        checks.check_open_alerts(found.crossing.open_alerts, old, new),
        checks.check_replays("outputs of the old release, replayed by the new", found.drawn, found.replayed, outputs),
        checks.check_replays(ours, found.drawn_new, found.replayed, len(found.drawn_new)),
        *checks.check_inputs(old, new),
        *checks.check_outputs(old, new),
        *checks.check_queue(found.crossing.unpublished, old, new),
        checks.check_backfill(new.after, found.filled),
    ]


def summary(made: Sequence[Check], found: Evidence, commits: Sequence[str], seconds: float) -> dict[str, Any]:
    """Return the arguments of ``harness.counted``."""
    wrong = [check for check in made if not check.passed]
    left = found.crossing
    work = (
        f"a home of commit {commits[0]}, left in the middle of a bar with {len(left.open_alerts)} open alerts, "
        f"{len(left.unpublished)} rows not published and {left.unfinished} messages in the queue; "
        f"then continued by {commits[0]} and by {commits[1]} from equal copies, {len(found.new.after['ops.inbox']):,} "
        f"messages in all; {seconds:.0f} s"
    )
    return {
        "work": work,
        "goal": GOAL,
        "found": [f"{check.name}: {check.equal:,} of {check.compared:,} equal" for check in made]
        + [f"DIFFERENT {check.name}: {check.differences[0]}" for check in wrong if check.differences],
        "met": not wrong,
        "figures": {
            "old_commit": commits[0],
            "new_commit": commits[1],
            "seconds": round(seconds, 1),
            "rows_at_the_upgrade": {table: len(rows) for table, rows in found.old.before.items() if rows},
            "checks": {
                check.name: {"compared": check.compared, "equal": check.equal, "notes": list(check.notes)}
                for check in made
            },
        },
    }


def failure(reason: str, commits: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of ``harness.counted`` for a new release that could not continue."""
    return {
        "work": f"a home of commit {commits[0]}, to be served by {commits[1]}",
        "goal": GOAL,
        "found": [f"the new release could not continue: {reason.splitlines()[0]}"],
        "met": False,
        "figures": {"old_commit": commits[0], "new_commit": commits[1]},
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Upgrade a home of an older release and compare what both releases do from there on."
    )
    parser.add_argument("--old-commit", default=OLD_COMMIT, help="commit of the old release")
    parser.add_argument("--outputs", type=int, default=200, help="outputs of the old release to replay")
    parser.add_argument("--seed", type=int, default=7, help="seed of the market, the messages and the sample")
    parser.add_argument("--keep", action="store_true", help="keep homes, logs and worktree, and print where they are")
    parser.add_argument("--new", type=Path, default=REPOSITORY, help="checkout of the new release; default: this one")
    parser.add_argument("--result", type=Path, help="file for the counts; default: proof/counts/upgrade.json")
    return parser.parse_args(arguments)


def _evidence(options: argparse.Namespace, commits: Sequence[str], say: Steps) -> Evidence:
    with _folder(keep=options.keep) as folder, worktree(folder / "old", options.old_commit, keep=options.keep) as root:
        home, spare = folder / "home", folder / "spare"
        old, new = Release("old", root), Release("new", options.new.resolve())
        for release in (old, new):
            release.check_import(home)
        with running(new, folder / "trial"):
            pass  # a package that is not installed would else look like a broken promise, minutes from now
        say(f"old release of commit {commits[0]}, new release of {commits[1]}")
        with running(old, home) as platform:
            crossing = build(platform, options.seed, say)
        forget_dedup_ids(home)
        _copy(home, spare)
        say("stopped the services and copied the home")
        with running(old, home) as platform:
            theirs = _carry_on(platform, crossing)
        say(f"the old release continued to {len(theirs.after['ops.inbox']):,} messages")
        home.rename(folder / "home-old")
        spare.rename(home)  # at the same path, because rows name the folders of bundles
        with _breaking_the_promise(), running(new, home) as platform:
            ours = _carry_on(platform, crossing)
            say(f"the new release continued to {len(ours.after['ops.inbox']):,} messages")
            drawn = checks.draw_outputs(theirs.before, options.outputs, options.seed)
            written = {table: ours.new_rows(table) for table in (*OUTPUTS, "ops.outbox")}
            closing = checks.closing_alerts(crossing.open_alerts, ours)
            drawn_new = checks.draw_outputs(written, NEW_OUTPUTS, options.seed)
            drawn_new |= {row["id"]: "anomaly that closes an alert open at the upgrade" for row in closing}
            replayed = _replay(platform, [*drawn, *drawn_new])
            say(f"replayed {len(replayed)} outputs")
            filled = _fill(platform, ours.champion)
            say("filled and scored the served day")
        return Evidence(crossing, theirs, ours, drawn, drawn_new, replayed, filled)


@contextmanager
def _breaking_the_promise() -> Iterator[None]:
    """Raise a failure of the new release as a broken promise."""
    try:
        yield
    except UpgradeError as error:
        raise BrokenPromiseError(str(error)) from error


def _carry_on(platform: Platform, crossing: Crossing) -> Continued:
    before = platform.tables()
    with drain_run(platform, "continued") as drain:
        serve(platform, drain, crossing.rest, sent=crossing.sent)
        drain.stop()
    return Continued(platform.champion(), before, platform.tables(), platform.consume())


def _replay(platform: Platform, ids: Sequence[str]) -> list[dict[str, Any]]:
    printed = platform.surveillance("replay", "--json", *ids, may_fail=True)
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def _fill(platform: Platform, bundle: str) -> Tables:
    """Fill and score the served day with the bundle that served it, and return the tables then."""
    day = str(OPENING.date())
    platform.surveillance("backfill", day, day)
    platform.surveillance("backfill", day, day, "--job", "scoring_job", "--bundle", bundle)
    return platform.tables()


def _show(made: Sequence[Check]) -> None:
    width = max(len(check.name) for check in made)
    print(f"\n{'compared':{width}}  {'rows':>8}  {'equal':>8}  verdict")
    for check in made:
        verdict = "same" if check.passed else "nothing compared" if not check.compared else "DIFFERENT"
        print(f"{check.name:{width}}  {check.compared:8,}  {check.equal:8,}  {verdict}")
        for note in check.notes:
            print(f"    {note}")
    for check in made:
        for difference in check.differences:
            print(f"DIFFERENT {check.name}: {difference}")
    print(flush=True)


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="upgrade-"))
    try:
        yield folder
    finally:
        if keep:
            print(f"kept {folder}; to clean up: git worktree remove --force {folder}/old, then delete the folder")
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Handle SIGTERM as ctrl-C, so that services, worktree and folder are removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _copy(source: Path, target: Path) -> None:
    # For root, PostgreSQL's files belong to another account, and shutil.copytree would lose that.
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


if __name__ == "__main__":
    sys.exit(main())
