"""The commands that ``doctor`` names for lost files of the lake, as processes of ``surveillance``."""

import shlex
from pathlib import Path

import pytest

from surveillance_pipelines.services.doctor import check_lake
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines_tests.commands.conftest import Surveillance
from surveillance_pipelines_tests.services.test_lake_repairs import (
    DAYS,
    TABLES,
    commands,
    fill,
    in_milliseconds,
    lose,
    rows,
)


@pytest.mark.slow
def test_commands_of_doctor_repair_all_tables(
    surveillance: Surveillance, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FALLBACK_TO_YFINANCE", "false")
    monkeypatch.setenv("SYMBOLS", "AAPL,MSFT")
    fill(platform, tmp_path)
    for options in ([], ["--job", "scoring_job"]):
        answer = surveillance("backfill", *DAYS, *options)
        assert answer.exit_code == 0, answer.output
    before = {table: in_milliseconds(rows(platform.lake, table)) for table in TABLES}
    for place, table in enumerate(TABLES):
        lose(platform, table, cut=place % 2 == 1)
    found = commands(platform)
    assert next(iter(found)) == "bars_landed"
    for command in dict.fromkeys(command for of_table in found.values() for command in of_table):
        answer = surveillance(*shlex.split(command)[1:])
        assert answer.exit_code == 0, answer.output
    assert [fact.verdict for fact in check_lake(platform)] == ["ok"]
    for table in TABLES:
        assert in_milliseconds(rows(platform.lake, table)).equals(before[table]), table
