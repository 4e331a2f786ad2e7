"""The fallback degrades: no network is a finding, not a failed run."""

from datetime import timedelta

import dagster as dg
import pytest

from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines_tests.defs.runs import check_of, metadata_of, run_job


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way out ends at a port where nobody listens."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("YFINANCE_MAX_ATTEMPTS", "1")


@pytest.mark.requirement("ING-02", "MON-08")
def test_yahoo_bars_without_a_network_warns_and_lets_the_run_go_on(
    platform: PlatformResource,
    always_open: None,
    no_network: None,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("FALLBACK_TO_YFINANCE", "true")
    today = platform.today()
    result = run_job("yahoo_fallback_job", platform, instance, tags=range_tags(today - timedelta(days=6), today))
    check = check_of(result, "yahoo_answers_for_every_gap")
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert "check the network" in str(check.description)
    assert metadata_of(result, "yahoo_bars")["gaps"] > 0
    assert metadata_of(result, "anomalies")["bars_scored"] == 0
    with platform.connect() as connection:
        visits = connection.execute("SELECT source, rows_landed FROM surveillance.ingestion_runs").fetchall()
    assert visits == [("yfinance", 0)]


@pytest.mark.requirement("ING-02", "ENV-FALLBACK_TO_YFINANCE")
def test_yahoo_bars_switched_off_asks_nobody(
    platform: PlatformResource, always_open: None, no_network: None, instance: dg.DagsterInstance
):
    today = platform.today()
    result = run_job("market_data_job", platform, instance, tags=range_tags(today, today))
    assert metadata_of(result, "yahoo_bars")["reason"] == "disabled: FALLBACK_TO_YFINANCE is false"
    assert check_of(result, "yahoo_answers_for_every_gap").passed
