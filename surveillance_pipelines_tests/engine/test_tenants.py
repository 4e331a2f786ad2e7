"""Several tenants share the predictions of one engine; each has alerts, signals and a pace of its own."""

from dataclasses import replace
from itertools import pairwise

from surveillance_pipelines.engine.effects import Effects
from surveillance_pipelines.engine.engine import Engine, EngineConfig
from surveillance_pipelines.engine.scoring_rows import RowConfig
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.engine.snapshots import SERVING_STATE
from surveillance_pipelines.strategies.pacing import SignalPace
from surveillance_pipelines_tests.engine.market import MINUTE, SYMBOLS, stream
from surveillance_pipelines_tests.engine.test_engine import feed, make_config, make_engine

PACE = SignalPace(MINUTE, MINUTE)
SLOW = SignalPace(30 * MINUTE, 30 * MINUTE)


def two_tenants() -> EngineConfig:
    config = make_config(rows=replace(make_config().rows, pace=PACE))
    return replace(config, other_rows=(replace(config.rows, tenant="fund", strategy="momentum", pace=SLOW),))


def of(rows: list, config: RowConfig) -> list:
    return [row for row in rows if (row.tenant, row.strategy) == (config.tenant, config.strategy)]


def facts(rows: list) -> list[tuple]:
    return [(row.symbol, row.bar_start, row.kind, row.alert_status, row.input_hash) for row in rows]


def test_second_tenant_gets_the_same_alerts_under_other_ids_and_its_own_pace():
    config = two_tenants()
    second = config.other_rows[0]
    effects = feed(make_engine(rows=config.rows, other_rows=config.other_rows), [stream(120)])
    ours, theirs = of(effects.anomalies, config.rows), of(effects.anomalies, second)
    assert len(ours) > 3
    assert facts(ours) == facts(theirs)
    assert not {row.alert_id for row in ours} & {row.alert_id for row in theirs}
    assert not {row.id for row in ours} & {row.id for row in theirs}
    fast, slow = of(effects.signals, config.rows), of(effects.signals, second)
    assert len(fast) > len(slow) > 0
    for symbol in SYMBOLS:
        starts = [row.bar_start for row in slow if row.symbol == symbol]
        assert all(later - earlier >= 30 * MINUTE for earlier, later in pairwise(starts))


def test_strategies_of_one_tenant_have_alerts_with_ids_of_their_own():
    rows = make_config().rows
    effects = feed(make_engine(rows=rows, other_rows=(replace(rows, strategy="momentum"),)), [stream(120)])
    by_strategy = {name: {row.alert_id for row in effects.anomalies if row.strategy == name} for name in
                   ("surveillance", "momentum")}  # fmt: skip
    assert len(by_strategy["surveillance"]) == len(by_strategy["momentum"]) > 0
    assert not by_strategy["surveillance"] & by_strategy["momentum"]


def test_first_tenant_has_the_rows_that_it_has_alone():
    config = two_tenants()
    alone = feed(make_engine(rows=config.rows), [stream(120)])
    both = feed(make_engine(rows=config.rows, other_rows=config.other_rows), [stream(120)])
    assert of(both.outputs, config.rows) == alone.outputs


def test_restart_keeps_the_open_alerts_and_the_pace_of_every_tenant():
    config, messages = two_tenants(), stream(120)
    whole = feed(make_engine(rows=config.rows, other_rows=config.other_rows), [messages])
    for at in range(len(messages) // 2, len(messages), 97):
        before = feed(make_engine(rows=config.rows, other_rows=config.other_rows), [messages[:at]])
        engine = make_engine(rows=config.rows, other_rows=config.other_rows)
        restore(engine, before)
        assert before.outputs + feed(engine, [messages[at:]]).outputs == whole.outputs, at


def restore(engine: Engine, before: Effects) -> None:
    """Give an engine the snapshots and bars that another one left."""
    for symbol in SYMBOLS:
        (serving,) = [row.state for row in before.states if (row.symbol, row.name) == (symbol, SERVING_STATE)]
        bars = tuple(bar for bar in before.bars if bar.symbol == symbol and bar.revision == 0)
        engine.seed(symbol, Seed(serving=serving, bars=bars, revisable=bars[-5:]))
