"""What batch scoring shows of bars that the champion was not trained on."""

from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.models.bundle import recorded_hash
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines_tests.defs.conftest import FIRST, LAST
from surveillance_pipelines_tests.defs.runs import metadata_of, run_job
from surveillance_pipelines_tests.models.edited_bundles import write_v2
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle


def promote(platform: PlatformResource, path: Path, bundle_hash: str) -> None:
    model = ModelVersion(
        version=1, bundle_hash=bundle_hash, path=path, training_duration_seconds=1.0, training_dataset_size=1
    )
    with connect(platform.endpoints.database_url) as connection:
        record_version(connection, model)
        deploy_version(connection, 1, decided_by="test")


@pytest.fixture
def with_coin(platform: PlatformResource, simulated_bars: pl.DataFrame, simulated_sessions: pl.DataFrame) -> None:
    """Landed bars of a stock and of a coin that jumps by a tenth and back every hour."""
    stock = simulated_bars.filter(pl.col("symbol") == "AAPL")
    jump = pl.when(pl.col("bar_start").dt.minute() == 15).then(1.1).otherwise(1.0)
    coin = stock.with_columns(
        *((pl.col(name) * jump).alias(name) for name in ("open", "high", "low", "close")), symbol=pl.lit("BTC-USD")
    )
    platform.lake.append("bars_landed", pl.concat([stock, coin]), batch_id="mixed")
    with connect(platform.endpoints.database_url) as connection:
        register_instruments(connection, ("AAPL",), "XNYS", "test")
        register_instruments(connection, ("BTC-USD",), "24/7", "test")
        save_sessions(connection, simulated_sessions)
        save_sessions(connection, build_sessions("24/7", date(2024, 2, 1), date(2024, 4, 1)))


def test_scoring_job_of_a_coin_with_a_champion_of_stocks_says_so_with_the_number_of_alerts(
    platform: PlatformResource, with_coin: None, instance: dg.DagsterInstance, tmp_path: Path
):
    promote(platform, tmp_path / "v1", build_tiny_bundle(tmp_path / "v1"))
    days = range_tags(FIRST, LAST)
    run_job("market_data_job", platform, instance, tags=days)
    result = run_job("scoring_job", platform, instance, tags=days)
    with platform.connect() as connection:
        marked = connection.execute(
            "SELECT symbol, explanation -> 'outside_training' FROM surveillance.anomalies"
        ).fetchall()
    outside = {"symbol": "BTC-USD", "calendar": "24/7", "asset_class": "crypto"}
    alerts = sum(symbol == "BTC-USD" for symbol, _ in marked)
    assert alerts > 10
    assert all(named == (outside if symbol == "BTC-USD" else None) for symbol, named in marked)
    for asset in ("scores", "anomalies"):
        figures = metadata_of(result, asset)
        assert figures["training_match"] == "1 of 2 symbols are outside the training data"
        assert figures["alerts_outside_training"] == alerts
        (row,) = (record.data for record in figures["outside_training"].records)
        reason = "symbol, calendar 24/7, asset class crypto"
        assert row == {"symbol": "BTC-USD", "outside": reason, "bars": 3 * 390, "alerts": alerts}
    latest = [record.data for record in metadata_of(result, "anomalies")["latest_alerts"].records]
    assert [row["outside_training"] for row in latest] == [row["symbol"] == "BTC-USD" for row in latest]
    assert [row["bar_start"] for row in latest] == sorted((row["bar_start"] for row in latest), reverse=True)


def test_scoring_job_with_an_earlier_bundle_says_that_its_training_data_is_not_recorded(
    platform: PlatformResource, with_coin: None, instance: dg.DagsterInstance, tmp_path: Path
):
    path = write_v2(tmp_path / "v2")
    promote(platform, path, recorded_hash(path))
    run_job("market_data_job", platform, instance, tags=range_tags(FIRST, FIRST))
    result = run_job("scoring_job", platform, instance, tags=range_tags(FIRST, FIRST))
    figures = metadata_of(result, "anomalies")
    assert figures["training_match"] == "not known: the bundle does not record symbol, calendar, asset class"
    assert "alerts_outside_training" not in figures
