import pytest

from surveillance_pipelines_tests.requirements_report import (
    REQUIREMENTS_CSV,
    count_line,
    load_requirements,
    status_of,
    summary,
)

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "surveillance_pipelines_tests.requirements_report")
MARKED_TESTS = """
import pytest

@pytest.mark.requirement("ING-01", "ING-02")
def test_first():
    pass

@pytest.mark.requirement("ING-02")
def test_second():
    assert False

@pytest.mark.requirement("ING-03")
@pytest.mark.skip(reason="no queue")
def test_third():
    pass
"""


def test_requirements_csv_every_row_has_a_statement_and_known_sources():
    for row in load_requirements().values():
        assert row.item.strip(), row.id
        assert set(row.source.split()) <= {"000", "001", "002", "003", "004"}, row.id


def test_requirements_csv_repeated_id_is_refused(tmp_path):
    path = tmp_path / "requirements.csv"
    path.write_text(REQUIREMENTS_CSV.read_text() + "ING-01,again,000\n")
    with pytest.raises(ValueError, match="repeated: ING-01"):
        load_requirements(path)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([], "none"),
        (["passed", "failed", "skipped"], "failed"),
        (["skipped", "passed"], "passed"),
        (["skipped"], "skipped"),
    ],
)
def test_status_of_mixed_outcomes_takes_the_strongest(outcomes, status):
    assert status_of(outcomes) == status


def test_summary_counts_tests_by_file_and_parametrised_cases_once():
    folder = "surveillance_pipelines_tests"
    tests = [f"{folder}/market/test_yahoo.py::test_empty[1d]", f"{folder}/market/test_yahoo.py::test_empty[1m]",
             f"{folder}/market/test_yahoo.py::test_429", f"{folder}/test_settings.py::test_knob"]  # fmt: skip
    assert summary(tests) == "market/yahoo 2, settings 1"


def test_count_line_names_every_status():
    assert count_line(["passed", "none", "none"]) == "3 requirements: 1 passed, 0 failed, 0 skipped, 2 none"


@pytest.mark.requirement("BEY-17")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_requirements_option_any_worker_count_prints_status_of_each_row(pytester, workers):
    pytester.makepyfile(MARKED_TESTS)
    result = pytester.runpytest_subprocess(*PLUGIN, "--requirements", "-n", workers)
    output = result.stdout.str()
    rows = {line.split("│")[1].strip(): line for line in output.splitlines() if "│" in line}
    assert rows["ING-01"].split("│")[4].strip() == "passed"
    assert rows["ING-02"].split("│")[4].strip() == "failed"
    assert rows["ING-03"].split("│")[4].strip() == "skipped"
    assert rows["ING-04"].split("│")[4].strip() == "none"
    assert f"{len(load_requirements())} requirements: 1 passed, 1 failed, 1 skipped" in output


@pytest.mark.requirement("BEY-17")
def test_requirement_marker_unknown_id_is_a_collection_error(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.requirement('ING-99')\ndef test_it():\n    pass\n")
    result = pytester.runpytest_subprocess(*PLUGIN)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*unknown:*", "*test_it: ING-99*"])
