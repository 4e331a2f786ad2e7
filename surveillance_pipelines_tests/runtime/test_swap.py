"""A bundle promoted while a run serves: swapped in between two messages, on record, without a message lost."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from deltalake.exceptions import DeltaError

from surveillance_pipelines.engine.effects import Known
from surveillance_pipelines.engine.engine import Engine, Swap, needs_history
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.features import views
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble, Predictor
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.runtime import bundle_watch as bundles
from surveillance_pipelines.runtime.bundle_watch import BundleWatch
from surveillance_pipelines.stores.database import Reconnector
from surveillance_pipelines_tests.engine.market import SYMBOLS, sessions, stream
from surveillance_pipelines_tests.engine.test_engine import feed, make_config, make_engine
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "v1"
    build_tiny_bundle(folder)
    return load_bundle(folder)


def test_bundle_promoted_while_a_run_serves_scores_what_comes_after(live_lane, bundle):
    messages = stream(60)
    live_lane.send(messages[:180])
    served = threading.Event()

    def promote_between() -> None:
        served.wait(30)
        live_lane.promote(bundle.bundle_hash, bundle.path)
        while not live_lane.column("SELECT 1 FROM ops.ledger HAVING count(*) = 180"):
            threading.Event().wait(0.02)
        threading.Event().wait(3.0)  # longer than the watch sleeps
        live_lane.send(messages[180:])

    promoter = threading.Thread(target=promote_between)
    promoter.start()
    object.__setattr__(live_lane, "settings", live_lane.settings.model_copy(update={"drain_idle_seconds": 8.0}))
    live_lane.drain(window_seconds=40, after_step=lambda step: served.set() if step == "commit" else None)
    promoter.join()

    assert live_lane.outcomes() == {"scored": len(messages)}
    bundles = live_lane.query("SELECT bundle_hash, after_position FROM ops.served_bundles ORDER BY id")
    first_position = live_lane.column("SELECT min(position) FROM ops.inbox")[0]
    assert [name for name, _ in bundles] == ["warmup", bundle.bundle_hash]
    assert bundles[0][1] < first_position <= bundles[1][1]
    scored = live_lane.query(
        "SELECT i.position > %s, o.body::jsonb->>'bundle_hash' FROM ops.outbox o "
        "JOIN ops.inbox i ON i.message_id = o.body::jsonb->>'correlation_id' "
        "WHERE o.body::jsonb->>'type' = 'score' GROUP BY 1, 2",
        bundles[1][1],
    )
    assert sorted(scored) == [(False, "warmup"), (True, bundle.bundle_hash)]


def test_damaged_bundle_is_refused_and_the_one_before_serves_on(live_lane, tmp_path, capsys):
    with live_lane.connect() as connection:
        watch = BundleWatch(Reconnector(lambda: connection), live_lane.settings, WarmupRules(), lambda *_: {})
        live_lane.promote("0" * 64, tmp_path / "nothing")
        watch.poll()
        watch.poll()
        assert watch.claim() is None
        assert watch.newest.bundle_hash == "warmup"
        said = watch.claim_refusal()
        assert said is not None
        assert said.startswith("bundle 000000000000 is the champion and cannot serve (")
        assert "warmup serves instead" in said
        assert watch.claim_refusal() is None
    assert capsys.readouterr().out.count("the champion does not serve") <= 1


def test_watch_hands_a_promotion_over_once(live_lane, bundle):
    with live_lane.connect() as connection:
        watch = BundleWatch(Reconnector(lambda: connection), live_lane.settings, WarmupRules(), lambda *_: {})
        watch.poll()
        assert watch.claim() is None
        live_lane.promote(bundle.bundle_hash, bundle.path)
        watch.poll()
        swap = watch.claim()
        assert swap is not None
        assert (swap.predictor.bundle_hash, swap.seeds) == (bundle.bundle_hash, {})
        watch.poll()
        assert watch.claim() is None


def test_watch_compiles_a_new_feature_view_before_it_hands_it_over(live_lane, bundle, monkeypatch):
    class OtherView(WarmupRules):
        bundle_hash = bundle.bundle_hash
        feature_view = "core_v2"

    other, warmed = replace(CORE_V1, name="core_v2"), []
    monkeypatch.setitem(views.VIEWS, other.name, other)
    monkeypatch.setattr(bundles, "load_predictor", lambda *_: OtherView())
    monkeypatch.setattr(bundles, "warm_up_features", warmed.append)
    with live_lane.connect() as connection:
        watch = BundleWatch(Reconnector(lambda: connection), live_lane.settings, WarmupRules(), lambda *_: {})
        live_lane.promote(bundle.bundle_hash, bundle.path)
        watch.poll()
        assert watch.claim() is not None
    assert warmed == [other]


def rules_of(length: int) -> WarmupRules:
    class Rules(WarmupRules):
        bundle_hash = f"rules-{length}"
        window_length = length

    return Rules()


@pytest.fixture
def promotions(live_lane, monkeypatch):
    """Return a watch over models of one bar, the window lengths whose history it read, and the list of promotions."""
    promoted, read = [WarmupRules()], []
    monkeypatch.setattr(bundles, "champion_hash", lambda *_: promoted[-1].bundle_hash)
    monkeypatch.setattr(bundles, "load_predictor", lambda *_: promoted[-1])

    def history(length: int, _: str) -> dict[str, Seed]:
        read.append(length)
        return {"SPY": Seed()}

    with live_lane.connect() as connection:
        yield (
            BundleWatch(Reconnector(lambda: connection), live_lane.settings, promoted[0], history),
            read,
            promoted,
        )


def test_promotion_over_an_unclaimed_one_has_the_history_that_the_serving_models_lack(promotions):
    watch, read, promoted = promotions
    longer, again = rules_of(20), rules_of(20)
    again.bundle_hash = "rules-20-again"
    for rules in (longer, again):
        promoted.append(rules)
        watch.poll()
    swap = watch.claim()
    assert (swap.predictor, list(swap.seeds)) == (again, ["SPY"])
    promoted.append(longer)
    watch.poll()
    assert watch.claim().seeds == {}, "the claimed models have windows of this length"
    assert read == [20, 20]


def test_promotion_that_needs_a_history_which_cannot_be_read_blames_the_lake(live_lane, promotions):
    _, _, promoted = promotions

    def unreadable(*_: object) -> dict[str, Seed]:
        raise DeltaError("found a gap")

    with live_lane.connect() as connection:
        watch = BundleWatch(Reconnector(lambda: connection), live_lane.settings, promoted[0], unreadable)
        promoted.append(rules_of(20))
        watch.poll()
        said = watch.claim_refusal() or ""
    assert "expected to read the history that it needs from the lake: found a gap; what to do: run `surv" in said
    assert said.endswith("): warmup serves instead; it is tried again every 30 s")


def test_promotion_claimed_while_the_next_one_loads_counts_as_serving(promotions, monkeypatch):
    watch, read, promoted = promotions
    promoted.append(rules_of(20))
    watch.poll()
    assert watch.claim() is not None
    promoted.append(rules_of(1))
    watch.poll()
    claimed: list[Swap | None] = []

    def compare_while_claimed(old: Predictor, new: Predictor) -> bool:
        needed = needs_history(old, new)
        if not claimed:
            claimed.append(watch.claim())
        return needed

    monkeypatch.setattr(bundles, "needs_history", compare_while_claimed)
    again = rules_of(20)
    again.bundle_hash = "rules-20-again"
    promoted.append(again)
    watch.poll()
    assert claimed[0] is not None
    assert claimed[0].predictor.window_length == 1
    swap = watch.claim()
    assert swap is not None
    assert (swap.predictor, list(swap.seeds)) == (again, ["SPY"])
    assert read == [20, 20]


def test_alerts_open_before_a_swap_are_closed_after_it(bundle):
    """What the old models opened, the new ones confirm or retract: the engine keeps its state."""
    messages = stream(90)
    engine = make_engine()
    before = feed(engine, [messages[:400]])
    engine.swap(Swap(Ensemble(bundle)), 0)
    after = feed(engine, [messages[400:]])
    assert {row.bundle_hash for row in before.scores} == {"warmup"}
    assert {row.bundle_hash for row in after.scores} == {bundle.bundle_hash}
    assert [row.bundle_hash for row in after.bundles] == [bundle.bundle_hash]
    opened = {row.alert_id for row in before.anomalies} - {
        row.alert_id for row in before.anomalies if row.alert_status != "opened"
    }
    assert opened <= {row.alert_id for row in after.anomalies}
    assert repr(before.bars + after.bars) == repr(feed(make_engine(), [messages]).bars)


def test_other_feature_view_goes_on_where_the_old_one_stands(bundle, monkeypatch):
    """The new view's features after the swap are those of a lane that had it from the beginning."""
    other = replace(CORE_V1, name="core_v2")
    monkeypatch.setitem(views.VIEWS, other.name, other)

    class OtherView(WarmupRules):
        bundle_hash = "other"
        feature_view = other.name

    messages = stream(90)
    engine = Engine(make_config(), WarmupRules(), sessions(), SYMBOLS)
    feed(engine, [messages[:400]])
    engine.swap(Swap(OtherView(), {symbol: Seed() for symbol in SYMBOLS}), 0)
    after = engine.process(engine.read(messages[400:]), Known())
    whole = feed(make_engine(), [messages])
    last = {row.id: row.input_hash for row in whole.scores}
    assert [row.input_hash for row in after.scores] == list(last.values())[-len(after.scores) :]
    snapshots = [row for row in after.states if row.name == other.name]
    assert {row.symbol for row in snapshots} == set(SYMBOLS)
    for row in snapshots:
        assert FeatureState.restore(row.state).view is other
    np.testing.assert_equal(len(after.bundles), 1)
