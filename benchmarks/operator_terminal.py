"""A terminal of the scripted day: commands of one home with expected exit codes and phrases, and a transcript."""

import itertools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.upgrade_release import Release

_INHERITED: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "USER")
"""Variables of the caller that commands get. Others could be settings, and change the day."""
_LONGEST: Final = 600.0
_PROGRESS_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 90.0
_NEVER: Final = ("Traceback (most recent call last)", "NoneType", " object at 0x", "Exception(", "Error(")
"""Phrases of a defect, which no output may contain."""
_USER_OF_URL: Final = re.compile(r"(?<=://)[^/\s@:]*:(?!\*+@)[^/\s@]+(?=@)")
_SECRETS: Final = {"embedded/postgres.json": "password", "embedded/queue_credentials.json": "secret_access_key"}
"""File of a home → field with a secret."""
_ROW: Final = "│┃"
"""Characters that begin a row of a table."""
_SUGGESTION: Final = re.compile(r"`(surveillance [^`]+)`")
MASK: Final = "********"


class DayError(RuntimeError):
    """The day cannot continue, because a later step needs the result of this one."""


@dataclass(frozen=True)
class Shown:
    """What one command printed.

    Attributes:
        code: exit code; negative for a signal.
        text: output and errors in the order in which they appeared.
        seconds: duration.
    """

    code: int
    text: str
    seconds: float

    def suggested(self, word: str) -> list[str]:
        """Return the arguments of the first suggested command that contains a word.

        Raises:
            DayError: if no command in the output contains it.
        """
        for command in suggestions(self.text):
            if word in command:
                return command.split()[1:]
        raise DayError(f"expected a suggested command with {word!r}, got {suggestions(self.text)}")


def suggestions(text: str) -> list[str]:
    """Return the commands that an output suggests."""
    return _SUGGESTION.findall(unwrapped(text))


def unwrapped(text: str) -> str:
    """Return a text in one line; each column of a table is read from top to bottom, so that no cell is broken."""
    tables = itertools.groupby(text.splitlines(), key=lambda line: line.startswith(tuple(_ROW)))
    return " ".join(" ".join(_cells(list(lines)) if is_row else " ".join(lines) for is_row, lines in tables).split())


def _cells(rows: Sequence[str]) -> str:
    """Return the cells of a table, column by column."""
    columns = itertools.zip_longest(*(re.split("[│┃]", row.strip(_ROW)) for row in rows), fillvalue="")
    return " ".join(cell.strip() for column in columns for cell in column)


@dataclass
class Transcript:
    """The record of the day: all commands with exit code, seconds and output, and every unmet expectation.

    Attributes:
        path: file that is written after each command.
        steps: number of commands that have ended.
        expectations: number of exit codes and phrases that were compared.
        problems: unmet expectations.
        suggested: commands that outputs suggest.
    """

    path: Path
    steps: int = 0
    expectations: int = 0
    problems: list[str] = field(default_factory=list)
    suggested: set[str] = field(default_factory=set)
    _part: str = ""

    def part(self, title: str) -> None:
        """Begin a part of the day."""
        self._part = title
        print(f"\n== {title}", flush=True)
        self._write(f"\n{'=' * 100}\n{title}\n{'=' * 100}\n")

    def note(self, text: str) -> None:
        """Record what the operator does besides commands."""
        print(f"   # {text}", flush=True)
        self._write(f"\n# {text}\n")

    def expect(self, condition: bool, problem: str) -> None:
        """Count an expectation, and record the problem if it is not met."""
        self.expectations += 1
        if not condition:
            self.fail(problem)

    def fail(self, problem: str) -> None:
        """Record a problem."""
        self.problems.append(f"{self._part}: {problem}")
        print(f"   NOT AS EXPECTED: {problem}", flush=True)
        self._write(f"NOT AS EXPECTED: {problem}\n")

    def record(self, command: str, shown: Shown) -> None:
        """Write a command that has ended."""
        self.steps += 1
        self.suggested.update(suggestions(shown.text))
        print(f"   exit {shown.code} after {shown.seconds:.1f} s", flush=True)
        self._write(f"\n$ {command}\n{shown.text}[exit {shown.code} after {shown.seconds:.1f} s]\n")

    def _write(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)


class Terminal:
    """A working folder with a ``.env`` file, in which an operator runs commands of one release on one home."""

    def __init__(self, folder: Path, release: Release, transcript: Transcript) -> None:
        self.folder: Final = folder
        self.home: Final = folder / "home"
        self.transcript: Final = transcript
        self._release: Final = release
        folder.mkdir(parents=True, exist_ok=True)

    def with_release(self, release: Release) -> "Terminal":
        """Return a terminal on the same home whose commands are of another release."""
        return Terminal(self.folder, release, self.transcript)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write ``.env``."""
        lines = [f"{name}={value}" for name, value in settings.items()]
        (self.folder / ".env").write_text("".join(f"{line}\n" for line in lines))
        self.transcript.note(f".env: {' '.join(lines)}")

    def run(
        self, *arguments: str, code: int = 0, says: Sequence[str] = (), never: Sequence[str] = (), note: str = ""
    ) -> Shown:
        """Run a command to its end and compare its exit code and output with what is expected.

        Args:
            arguments: arguments of ``surveillance``.
            code: expected exit code.
            says: phrases of which each must appear; differences of white space do not count.
            never: phrases that must not appear.
            note: why the operator runs it.
        """
        if note:
            self.transcript.note(note)
        with self.start(*arguments) as session:
            shown = session.wait(_LONGEST)
        self._compare(arguments, shown, code, says, never)
        return shown

    @contextmanager
    def serving(self, *arguments: str, says: Sequence[str] = ()) -> Iterator["Session"]:
        """Run ``surveillance up`` for a ``with`` block: wait for the address of its UI, and end it with ctrl-C."""
        command = ("up", *arguments)
        with self.start(*command) as session:
            if (address := session.wait_for(r"http://\S+", _LONGEST)) is None:
                shown = session.wait(_STOP_SECONDS)
                self._compare(command, shown, 0, says, ())
                raise DayError(f"expected the address of the UI, `surveillance up` printed:\n{shown.text}")
            print(f"   the UI answers at {address}", flush=True)
            yield session
            session.interrupt()
            shown = session.wait(_STOP_SECONDS)
        self._compare(command, shown, 0, ("stopping", *says), ())

    @contextmanager
    def start(self, *arguments: str) -> Iterator["Session"]:
        """Start a command for a ``with`` block, which kills it at its end if it still runs."""
        print(f"   $ surveillance {' '.join(arguments)}", flush=True)
        session = Session(
            subprocess.Popen(
                [*self._release.command, *arguments],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        )
        try:
            yield session
        finally:
            session.kill()

    def secrets(self) -> list[str]:
        """Return the passwords and keys of all homes below the working folder."""
        found = []
        for place, name in _SECRETS.items():
            files = [*self.folder.glob(f"*/{place}"), *self.folder.glob(f"*/*/{place}")]
            found += [json.loads(file.read_text())[name] for file in files]
        return found

    def _compare(
        self, arguments: Sequence[str], shown: Shown, code: int, says: Sequence[str], never: Sequence[str]
    ) -> None:
        command = f"surveillance {' '.join(arguments)}"
        masked, leaks = mask(shown.text, self.secrets())
        self.transcript.record(command, Shown(shown.code, masked, shown.seconds))
        expect = self.transcript.expect
        expect(leaks == 0, f"`{command}` printed {leaks} secrets")
        expect(shown.code == code, f"`{command}`: expected exit code {code}, got {shown.code}")
        found = "".join(unwrapped(shown.text).split())  # a cell also breaks after a hyphen, and in a long word
        for phrase in says:
            expect("".join(phrase.split()) in found, f"`{command}`: expected {phrase!r}")
        for phrase in (*_NEVER, *never):
            expect(phrase not in shown.text, f"`{command}`: expected no {phrase!r}")

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {
            **kept, "PYTHONPATH": str(self._release.root), "SURVEILLANCE_HOME": str(self.home), "TERM": "dumb",
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }  # fmt: skip


class Session:
    """One running command; a thread reads its output."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process: Final = process
        self._began: Final = time.monotonic()
        self._lines: Final[list[str]] = []
        self._reader: Final = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> Shown:
        """Wait until the command has ended, printing progress; kill it after a number of seconds."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            self._pause()
        self.kill()
        return Shown(self._process.returncode, "".join(self._lines), time.monotonic() - self._began)

    def wait_for(self, pattern: str, seconds: float) -> str | None:
        """Wait until the output contains a pattern and return the match; None if the command ends before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self._process.poll() is not None
            if found := re.search(pattern, "".join(self._lines)):
                return found[0]
            if ended:
                return None
            self._pause()
        return None

    def interrupt(self) -> None:
        """Press ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the command if it still runs, and read the rest of its output."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(_STOP_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            self._lines.extend(output)

    def _pause(self) -> None:
        """Wait for a moment; print the last line of the output from time to time."""
        before, now = time.monotonic() - self._began, time.monotonic() - self._began + 0.2
        time.sleep(0.2)
        if int(now / _PROGRESS_SECONDS) > int(before / _PROGRESS_SECONDS):
            last = self._lines[-1].strip() if self._lines else ""
            print(f"     {now:.0f} s so far: {last}", flush=True)


def mask(text: str, secrets: Sequence[str]) -> tuple[str, int]:
    """Return a text without secrets and without passwords in URLs, and how many it contained."""
    leaks = 0
    for secret in secrets:
        leaks += text.count(secret)
        text = text.replace(secret, MASK)
    masked, urls = _USER_OF_URL.subn(MASK, text)
    return masked, leaks + urls
