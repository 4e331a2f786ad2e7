"""Threads and stages of the live lane: order, room, endings."""

import threading
from collections.abc import Iterator

import pytest

from surveillance_pipelines.runtime.tasks import Source, ThreadTasks

SECONDS = 20.0  # at most; nothing here waits for a time to pass


@pytest.fixture
def tasks() -> Iterator[ThreadTasks]:
    tasks = ThreadTasks()
    yield tasks
    tasks.abort()


def test_stages_work_everything_off_in_order_before_they_finish(tasks):
    seen: list[int] = []
    last = tasks.stage("last", seen.extend, capacity=1)
    # A stage is closed after the one that feeds it, so feeding ones are made first.
    tasks_in_order = ThreadTasks()

    def pass_on(items: list[int]) -> None:
        for item in items:
            last.submit(item)

    first = tasks_in_order.stage("first", pass_on, capacity=2)
    for number in range(500):
        first.submit(number)
    tasks_in_order.finish()
    tasks.finish()
    assert seen == list(range(500))


def test_what_recurs_goes_on_while_the_stages_finish(tasks):
    """A lease is renewed until the last message is through."""
    finishing, beats = threading.Event(), threading.Semaphore(0)

    def beat() -> None:
        if finishing.is_set():
            beats.release()

    def handle(_: list[int]) -> None:
        finishing.set()
        assert beats.acquire(timeout=SECONDS)
        assert beats.acquire(timeout=SECONDS)

    tasks.every("heartbeat", 0.001, beat)
    tasks.stage("slow", handle, capacity=1).submit(1)
    tasks.finish()


def test_full_stage_makes_its_feeder_wait(tasks):
    gate, entered = threading.Event(), threading.Event()

    def handle(items: list[int]) -> None:
        entered.set()
        gate.wait(SECONDS)

    stage = tasks.stage("slow", handle, capacity=1)
    stage.submit(1)
    assert entered.wait(SECONDS)
    stage.submit(2)  # waits in the only room there is
    feeder = threading.Thread(target=stage.submit, args=(3,))
    feeder.start()
    feeder.join(0.05)
    assert feeder.is_alive()
    gate.set()
    feeder.join(SECONDS)
    assert not feeder.is_alive()


def test_source_is_one_ahead_and_gives_what_it_was_producing_when_stopped(tasks):
    produced: list[int] = []

    def produce() -> int:
        produced.append(len(produced))
        return produced[-1]

    source = tasks.source("numbers", produce)
    assert [source.next(SECONDS) for _ in range(3)] == [0, 1, 2]
    source.stop()
    rest = []
    while (item := source.next(0.0)) is not None:
        rest.append(item)
    assert [0, 1, 2, *rest] == produced
    assert len(rest) <= 2


def forever(source: Source[bool]) -> None:
    while True:
        source.next(SECONDS)


def test_failure_of_a_stage_reaches_the_caller_and_stops_the_others(tasks):
    failed = threading.Event()

    def fail(_: list[int]) -> None:
        failed.set()
        raise ValueError("no such table")

    beats: list[int] = []
    tasks.every("heartbeat", 0.001, lambda: beats.append(1))
    stage = tasks.stage("fails", fail, capacity=1)
    source = tasks.source("waits", threading.Event().is_set)
    stage.submit(1)
    assert failed.wait(SECONDS)
    with pytest.raises(ValueError, match="no such table"):
        forever(source)
    tasks.abort()
    count = len(beats)
    assert not [thread for thread in threading.enumerate() if thread.name in {"heartbeat", "fails", "waits"}]
    assert len(beats) == count


def test_failure_before_the_end_is_met_at_the_end(tasks):
    def fail(_: list[int]) -> None:
        raise ValueError("too late")

    tasks.stage("fails", fail, capacity=5).submit(1)
    with pytest.raises(ValueError, match="too late"):
        tasks.finish()


def test_recurring_action_goes_on_until_the_end(tasks):
    third = threading.Event()
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        if len(beats) == 3:
            third.set()

    tasks.every("heartbeat", 0.001, beat)
    assert third.wait(SECONDS)
