"""The scripted day sees what it must see: missing phrases, secrets, tracebacks, wrong exit codes and suggestions."""

from pathlib import Path

import pytest

from benchmarks.harness import REPOSITORY
from benchmarks.operator_files import damage
from benchmarks.operator_suggestions import refusals
from benchmarks.operator_terminal import MASK, Terminal, Transcript, mask, suggestions, unwrapped
from benchmarks.upgrade_release import Release
from benchmarks.worktree import UnknownCommitError, commit_before

TABLE = """state
┏━━━━━━━━┳━━━━━━┳━━━━━━━━━━━━━━━━━━━━━┓
┃ part   ┃      ┃ state               ┃
┡━━━━━━━━╇━━━━━━╇━━━━━━━━━━━━━━━━━━━━━┩
│ lake   │ fail │ lost: `surveillance │
│        │      │ backfill A B`       │
└────────┴──────┴─────────────────────┘
next: `surveillance train`
"""


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A terminal of this checkout; its command is a shell command instead of ``surveillance``."""

    class Shell(Release):
        @property
        def command(self) -> list[str]:
            return ["sh", "-c"]

    return Terminal(tmp_path / "day", Shell("shell", REPOSITORY), Transcript(tmp_path / "transcript.txt"))


def test_cells_of_tables_are_read_in_one_piece_and_so_are_suggested_commands():
    assert "lost: `surveillance backfill A B`" in unwrapped(TABLE)
    assert suggestions(TABLE) == ["surveillance backfill A B", "surveillance train"]


def test_commands_that_do_not_exist_are_refused():
    good = {
        "surveillance backfill FIRST LAST --job scoring_job",
        "surveillance alerts show ID",
        "surveillance --debug …",
    }
    bad = {"surveillance backfil FIRST LAST", "surveillance backfill FIRST LAST --jobs x"}
    assert set(refusals(good | bad)) == bad


def test_secrets_and_passwords_of_urls_are_masked_and_counted():
    text = "postgresql://u:***@h/db s3cret postgresql://u:hunter2@h/db"
    assert mask(text, ["s3cret"]) == (f"postgresql://u:***@h/db {MASK} postgresql://{MASK}@h/db", 2)


@pytest.mark.parametrize(
    ("script", "code", "says", "problem"),
    [
        ("echo done; exit 1", 0, (), "expected exit code 0, got 1"),
        ("echo done", 0, ("degraded: nothing",), "expected 'degraded: nothing'"),
        ("echo 'Traceback (most recent call last)'", 0, (), "expected no 'Traceback (most recent call last)'"),
    ],
)
def test_unmet_expectation_is_a_problem_and_in_the_transcript(terminal, script, code, says, problem):
    terminal.run(script, code=code, says=says)
    assert [found.endswith(problem) for found in terminal.transcript.problems] == [True]
    assert f"NOT AS EXPECTED: `surveillance {script}`: {problem}" in terminal.transcript.path.read_text()


def test_met_expectations_are_no_problem_and_the_transcript_has_the_output(terminal):
    shown = terminal.run("echo 'all   is well'; exit 3", code=3, says=("all is well",))
    assert (shown.code, terminal.transcript.problems) == (3, [])
    assert "all   is well\n[exit 3 after" in terminal.transcript.path.read_text()


def test_secret_of_the_home_in_an_output_is_a_problem_and_not_in_the_transcript(terminal):
    terminal.home.joinpath("embedded").mkdir(parents=True)
    (terminal.home / "embedded" / "postgres.json").write_text('{"password": "hunter2"}')
    terminal.run("cat home/embedded/postgres.json")
    assert "printed 1 secrets" in terminal.transcript.problems[0]
    assert "hunter2" not in terminal.transcript.path.read_text()


def test_damaged_file_has_its_size_and_other_content(tmp_path):
    file = tmp_path / "bars.parquet"
    file.write_bytes(b"PAR1" * 10)
    damage(file)
    assert file.read_bytes() == b"PAR1" * 5 + b"\0" * 20


def test_commit_before_a_path_that_no_commit_changed_is_unknown():
    with pytest.raises(UnknownCommitError, match="expected a commit before the newest one of no/such/path"):
        commit_before(REPOSITORY, "no/such/path")
