from datetime import date

import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.services.demo_market import HISTORY_SESSIONS, build_market
from surveillance_pipelines_tests.market.markets import minute


def test_build_market_plants_every_kind_on_the_last_day_only() -> None:
    market = build_market(("AAPL", "MSFT", "SPY", "NVDA", "AMZN", "GOOGL"), 7, ManualClock(minute(12, 0)))
    assert set(market.planted["kind"]) == set(ANOMALY_KINDS)
    assert market.history["date"].n_unique() == HISTORY_SESSIONS
    assert market.last < market.day
    assert market.served["date"].unique().to_list() == [market.day]
    assert market.day == date(2024, 2, 29)  # three ended sessions before 2024-03-06 are left to `feed simulated`


def test_demo_beside_a_configured_store_refuses(surveillance) -> None:
    answer = surveillance("demo")
    assert answer.exit_code == ExitCode.USAGE
    assert "DATABASE_URL" in answer.output


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "MODEL_STORAGE_PATH", "DAGSTER_DATABASE_URL"])
def test_demo_beside_a_registry_or_models_of_the_user_refuses(bare, monkeypatch, tmp_path, name) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    answer = bare("demo")
    assert answer.exit_code == ExitCode.USAGE
    assert name in answer.output
    assert not (tmp_path / "home").exists()


@pytest.mark.usefixtures("own_folder")
def test_demo_in_a_home_of_something_else_refuses(bare, tmp_path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    answer = bare("demo")
    assert answer.exit_code == ExitCode.USAGE
    assert (tmp_path / "home" / "thesis.txt").exists()
