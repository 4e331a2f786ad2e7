"""A champion that breaks its promise in the live lane is replaced once, and the previous one serves as before."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, to_us
from surveillance_pipelines.contracts.outputs import OutputRow, to_message
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import ClockRow, Known
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.lifecycle.deployments import Deployment
from surveillance_pipelines.models.bundle import CONFIG_FILE, copy_bundle, load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.services.models import activate, deployment_history
from surveillance_pipelines.services.probation import DECIDED_BY, champion_probation, judge_champion
from surveillance_pipelines.settings import Settings
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, SYMBOLS, sessions, stream
from surveillance_pipelines_tests.live_lane_fixtures import LiveLane
from surveillance_pipelines_tests.models.edited_bundles import edit_json
from surveillance_pipelines_tests.services.test_models import FakeRegistry, add_version
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle

SERVED, AFTER = 170, 60
"""Minutes that the bad champion serves, and minutes after the rollback."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of the use cases of this file: the database of a live lane, and aliases in memory."""

    lane: LiveLane
    registry: FakeRegistry
    models_path: Path
    clock: Clock = SYSTEM_CLOCK

    @property
    def settings(self) -> Settings:
        return self.lane.settings

    def connect(self) -> Any:
        return self.lane.connect()


@pytest.fixture
def stores(live_lane: LiveLane, tmp_path: Path) -> Any:
    """Three versions: v1; v2 and v3 with the same models, and thresholds an eighth and fifty times as high."""
    good = build_tiny_bundle(tmp_path / "v1")
    with live_lane.connect() as connection:
        add_version(connection, 1, tmp_path / "v1", good)
        for number, factor in ((2, 1 / 8), (3, 50.0)):
            path = copy_bundle(tmp_path / "v1", tmp_path / f"v{number}")
            add_version(connection, number, path, edit_json(path, CONFIG_FILE, partial(scale_thresholds, factor)))
    return Stores(live_lane, FakeRegistry(), tmp_path)


def scale_thresholds(factor: float, config: dict[str, Any]) -> None:
    for member in config["members"]:
        if (calibration := member["calibration"]) and calibration["rule"] == "knots":
            calibration["statistic"] = [value * factor for value in calibration["statistic"]]
        elif calibration and factor > 1:
            calibration["threshold"] = 0.999


def promote(stores: Any, version: int, *, by: str = "training_job") -> None:
    activate(stores, version, decided_by=by)


def champions(stores: Any) -> list[Deployment]:
    return [row for row in deployment_history(stores) if row.role == "champion"]


def serve(lane: LiveLane, messages: Sequence[Received]) -> None:
    lane.send(messages)
    lane.drain(window_seconds=60)


def wanted(row: dict[str, Any]) -> bool:
    """Whether a row concerns a bar that begins after the rollback."""
    return to_us_of(row["bar_start"]) > OPEN + (SERVED + 1) * MINUTE


def to_us_of(instant: str) -> int:
    from datetime import datetime

    return to_us(datetime.fromisoformat(instant))


def content(message: dict[str, Any]) -> str:
    """Return a message without what only a run knows."""
    kept = {key: value for key, value in message.items() if not key.startswith("t_") and key != "run_id"}
    return json.dumps(kept, sort_keys=True)


def outputs_of(lane: LiveLane, path: Path) -> list[OutputRow]:
    """Feed the whole inbox to a fresh engine with a bundle that has always served."""
    ensemble = Ensemble(load_bundle(path))
    engine = Engine(engine_config(lane.settings, ensemble), ensemble, sessions(), SYMBOLS)
    messages = lane.query(
        "SELECT position, message_id, body, group_id, dedup_id, sequence_number, sent_at, received_at "
        "FROM ops.inbox ORDER BY position"
    )
    clock = lane.query("SELECT after_position, queue_clock, recorded_at, symbols FROM ops.clock_rows ORDER BY id")
    outputs: list[OutputRow] = []
    for position, *rest in [*messages, (float("inf"),)]:
        while clock and clock[0][0] < position:
            _, queue_clock, recorded_at, symbols = clock.pop(0)
            outputs += engine.apply_clock(ClockRow(to_us(queue_clock), to_us(recorded_at), tuple(symbols))).outputs
        if rest:
            *texts, sent_at, received_at = rest
            message = Received(*texts, to_us(sent_at), to_us(received_at), 1, "")  # pyright: ignore[reportCallIssue]
            readings = engine.read([message])
            for symbol in engine.symbols_to_seed(readings):
                engine.seed(symbol, Seed())
            outputs += engine.process(readings, Known()).outputs
    return outputs


@pytest.mark.requirement("BEY-05")
def test_judge_champion_restores_the_previous_one_once_and_it_writes_what_it_would_have_written(
    stores: Any, live_lane: LiveLane
):
    messages = stream(SERVED + AFTER)
    begins = next(n for n, message in enumerate(messages) if _event(message) >= OPEN + SERVED * MINUTE)
    promote(stores, 1)
    promote(stores, 2)
    serve(live_lane, messages[:begins])

    probation = champion_probation(stores)
    assert probation is not None
    assert (probation.champion.name, probation.look) == ("v2", 1)
    judged = judge_champion(stores)
    assert judged is not None
    assert (judged.kept, judged.restored) == (False, "v1")
    assert judged.text.endswith(": v1 serves again")
    newest = champions(stores)[-1]
    assert (newest.version, newest.decided_by, newest.until) == ("v1", DECIDED_BY, None)
    assert newest.reasons[0].startswith("the champion v2 broke its promises on ")
    assert newest.reasons[1].startswith("alerts_per_symbol_day_lower_bound fails: ")

    serve(live_lane, messages[begins:])
    assert live_lane.column("SELECT bundle_hash FROM ops.served_bundles ORDER BY id")[-1] == newest.model_id
    assert champion_probation(stores) is None, "a restored champion has no probation"
    assert judge_champion(stores) is None
    assert len(champions(stores)) == 3

    written = [json.loads(body) for body in live_lane.column("SELECT body FROM ops.outbox")]
    expected = [json.loads(json.dumps(to_message(row))) for row in outputs_of(live_lane, stores.models_path / "v1")]
    kept = sorted(content(row) for row in written if row["type"] != "incident" and wanted(row))
    assert kept == sorted(content(row) for row in expected if row["type"] != "incident" and wanted(row))
    assert {json.loads(row)["type"] for row in kept} >= {"anomaly", "score"}
    assert {json.loads(row)["bundle_hash"] for row in kept} == {newest.model_id}


@pytest.mark.requirement("BEY-05")
def test_judge_champion_that_a_person_activated_stays_and_is_reported(stores: Any, live_lane: LiveLane):
    promote(stores, 1)
    promote(stores, 2, by="alice")
    serve(live_lane, stream(SERVED))
    judged = judge_champion(stores)
    assert judged is not None
    assert (judged.kept, judged.restored) == (False, None)
    assert "it stays, because alice activated it" in judged.text
    assert champions(stores)[-1].version == "v2"
    assert not _is_kept(judge_champion(stores, restore=False))


@pytest.mark.requirement("BEY-05")
def test_judge_champion_without_an_earlier_one_stays(stores: Any, live_lane: LiveLane):
    promote(stores, 2)
    serve(live_lane, stream(SERVED))
    judged = judge_champion(stores)
    assert judged is not None
    assert judged.text.endswith("there is no earlier champion to restore, it stays")
    assert champions(stores)[-1].version == "v2"


@pytest.mark.requirement("BEY-05")
def test_judge_champion_that_keeps_its_promises_stays(stores: Any, live_lane: LiveLane):
    promote(stores, 1)
    promote(stores, 3)
    early = judge_champion(stores)
    assert early is not None
    assert early.text == "champion v3 has 0 served bars, too few to judge"
    serve(live_lane, stream(SERVED, spikes=False))
    judged = judge_champion(stores)
    assert judged is not None
    assert judged.text.startswith("champion v3 keeps its promises on ")
    assert champions(stores)[-1].version == "v3"


def _is_kept(judged: Any) -> bool:
    return judged.kept


def _event(message: Received) -> int:
    return to_us_of(json.loads(message.body)["timestamp"])
