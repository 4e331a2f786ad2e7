"""``kill -9`` at every step boundary changes nothing in the set of effects."""

import json
import os
import subprocess
import sys
from typing import get_args

import pytest

from surveillance_pipelines.contracts.outputs import SCHEMA_VERSION
from surveillance_pipelines.runtime.shell import Step
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines_tests.engine.market import stream

STEPS = get_args(Step)


@pytest.fixture
def killed(live_lane):
    """A lane whose run was killed once after each step, then served to the end."""
    live_lane.send(stream(75))
    knobs = {name: str(getattr(live_lane.settings, name)) for name in
             ("lease_seconds", "drain_idle_seconds", "bar_close_grace_seconds", "publish_scores")}  # fmt: skip
    environment = {name.upper(): value for name, value in knobs.items()} | {
        "SYMBOLS": ",".join(live_lane.settings.symbols),
        **child_environment(live_lane.endpoints),
    }
    done = subprocess.run(
        [sys.executable, "-m", "surveillance_pipelines_tests.runtime.killed_drain", *STEPS],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line for line in done.stdout.splitlines() if line.endswith(" 9")] == [f"{step} 9" for step in STEPS]
    return live_lane


@pytest.mark.requirement("ING-01", "BEY-02")
def test_kill_at_every_step_leaves_each_input_with_one_effect(killed):
    messages = stream(75)
    assert killed.inputs.depth().total == 0
    assert killed.outcomes() == {"scored": len(messages)}
    assert killed.column("SELECT count(*) FROM ops.inbox") == [len(messages)]

    expected = killed.replayed()
    assert {row.id for row in expected.outputs} == set(killed.column("SELECT id FROM ops.outbox"))
    bars = killed.query(
        "SELECT symbol, close, volume, market_return, market_peers FROM ops.live_bars ORDER BY bar_start, symbol"
    )
    assert repr(bars) == repr(
        [
            (bar.symbol, bar.close, bar.volume, bar.market_return, bar.market_peers)
            for bar in sorted(expected.bars, key=lambda bar: (bar.bar_start, bar.symbol))
        ]
    )
    anomalies = killed.query("SELECT id, score, input_hash, alert_status, explanation FROM surveillance.anomalies")
    assert sorted(anomalies, key=str) == sorted(
        [(row.id, row.score, row.input_hash, row.alert_status, row.explanation) for row in expected.anomalies], key=str
    )

    wire = [json.loads(body) for body in killed.wire()]
    assert {m["id"]: m["input_hash"] for m in wire} == {row.id: row.input_hash for row in expected.outputs}
    assert {message["schema_version"] for message in wire} == {SCHEMA_VERSION}
