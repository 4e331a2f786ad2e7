"""Every output is made again from what is stored, and one wrong byte is named."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl
import psycopg
import pytest

from surveillance_pipelines.clock import DAY_US, to_datetime
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.models import classifier as classifier_module
from surveillance_pipelines.models.bundle import BundleError
from surveillance_pipelines.models.kinds import KINDS
from surveillance_pipelines.models.members import MemberSpec
from surveillance_pipelines.replay import replayer as replayer_module
from surveillance_pipelines.replay.comparison import Replayed
from surveillance_pipelines.replay.replayer import Replayer
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines_tests.batch.test_scoring import bars_frame
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, received, stream, ticks
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine
from surveillance_pipelines_tests.live_lane_fixtures import LiveLane
from surveillance_pipelines_tests.replay.damage import DAMAGE, LAST_FINAL, LOSSES
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle

OUTPUTS = (
    "SELECT id FROM surveillance.anomalies UNION SELECT id FROM surveillance.signals UNION "
    "SELECT id FROM surveillance.predictions UNION SELECT id FROM ops.outbox"
)


def replay(connection: psycopg.Connection, lane: LiveLane, ids: list[str], **changes: Any) -> list[Replayed]:
    lake = Lake(lane.endpoints.lake_url, lane.endpoints.lake_storage_options)
    settings: Settings = lane.settings.model_copy(update=changes)
    return list(Replayer(connection, lake, settings).replay(ids))


def replay_all(lane: LiveLane, **changes: Any) -> list[Replayed]:
    with lane.connect() as connection:
        return replay(connection, lane, sorted(lane.column(OUTPUTS)), **changes)


def failures(results: list[Replayed]) -> list[str]:
    return [f"{r.kind} {r.bar_status} {r.symbol}: {r.summary}" for r in results if r.outcome != "equal"]


def serve(lane: LiveLane, messages: list[Received]) -> None:
    """Serve messages in one run, or in several on a slow machine; the last bars stay open."""
    served = lane.column("SELECT count(*) FROM ops.ledger")[0]
    lane.send(messages)
    while lane.column("SELECT count(*) FROM ops.ledger")[0] < served + len(messages):
        lane.drain(window_seconds=3)


@contextmanager
def undone(lane: LiveLane) -> Iterator[psycopg.Connection]:
    """Open a connection whose changes end with the block."""
    with lane.connect() as connection, connection.transaction(force_rollback=True):
        yield connection


def moved(message: Received, days: int) -> Received:
    """Return a message of another day under ids of its own."""
    tick = next(tick for tick in ticks(30, spikes=False) if encode_tick(tick) == message.body)
    body = encode_tick(replace(tick, event_time=tick.event_time + days * DAY_US))
    return replace(message, body=body, dedup_id=f"{message.dedup_id}-{days}")


def history_of(symbols: tuple[str, ...], day: int, minutes: int = 40) -> pl.DataFrame:
    """Return made-up bars of another source, of a session so many days from the first."""
    bars = [
        replace(
            bar,
            bar_start=bar.bar_start + day * DAY_US,
            event_time=bar.event_time + day * DAY_US,
            source="file",
            market_peers=None,
            market_return=None,
        )
        for bar in feed(make_engine(), [stream(minutes, symbols=symbols, seed=3)]).bars
    ]
    return bars_frame(bars)


def test_every_output_of_three_runs_is_equal_byte_for_byte(live_lane: LiveLane) -> None:
    """Both restarts fall into the middle of bars; other settings than now are found by their hash."""
    messages = stream(90)
    for begin, end in ((0, 200), (200, 500), (500, len(messages))):
        serve(live_lane, messages[begin:end])
    results = replay_all(live_lane)
    assert failures(results) == []
    assert {result.kind for result in results} == {"anomaly", "incident", "signal", "score", "prediction"}
    assert {result.bar_status for result in results} == {"provisional", "final"}
    assert len(results) > 900
    assert replay_all(live_lane, signal_cooldown_seconds=7.0, tenant="another") == results


def test_history_and_sessions_that_are_corrected_later_change_no_replay(live_lane: LiveLane) -> None:
    lake = Lake(live_lane.endpoints.lake_url, live_lane.endpoints.lake_storage_options)
    before = history_of(("AAPL", "MSFT", "SPY"), -1)
    lake.write_days("bars_1m", before, days=before["date"].unique().to_list())
    serve(live_lane, stream(40))
    results = replay_all(live_lane)
    assert failures(results) == []

    corrected = before.with_columns(pl.col("close") * 1.01, pl.col("high") * 1.02)
    lake.write_days("bars_1m", corrected, days=before["date"].unique().to_list())
    with live_lane.connect() as connection:
        connection.execute("UPDATE surveillance.sessions SET opens_at = opens_at + interval '30 minutes'")
        connection.execute(
            "INSERT INTO surveillance.sessions SELECT 'XNYS', d, d + time '14:30', d + time '21:00' "
            "FROM (SELECT date '2024-03-07' + n AS d FROM generate_series(0, 3) AS n) AS days"
        )
    assert replay_all(live_lane) == results


def test_retired_bundle_scores_again_and_damage_to_it_is_reported(
    live_lane: LiveLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = live_lane.endpoints.models_path
    hashes = []
    for version, part in ((1, stream(40)[:180]), (2, stream(40)[180:])):
        hashes.append(build_tiny_bundle(models / f"v{version}", seed=6 + version))
        with live_lane.connect() as connection:
            record_version(connection, ModelVersion(
                version=version, bundle_hash=hashes[-1], path=models / f"v{version}", training_duration_seconds=1.0,
                training_dataset_size=1,
            ))  # fmt: skip
            deploy_version(connection, version, decided_by="test")
        serve(live_lane, part)
    assert set(live_lane.column("SELECT DISTINCT bundle_hash FROM surveillance.predictions")) == set(hashes)
    assert failures(replay_all(live_lane)) == []

    retired = live_lane.column("SELECT id FROM surveillance.predictions WHERE bundle_hash = %s LIMIT 1", hashes[0])
    (models / "v1" / "market_classifier.onnx").write_bytes(b"damaged")
    with live_lane.connect() as connection:
        damaged = replay(connection, live_lane, retired)[0]
    assert (damaged.outcome, "the bundle is damaged" in damaged.summary) == ("impossible", True), damaged.summary

    def refuse(spec: MemberSpec, files: Any) -> Any:
        raise BundleError(f"unknown member {spec.name}")

    monkeypatch.setitem(KINDS, "classifier", replace(KINDS["classifier"], load=refuse))
    serving = live_lane.column("SELECT id FROM surveillance.predictions WHERE bundle_hash = %s LIMIT 1", hashes[1])
    with live_lane.connect() as connection:
        unknown = replay(connection, live_lane, serving)[0]
    assert (unknown.outcome, "unknown member classifier" in unknown.summary) == ("impossible", True), unknown.summary


def test_outputs_of_models_out_of_service_are_equal(live_lane: LiveLane, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classifier fails for a while, so some rows come of the other models only; every row records it."""
    path = live_lane.endpoints.models_path / "v1"
    version = ModelVersion(
        version=1,
        bundle_hash=build_tiny_bundle(path),
        path=path,
        training_duration_seconds=1.0,
        training_dataset_size=1,
    )
    with live_lane.connect() as connection:
        record_version(connection, version)
        deploy_version(connection, 1, decided_by="test")

    run_model = classifier_module.run_model

    def failing(session: Any, inputs: Any) -> Any:
        if inputs.shape[1] == len(CORE_V1.model_columns) + 1:  # the classifier sees the autoencoder's error, too
            raise OSError("planted")
        return run_model(session, inputs)

    serve(live_lane, stream(12)[:40])
    with monkeypatch.context() as broken:
        broken.setattr(classifier_module, "run_model", failing)
        serve(live_lane, stream(12)[40:])
    assert live_lane.column("SELECT DISTINCT model FROM ops.breaker_events") == ["classifier"]
    results = replay_all(live_lane)
    assert failures(results) == []
    excluded = live_lane.query("SELECT excluded_models, count(*) FROM surveillance.predictions GROUP BY 1 ORDER BY 2")
    assert {tuple(names) for names, _ in excluded} == {(), ("classifier",)}
    assert not any("out of service" in note for result in results for note in result.notes), "nothing was searched"


def test_prediction_older_than_the_record_of_excluded_models_is_searched(
    live_lane: LiveLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_outputs_of_models_out_of_service_are_equal(live_lane, monkeypatch)
    with live_lane.connect() as connection:
        connection.execute(
            "UPDATE surveillance.predictions SET config_hash = NULL, runtime_hash = NULL, model_ids = NULL,"
            " excluded_models = NULL"
        )
    results = replay_all(live_lane)
    assert failures(results) == []
    noted = {result.kind for result in results if "scored while out of service: classifier" in result.notes}
    assert noted == {"prediction"}


def test_outputs_after_a_missed_session_are_equal(live_lane: LiveLane) -> None:
    """The first session is served, the second only landed in the lake, the third served again."""
    lake = Lake(live_lane.endpoints.lake_url, live_lane.endpoints.lake_storage_options)
    missed = history_of(("AAPL", "MSFT", "SPY"), 0)
    lake.write_days("bars_1m", missed, days=missed["date"].unique().to_list())
    day = [received(tick, i) for i, tick in enumerate(ticks(30, spikes=False))]
    serve(live_lane, [moved(message, -1) for message in day])
    serve(live_lane, [moved(message, 1) for message in day])
    assert live_lane.column("SELECT count(*) FROM ops.lane_seeds") == [6]
    results = replay_all(live_lane)
    assert failures(results) == []
    assert len(results) > 300


def test_running_totals_are_resolved_again(live_lane: LiveLane) -> None:
    totals: dict[str, float] = {}
    messages = []
    for number, tick in enumerate(ticks(25, spikes=False)):
        totals[tick.symbol] = totals.get(tick.symbol, 1000.0) + tick.volume
        messages.append(received(replace(tick, volume=totals[tick.symbol]), number))
    lane = replace(live_lane, settings=live_lane.settings.model_copy(update={"sqs_volume_is_cumulative": True}))
    serve(lane, messages[:100])
    serve(lane, messages[100:])
    assert failures(replay_all(lane)) == []


def test_one_wrong_byte_is_named(live_lane: LiveLane) -> None:
    serve(live_lane, stream(40))
    for damage in DAMAGE:
        with undone(live_lane) as connection:
            id_ = live_lane.column(damage.output)[0]
            assert connection.execute(damage.done.encode(), {"id": id_}).rowcount == 1, damage.what
            result = replay(connection, live_lane, [id_])[0]
        assert (result.outcome, damage.message in result.summary) == ("different", True), (
            f"{damage.what}: {result.summary}"
        )
    assert failures(replay_all(live_lane)) == []


def test_what_is_gone_is_said_and_no_difference(live_lane: LiveLane) -> None:
    serve(live_lane, stream(12))
    for loss in LOSSES:
        with undone(live_lane) as connection:
            id_ = live_lane.column(loss.output)[0]
            assert connection.execute(loss.done.encode()).rowcount > 0, loss.what
            result = replay(connection, live_lane, [id_])[0]
        assert (result.outcome, loss.message in result.summary) == ("impossible", True), (
            f"{loss.what}: {result.summary}"
        )
    with undone(live_lane) as connection:
        connection.execute("DELETE FROM ops.inbox")  # as after retention: the bars are still there
        results = replay(connection, live_lane, ["nothing", *live_lane.column(LAST_FINAL)])
    assert [result.outcome for result in results] == ["impossible", "equal"]


def test_other_runtime_is_equivalent_and_never_equal(live_lane: LiveLane, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(live_lane, stream(12))
    monkeypatch.setattr(replayer_module, "runtime_hash", lambda: "another")
    monkeypatch.setattr(replayer_module, "runtime_description", lambda: {"numpy": "0.1"})
    results = replay_all(live_lane)
    assert {result.outcome for result in results} == {"equivalent"}
    assert {result.summary for result in results} == {"equivalent within 1e-06"}
    assert {result.notes for result in results} == {("scored on another runtime: numpy changed",)}
    with undone(live_lane) as connection:
        id_ = live_lane.column(LAST_FINAL)[0]
        connection.execute("UPDATE surveillance.predictions SET anomaly_score = anomaly_score + 1e-5")
        assert replay(connection, live_lane, [id_])[0].outcome == "different"


def test_sample_is_the_same_for_one_seed_and_begins_at_its_day(live_lane: LiveLane) -> None:
    serve(live_lane, stream(12))
    with live_lane.connect() as connection:
        lake = Lake(live_lane.endpoints.lake_url)
        drawn = Replayer(connection, lake, live_lane.settings)
        assert drawn.sample(9, 1) == drawn.sample(9, 1) != drawn.sample(9, 2)
        newest = drawn.newest_day()
        assert newest == to_datetime(OPEN + MINUTE).date()
        assert newest is not None
        assert len(drawn.sample(9, 1, since=newest)) == 9
        assert drawn.sample(9, 1, since=newest + timedelta(days=1)) == []


def test_outputs_outside_the_training_data_are_marked_and_replayed(live_lane: LiveLane) -> None:
    path = live_lane.settings.models_path / "v1"
    live_lane.promote(build_tiny_bundle(path), path)
    with live_lane.connect() as connection:
        save_sessions(connection, build_sessions("24/7", date(2024, 2, 25), date(2024, 3, 15)))
        register_instruments(connection, ["BTC-USD"], "24/7", "test")
    serve(live_lane, stream(90, symbols=("BTC-USD", "MSFT")))
    marked = live_lane.query(
        "SELECT DISTINCT symbol, explanation ->> 'outside_training' IS NOT NULL FROM surveillance.anomalies "
        "UNION SELECT symbol, explanation ->> 'outside_training' IS NOT NULL FROM surveillance.signals"
    )
    assert ("BTC-USD", True) in marked
    assert set(marked) <= {("BTC-USD", True), ("MSFT", False)}
    assert failures(replay_all(live_lane)) == []
