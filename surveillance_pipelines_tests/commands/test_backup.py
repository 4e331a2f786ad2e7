"""surveillance backup and restore."""

import uuid
from pathlib import Path

import pytest

from surveillance_pipelines.commands.dagster_home import open_instance
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.embedded.services import release, stop_services
from surveillance_pipelines.services.platform import Platform, open_platform
from surveillance_pipelines_tests.commands.conftest import Surveillance


def _runs(platform: Platform) -> list[str]:
    with open_instance(platform) as instance:
        return [run.status.value for run in instance.get_runs()]


@pytest.mark.slow
def test_backup_and_restore_say_what_they_did_and_end_unfinished_runs(
    bare: Surveillance, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dagster as dg

    assert bare("instruments", "add", "AAPL").exit_code == 0
    platform, homes = open_platform(), [own_folder / "home", own_folder / "restored"]
    try:
        with open_instance(platform) as instance:
            for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS):
                instance.add_run(dg.DagsterRun(job_name="drain_job", run_id=str(uuid.uuid4()), status=status))
        answer = bare("backup", own_folder / "copy")
        assert answer.exit_code == 0, answer.output
        assert "not included: the queues; logs" in answer.output
        assert f"wrote {own_folder / 'copy'}" in answer.output.replace("\n", "")
        monkeypatch.setenv("SURVEILLANCE_HOME", str(homes[1]))
        answer = bare("restore", own_folder / "copy")
        assert answer.exit_code == 0, answer.output
        assert "1 run of Dagster had not finished and is canceled" in answer.output
        assert sorted(_runs(open_platform())) == ["CANCELED", "SUCCESS"]
        assert "AAPL" in bare("instruments", "list").output
        again = bare("restore", own_folder / "copy")
        assert (again.exit_code, "expected no data in" in again.output) == (ExitCode.FAILED, True)
    finally:
        for home in homes:
            settings = platform.settings.model_copy(update={"surveillance_home": home})
            release(settings)
            stop_services(settings)


def test_backup_of_a_configured_database_says_how_to_back_it_up(surveillance: Surveillance, own_folder: Path) -> None:
    answer = surveillance("backup", own_folder / "copy")
    assert answer.exit_code == ExitCode.USAGE
    assert "pg_dump" in answer.output
    assert surveillance("restore", own_folder / "copy").exit_code == ExitCode.USAGE
