"""The checks of counts accept rows that serving adds during a build, and find rows that the marts lost or repeat."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK
from surveillance_pipelines.defs.marts.project import DBT, PROJECT_DIR
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.tables import ANOMALIES, SIGNALS, output_values
from surveillance_pipelines_tests.marts.conftest import ScratchPlatform, build
from surveillance_pipelines_tests.marts.rows import AFTER_MIDNIGHT, anomaly, insert_everything, signal

# dagster-dbt 0.29 uses its context in a way that Dagster 1.13 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*AssetExecutionContext:DeprecationWarning:dagster_dbt")

CHECKS = ("every_alert_is_counted_once", "every_signal_is_counted_once")
HOUR = 3_600 * MICROSECONDS


def passes(database_url: str, target: Path) -> bool:
    """Run the checks of counts alone and return whether both pass."""
    environment = {**os.environ, **child_environment(ScratchPlatform(database_url=database_url).endpoints)}
    folders = ["--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR), "--target-path", str(target)]
    command = [str(DBT), "test", *folders, "--log-path", str(target), "--select", *CHECKS]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


def insert(database_url: str, *, committed: int) -> None:
    """Insert an alert and a signal that were committed at an instant."""
    alert = replace(anomaly("TSLA", AFTER_MIDNIGHT, "price_gap", "confirmed"), t_committed=committed)
    row = replace(signal("TSLA", AFTER_MIDNIGHT, "BUY"), t_committed=committed)
    with connect(database_url) as connection:
        for table, output in ((ANOMALIES, alert), (SIGNALS, row)):
            connection.execute(table.insert, table.parameters([output_values(output, table.columns)]))


def test_rows_committed_since_the_build_are_not_missed(database_url: str, marts_definitions: dg.Definitions, tmp_path):
    with connect(database_url) as connection:
        insert_everything(connection)
    assert all(build(database_url, marts_definitions).checks[name] for name in CHECKS)
    insert(database_url, committed=SYSTEM_CLOCK.now_us())
    assert passes(database_url, tmp_path)


@pytest.mark.slow
def test_lost_and_repeated_rows_are_found(database_url: str, marts_definitions: dg.Definitions, tmp_path):
    with connect(database_url) as connection:
        insert_everything(connection)
    build(database_url, marts_definitions)
    with connect(database_url) as connection:
        connection.execute("UPDATE marts.signal_quality SET signals = signals + 1")
    assert not passes(database_url, tmp_path)
    build(database_url, marts_definitions)
    insert(database_url, committed=SYSTEM_CLOCK.now_us() - HOUR)
    assert not passes(database_url, tmp_path)
