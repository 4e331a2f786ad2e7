"""The simulated queue does what SQS documents, traps included."""

from dataclasses import dataclass

import pytest

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.transports.sqs import QueueError
from surveillance_pipelines_tests.simulation.faults import FaultPlan
from surveillance_pipelines_tests.simulation.fifo import SimulatedFifo
from surveillance_pipelines_tests.simulation.timeline import Timeline


class NoFaults(FaultPlan):
    """Nothing goes wrong unless a test says what."""

    refuses: frozenset[int] = frozenset()
    forgetful: str = ""

    def refused(self, site: str, count: int) -> frozenset[int]:
        return self.refuses

    def forgets(self, what: str) -> bool:
        return what == self.forgetful


@dataclass
class Bench:
    timeline: Timeline
    faults: NoFaults
    queue: SimulatedFifo

    def send(self, *names: str, group: str = "A") -> None:
        self.queue.send([SendEntry(name, group, name) for name in names])

    def receive(self, visibility: int = 30) -> list[Received]:
        return self.queue.receive(10, visibility_seconds=visibility, received_at=self.timeline.now)

    def receive_all(self) -> list[str]:
        bodies = []
        while batch := self.receive():
            bodies += [message.body for message in batch]
            self.queue.delete([message.receipt_handle for message in batch])
        return bodies

    def wait(self, seconds: float) -> None:
        self.timeline.now += round(seconds * MICROSECONDS)


@pytest.fixture
def bench() -> Bench:
    timeline, faults = Timeline(0, limit_seconds=1e6), NoFaults(0)
    return Bench(timeline, faults, SimulatedFifo("q", timeline, faults, seed=1, max_receive_count=3))


def test_deduplication_id_is_remembered_for_five_minutes(bench):
    bench.send("a")
    bench.wait(299)
    bench.send("a")
    assert bench.receive_all() == ["a"]
    bench.wait(2)
    bench.send("a")
    assert bench.receive_all() == ["a"]


def test_group_waits_for_its_message_in_flight_and_others_do_not(bench):
    bench.send("a1")
    (first,) = bench.receive()
    bench.send("a2")
    bench.send("b1", group="B")
    assert [message.body for message in bench.receive()] == ["b1"]
    bench.queue.delete([first.receipt_handle])
    assert [message.body for message in bench.receive()] == ["a2"]


def test_message_comes_again_when_its_visibility_ends_and_its_old_receipt_is_stale(bench):
    bench.send("a")
    (first,) = bench.receive(visibility=30)
    bench.wait(29)
    assert bench.receive() == []
    bench.wait(1)
    (second,) = bench.receive(visibility=30)
    assert (second.message_id, second.receive_count) == (first.message_id, 2)
    with pytest.raises(QueueError, match="expired"):
        bench.queue.delete([first.receipt_handle])
    bench.queue.delete([second.receipt_handle])
    bench.queue.delete([second.receipt_handle])  # gone already: SQS says yes
    assert bench.queue.is_empty


def test_message_received_too_often_is_set_aside_and_the_next_overtakes_it(bench):
    bench.send("a1")
    for _ in range(3):
        assert [message.body for message in bench.receive()] == ["a1"]
        bench.wait(31)
    bench.send("a2")
    assert bench.receive_all() == ["a2"]
    assert [letter.body for letter in bench.queue.dead_letters] == ["a1"]
    bench.queue.redrive()
    (again,) = bench.receive()
    assert (again.body, again.dedup_id, again.receive_count) == ("a1", "a1", 1)
    assert again.message_id != "q-000000"


def test_call_accepted_in_part_names_the_entries_that_were_not(bench):
    bench.faults.refuses = frozenset({0})
    with pytest.raises(QueueError) as failed:
        bench.send("a1", "a2")
    assert list(failed.value.failures) == [0]
    bench.faults.refuses = frozenset()
    assert bench.receive_all() == ["a2"]


@pytest.mark.parametrize(("what", "wait"), [("visibility", 0), ("deletion", 31)])
def test_queue_that_forgets_hands_a_message_out_twice(bench, what, wait):
    bench.send("a")
    bench.faults.forgetful = what
    (message,) = bench.receive()
    if what == "deletion":
        bench.queue.delete([message.receipt_handle])
    bench.faults.forgetful = ""
    bench.wait(wait)
    assert bench.receive_all() == ["a"]
