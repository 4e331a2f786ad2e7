"""Train, judge, promote; and what happens when the gate says no."""

from datetime import date
from typing import Any

import dagster as dg
import polars as pl
import pytest

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.models.schedules import retraining_schedules
from surveillance_pipelines.defs.models.sensors import model_drift_sensor
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.lifecycle.deployments import Scope
from surveillance_pipelines.market.simulator import default_market, simulate
from surveillance_pipelines.models.bundle import CONFIG_FILE, copy_bundle
from surveillance_pipelines.stores.deployments import champion, deploy_version, open_deployments
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.model_store import list_versions
from surveillance_pipelines.stores.predictors import load_stored
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines_tests.defs.conftest import FIRST, LAST
from surveillance_pipelines_tests.defs.runs import check_of, metadata_of, run_job
from surveillance_pipelines_tests.models.edited_bundles import edit_json
from surveillance_pipelines_tests.services.test_models import add_version


@pytest.mark.requirement("TRN-02", "TRN-04", "TRN-07", "TRN-08", "TRN-12")
def test_training_job_promotes_a_bundle_that_scores_the_days(
    with_registry: PlatformResource, landed: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MODEL_QUALITY_THRESHOLD_ACCURACY", "0.3")
    days = range_tags(FIRST, LAST)
    run_job("market_data_job", with_registry, instance, tags=days)

    trained = run_job("training_job", with_registry, instance)
    with with_registry.connect() as connection:
        active = champion(connection)
    assert active is not None
    assert load_stored(with_registry.settings, active).bundle_hash == active.bundle_hash
    assert with_registry.registry.aliases().get("champion") == 1
    figures = metadata_of(trained, "model_evaluation")
    assert "![roc_pr](data:image/png;base64," in figures["roc_pr"]
    kinds = ["picture" if "data:image" in str(value) else "figure" for value in figures.values()]
    pictures = kinds.count("picture")
    assert kinds == ["figure", *["picture"] * pictures, *["figure"] * (len(kinds) - 1 - pictures)], "pictures first"
    seconds = metadata_of(trained, "market_autoencoder")["seconds_for_all_models"]
    assert seconds == round(seconds, 1) > 0
    assert check_of(trained, "registered_version_has_its_role").passed
    assert metadata_of(trained, "champion")["role"] == "champion"
    assert metadata_of(trained, "model_comparison")["requirement"] == "none"

    scored = run_job("scoring_job", with_registry, instance, tags=days)
    assert metadata_of(scored, "scores")["bundle_hash"] == active.bundle_hash
    alerts = metadata_of(scored, "anomalies")
    assert alerts["new_rows"] > 0
    assert alerts["training_match"] == "all symbols, calendars and asset classes are in the training data"
    assert all(len(record.data["id"]) == 64 for record in alerts["latest_alerts"].records)
    again = run_job("scoring_job", with_registry, instance, tags=days)
    assert metadata_of(again, "anomalies")["new_rows"] == 0, "expected the same rows to have the same ids"
    assert_drift_sensor_looks_once(with_registry, instance)


@pytest.mark.slow
@pytest.mark.requirement("TRN-04", "TRN-08")
def test_training_job_of_one_symbol_promotes_a_bundle_without_the_kinds_that_need_another(
    with_registry: PlatformResource,
    simulated_sessions: pl.DataFrame,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SYMBOLS", "AAPL")
    monkeypatch.setenv("MODEL_QUALITY_THRESHOLD_ACCURACY", "0.3")
    sessions = simulated_sessions.filter(pl.col("session_date").is_between(FIRST, date(2024, 3, 13)))
    bars = simulate(default_market(("AAPL",), seed=5), sessions)
    with with_registry.connect() as connection:
        register_instruments(connection, ("AAPL",), "XNYS", "test")
        save_sessions(connection, simulated_sessions)
    with_registry.lake.append("bars_landed", bars, batch_id="simulated")
    days = range_tags(FIRST, date(2024, 3, 13))
    run_job("market_data_job", with_registry, instance, tags=days)

    trained = run_job("training_job", with_registry, instance)
    with with_registry.connect() as connection:
        active = champion(connection)
    assert active is not None
    labels = load_stored(with_registry.settings, active).member("classifier").output.labels
    assert set(labels) == {"normal", *ANOMALY_KINDS} - {"cross_symbol_divergence"}
    evaluated = metadata_of(trained, "model_evaluation")
    reason = "needs another symbol in the same minutes, the bars have one symbol"
    assert evaluated["kinds_left_out"] == {"cross_symbol_divergence": reason}
    assert metadata_of(trained, "training_set")["params"]["kinds_left_out"] == evaluated["kinds_left_out"]
    tested = {record.data["label"] for record in evaluated["by_label"].records}
    assert tested | set(evaluated["kinds_not_tested"]) == set(labels)
    scored = run_job("scoring_job", with_registry, instance, tags=days)
    assert metadata_of(scored, "scores")["bundle_hash"] == active.bundle_hash
    assert metadata_of(scored, "scores")["dagster/row_count"] == bars.height


@pytest.mark.requirement("TRN-08", "BEY-05")
def test_training_job_keeps_a_bundle_that_is_not_better_as_a_shadow(
    with_registry: PlatformResource,
    landed: Lake,
    simulated_bars: pl.DataFrame,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MODEL_QUALITY_THRESHOLD_ACCURACY", "0.3")
    landed.write_days("bars_1m", simulated_bars, days=landed.days("bars_landed"))
    run_job("training_job", with_registry, instance)
    champion_path = with_registry.settings.models_path / "v2"
    copy_bundle(with_registry.settings.models_path / "v1", champion_path)
    saved_again = edit_json(champion_path, CONFIG_FILE, lambda config: config.update(note="the same models"))
    with with_registry.connect() as connection:
        add_version(connection, 2, champion_path, saved_again)
        deploy_version(connection, 2, decided_by="test")
    second = run_job("training_job", with_registry, instance)

    compared = metadata_of(second, "model_comparison")
    assert (compared["requirement"], compared["champion"]) == ("better", "v2")
    assert compared["challenger_recall"] == compared["champion_recall"] > 0.3
    assert compared["events"] >= 1_600
    kinds = [record.data for record in compared["by_kind"].records]
    assert sum(row["events"] for row in kinds) == compared["events"]
    assert not check_of(second, "challenger_may_replace_the_champion").passed
    done = metadata_of(second, "champion")
    assert (done["role"], done["replaces"], done["champion"]) == ("shadow", "nothing", "v2")
    assert check_of(second, "registered_version_has_its_role").passed
    with with_registry.connect() as connection:
        rows = open_deployments(connection, Scope())
    assert {row.version: row.role for row in rows} == {"v1": "retired", "v2": "champion", "v3": "shadow"}
    shadow = next(row for row in rows if row.role == "shadow")
    assert shadow.decided_by == "training_job"
    assert shadow.reasons[1] == "must be better than the champion v2"
    assert any(reason.startswith("gain_over_champion_p_value fails: ") for reason in shadow.reasons)


def assert_drift_sensor_looks_once(platform: PlatformResource, instance: dg.DagsterInstance) -> None:
    first: Any = model_drift_sensor(dg.build_sensor_context(instance=instance, resources={"platform": platform}))
    assert "features drifted from" in str(first.skip_reason.skip_message) or first.run_requests
    context = dg.build_sensor_context(instance=instance, cursor=first.cursor, resources={"platform": platform})
    second: Any = model_drift_sensor(context)
    assert second.skip_message == "no new features since the last comparison with champion v1"


def test_model_drift_sensor_without_a_champion_says_so(platform: PlatformResource, instance: dg.DagsterInstance):
    outcome: Any = model_drift_sensor(dg.build_sensor_context(instance=instance, resources={"platform": platform}))
    assert outcome.skip_message == "no champion yet: run training_job"


@pytest.mark.requirement("TRN-04", "NUM-002-accuracy-0.75")
def test_training_job_below_the_threshold_leaves_the_champion_alone(
    with_registry: PlatformResource,
    landed: Lake,
    simulated_bars: pl.DataFrame,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MODEL_QUALITY_THRESHOLD_ACCURACY", "1.0")
    landed.write_days("bars_1m", simulated_bars, days=landed.days("bars_landed"))
    result = run_job("training_job", with_registry, instance, raise_on_error=False)
    assert not result.success
    assert not check_of(result, "accuracy_reaches_the_threshold").passed
    assert dg.AssetKey("champion") not in {event.asset_key for event in result.get_asset_materialization_events()}
    with with_registry.connect() as connection:
        assert [(version.version, version.is_active) for version in list_versions(connection)] == [("v1", False)]
    assert with_registry.registry.aliases().get("champion") is None


@pytest.mark.requirement("TRN-02", "NUM-002-min-rows-1000")
def test_training_job_with_too_few_rows_trains_nothing(
    with_registry: PlatformResource,
    landed: Lake,
    simulated_bars: pl.DataFrame,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MODEL_TRAINING_MIN_DATASET_SIZE", "1000000")
    landed.write_days("bars_1m", simulated_bars, days=landed.days("bars_landed"))
    result = run_job("training_job", with_registry, instance, raise_on_error=False)
    materialized = {event.asset_key for event in result.get_asset_materialization_events()}
    assert materialized == {dg.AssetKey("training_set")}


@pytest.mark.requirement("TRN-03", "NUM-002-training-1800s")
def test_training_job_past_its_time_limit_keeps_no_model(
    with_registry: PlatformResource,
    landed: Lake,
    simulated_bars: pl.DataFrame,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MODEL_TRAINING_MAX_DURATION_SECONDS", "0.001")
    landed.write_days("bars_1m", simulated_bars, days=landed.days("bars_landed"))
    result = run_job("training_job", with_registry, instance, raise_on_error=False)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "MODEL_TRAINING_MAX_DURATION_SECONDS" in str(failure.event_specific_data)
    assert list(with_registry.settings.models_path.glob("v*")) == []


@pytest.mark.requirement("TRN-05", "ENV-MODEL_RETRAINING_SCHEDULE")
def test_retraining_schedules_follow_the_setting():
    assert retraining_schedules("") == []
    (schedule,) = retraining_schedules("0 3 * * 6")
    assert schedule.cron_schedule == "0 3 * * 6"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_retraining_schedules_with_a_broken_cron_line_refuse_to_load():
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="cron"):
        retraining_schedules("every saturday")
