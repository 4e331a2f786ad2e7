"""Two hundred schedules, the naive worker, every planted bug, and that a seed is a seed."""

import pytest

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.market.messages import decode_tick
from surveillance_pipelines_tests.simulation.__main__ import main
from surveillance_pipelines_tests.simulation.bugs import BUGS
from surveillance_pipelines_tests.simulation.market import MARKETS, market
from surveillance_pipelines_tests.simulation.naive import naive_violations
from surveillance_pipelines_tests.simulation.proof import BUG_SEEDS, first_catch, replay_command, run_seeds
from surveillance_pipelines_tests.simulation.schedule import run_schedule

SCHEDULES = 200
CHUNK = 100


@pytest.mark.requirement("BEY-02")
@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_every_schedule_ends_with_each_effect_once_and_in_order(first):
    chunk = run_seeds(range(first, first + CHUNK))
    assert chunk.failed == {}, "\n".join(replay_command(seed) for seed in chunk.failed)
    assert chunk.schedules == CHUNK
    for trouble in ("process killed", "process ended by an exception", "write refused by the fencing number"):
        assert chunk.troubled[trouble] > 0, f"no schedule had {trouble}: the faults have lost their teeth"


@pytest.mark.requirement("BEY-02")
def test_schedules_have_producers_whose_clocks_are_ahead():
    def is_ahead(sent_at: int, body: str) -> bool:
        tick = decode_tick(body, sent_at=None)
        return isinstance(tick, Tick) and tick.event_time > sent_at + 30 * MICROSECONDS

    markets = [market(number) for number in range(MARKETS)]
    assert sum(any(is_ahead(at, entry.body) for at, entry in each.sends) for each in markets) > 5


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_caught(bug):
    assert first_catch(bug) in range(BUG_SEEDS)


def test_naive_worker_fails_under_faults_and_only_then():
    assert not any(naive_violations(seed, faults=False) for seed in range(0, 20, 2))
    assert sum(bool(naive_violations(seed)) for seed in range(20)) >= 15


def test_seed_gives_the_same_schedule_again():
    first, second = run_schedule(5), run_schedule(5)
    assert first == second
    assert first.trace


def test_failing_seed_prints_the_command_that_replays_it(capsys):
    bug = "mark before send"
    seed = first_catch(bug)
    assert seed is not None
    assert main(["--seed", str(seed), "--bug", bug]) == 1
    printed = capsys.readouterr().out
    assert "VIOLATED wire:" in printed
    assert replay_command(seed, bug) in printed
    assert main(["--seed", str(seed)]) == 0
    assert "every invariant holds" in capsys.readouterr().out
