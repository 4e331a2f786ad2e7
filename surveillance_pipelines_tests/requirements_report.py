"""Pytest plugin: which requirement is shown by which test, and did it pass.

A test names the rows of ``docs/requirements.csv`` that it shows with ``@pytest.mark.requirement("ING-02", ...)``. An
unknown id is a collection error. ``pytest --requirements`` prints every row with its tests and status; outcomes travel
with the test reports, so the table is the same under pytest-xdist.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

import pytest
from rich.console import Console
from rich.table import Table

Status = Literal["passed", "failed", "skipped", "none"]

REQUIREMENTS_CSV: Final = Path(__file__).resolve().parents[1] / "docs" / "requirements.csv"
STATUSES: Final[tuple[Status, ...]] = ("passed", "failed", "skipped", "none")
_STYLES: Final = {"passed": "green", "failed": "bold red", "skipped": "yellow", "none": "dim"}
_PROPERTY: Final = "requirement"
_MIN_WIDTH: Final = 120  # a pipe or a CI log reports 80 columns, too few for the statements


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row of the table.

    Attributes:
        id: id of the requirement.
        item: a short statement.
        source: numbers of the service descriptions that ask for it; empty if only this platform does.
    """

    id: str
    item: str
    source: str


@cache
def load_requirements(path: Path = REQUIREMENTS_CSV) -> dict[str, Requirement]:
    """Return the rows by id, in file order.

    Raises:
        ValueError: if an id stands twice.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = [Requirement(**row) for row in csv.DictReader(file)]
    repeated = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
    if repeated:
        raise ValueError(f"expected each id once in {path.name}, were repeated: {', '.join(repeated)}")
    return {row.id: row for row in rows}


def status_of(outcomes: Iterable[str]) -> Status:
    """Return one status for the outcomes of a row's tests: any failure fails it, any pass shows it."""
    found = set(outcomes)
    for status in ("failed", "passed", "skipped"):
        if status in found:
            return status
    return "none"


def requirement_ids(item: pytest.Item) -> list[str]:
    return [str(name) for mark in item.iter_markers("requirement") for name in mark.args]


def unknown_ids(item: pytest.Item, known: Mapping[str, Requirement]) -> list[str]:
    return [name for name in requirement_ids(item) if name not in known]


class RequirementsReport:
    """Gathers outcomes by requirement in the process that prints, and prints them."""

    def __init__(self) -> None:
        self._tests: dict[str, set[str]] = defaultdict(set)
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        names = [str(value) for key, value in report.user_properties if key == _PROPERTY]
        for name in names:
            self._tests[name].add(report.nodeid)
        # A test has three phases; only its call can pass, any of them can fail or skip.
        if report.failed or report.skipped or report.when == "call":
            self._outcomes[report.nodeid] = status_of([self._outcomes.get(report.nodeid, ""), report.outcome])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        requirements = load_requirements()
        statuses: dict[str, Status] = {name: self._status(name) for name in requirements}
        table = self._table(requirements, statuses)
        console = Console(
            width=max(_MIN_WIDTH, Console().width), force_terminal=terminalreporter.hasmarkup, highlight=False
        )
        with console.capture() as capture:
            console.print(table)
        terminalreporter.write_line("")
        terminalreporter.write(capture.get())
        terminalreporter.write_line(count_line(list(statuses.values())))

    def _status(self, name: str) -> Status:
        return status_of(self._outcomes.get(nodeid, "") for nodeid in self._tests.get(name, ()))

    def _table(self, requirements: Mapping[str, Requirement], statuses: Mapping[str, Status]) -> Table:
        table = Table(title="Requirements")
        table.add_column("id", overflow="fold", max_width=28)
        table.add_column("item", overflow="fold", ratio=3)
        table.add_column("tests", overflow="fold", ratio=2)
        table.add_column("status", no_wrap=True, min_width=7)
        for name, requirement in requirements.items():
            tests = summary(self._tests.get(name, ()))
            table.add_row(name, requirement.item, tests, statuses[name], style=_STYLES[statuses[name]])
        return table


def summary(nodeids: Iterable[str]) -> str:
    """Return the test files of some tests with how many tests of each: ``market/yahoo 2, settings 4``.

    The cases of one parametrised test count once.
    """
    tests = {nodeid.partition("[")[0] for nodeid in nodeids}
    files = Counter(_file_name(Path(test.partition("::")[0])) for test in tests)
    return ", ".join(f"{name} {count}" for name, count in sorted(files.items()))


def _file_name(path: Path) -> str:
    package = Path(__file__).parent.name
    folders = path.parent.parts[1:] if path.parts[0] == package else path.parent.parts
    return "/".join((*folders, path.stem.removeprefix("test_")))


def count_line(statuses: Sequence[Status]) -> str:
    counts = Counter(statuses)
    return f"{len(statuses)} requirements: " + ", ".join(f"{counts[status]} {status}" for status in STATUSES)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--requirements", action="store_true", help="print every requirement with its tests and status")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--requirements") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(RequirementsReport(), "requirements-report")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    items = [entry for entry in report.result or () if isinstance(entry, pytest.Item)]
    mistakes = [f"{item.nodeid}: {name}" for item in items for name in unknown_ids(item, load_requirements())]
    if mistakes:
        report.outcome = "failed"
        report.longrepr = "expected requirement ids of docs/requirements.csv, were unknown:\n  " + "\n  ".join(mistakes)
        report.result = []
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties.extend((_PROPERTY, name) for name in requirement_ids(item))
