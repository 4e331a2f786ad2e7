"""One schedule's world: queues, database, producers, and the drain runs that serve it, holder and standby."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.queue import Poll, SendEntry
from surveillance_pipelines.engine.engine import Engine
from surveillance_pipelines.runtime.meter import Meter
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.ports import Bundles, InputQueue, Store
from surveillance_pipelines.runtime.shell import Shell, ShellOptions, Step
from surveillance_pipelines.runtime.tasks import ThreadTasks
from surveillance_pipelines.stores.lease import Lease, LeaseLostError
from surveillance_pipelines.stores.outbox import SQS
from surveillance_pipelines.transports.publisher import Publisher
from surveillance_pipelines.transports.sqs import QueueError
from surveillance_pipelines_tests.simulation.database import QUEUE, Database, UniqueViolationError
from surveillance_pipelines_tests.simulation.faults import SLOW_ANSWER_SECONDS, Fault, FaultPlan, Outage, OutageError
from surveillance_pipelines_tests.simulation.faulty_ports import FaultyInputs, FaultyOutputs, FaultyStore, Promotions
from surveillance_pipelines_tests.simulation.fifo import SimulatedFifo
from surveillance_pipelines_tests.simulation.market import Market
from surveillance_pipelines_tests.simulation.scorer import BUNDLES, TinyPredictor
from surveillance_pipelines_tests.simulation.store import MemoryStore
from surveillance_pipelines_tests.simulation.timeline import (
    KilledError,
    ProcessClock,
    SimulatedThreads,
    Timeline,
)


class DefectError(RuntimeError):
    """An exception in the code of the run itself."""


LEASE_SECONDS: Final = 24.0
OPTIONS: Final = ShellOptions(
    max_messages=10,
    hidden_seconds=20,
    visibility_seconds=60,
    poll_seconds=8,
    published="alerts",
    heartbeat_seconds=6.0,
)
LIMIT_SECONDS: Final = 6 * 3600.0
CALL_SECONDS: Final = 0.004
REDRIVE_SECONDS: Final = 90.0
SLOW_RECEIVES: Final = 3
"""How often a process may receive a message while answers take longer than the initial visibility timeout: a call that
is already on its way when the process notices, and one with a longer timeout."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Ports:
    """What a process sees of the world."""

    inputs: InputQueue
    outputs: Publisher
    store: Store
    bundles: Bundles


class SideChannel(Protocol):
    """A channel beside SQS, with delivery runs of its own."""

    def start(self, world: "World") -> None:
        """Put the first delivery run on the agenda."""
        ...


class Worker(Protocol):
    """What a process does while it lives; returns when there is nothing left to do."""

    def __call__(self, world: "World", process: "Process", lease: Lease) -> None: ...


@dataclass
class World:
    """Everything a schedule consists of.

    Attributes:
        misconduct: what processes did that they must not do, as sentences.
        hidden_groups: groups of messages that a process received after it had lost the lease.
        at_rest: a process has found nothing left to do; no further one starts.
        wrap: puts a planted bug between the shell and its ports.
        side_channel: another channel with delivery runs of its own; None for SQS alone.
    """

    market: Market
    faults: FaultPlan
    worker: Worker
    wrap: Callable[["World", Ports], Ports] = lambda _, ports: ports
    side_channel: "SideChannel | None" = None
    at_rest: bool = False
    processes: int = 0
    timeline: Timeline = field(init=False)
    misconduct: list[str] = field(default_factory=list)
    hidden_groups: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.timeline = Timeline(self.market.start, limit_seconds=LIMIT_SECONDS)
        seed, timeline, faults = self.faults.seed, self.timeline, self.faults
        receives = random.Random(f"queue {seed}").choice((2, 3, 1_000))
        self.inputs = SimulatedFifo("in", timeline, faults, seed=seed, max_receive_count=receives)
        self.outputs = SimulatedFifo("out", timeline, faults, seed=seed)
        self.database = Database(timeline, self.market.lake)
        self.champion = BUNDLES[0]
        self._unsent = len(self.market.sends)

    def run(self) -> None:
        """Let the schedule happen; raises what a process died of, if it is not of the world's making."""
        for at, entry in self.market.sends:
            self.timeline.at(at, lambda entry=entry: self._produce(entry))
        for at, bundle_hash in self.market.promotions:
            self.timeline.at(at, lambda bundle_hash=bundle_hash: self._promote(bundle_hash))
        self.timeline.at(self.market.start, self._contend)
        if self.side_channel is not None:
            self.side_channel.start(self)
        self.timeline.after(REDRIVE_SECONDS, self._redrive)
        self.timeline.run()

    def is_served(self) -> bool:
        """Say whether every message sent is through, and every row published."""
        return self._unsent == 0 and self.inputs.is_empty and not self.database.undelivered(SQS, limit=1)

    def next_send_at(self) -> int | None:
        """Return when a producer sends next, None after the last message."""
        sends = self.market.sends
        return sends[-self._unsent][0] if self._unsent else None

    def _promote(self, bundle_hash: str) -> None:
        self.champion = bundle_hash

    def _produce(self, entry: SendEntry) -> None:
        self._unsent -= 1
        self.inputs.accept(entry)

    def _contend(self) -> None:
        """Stand by for the lease; whoever gets it starts a process, and the next contender follows after a while."""
        if self.at_rest:
            return
        if self.is_down("acquire"):
            self.timeline.after(0.5, self._contend)
            return
        lease = self.database.acquire(f"run-{self.processes}", LEASE_SECONDS)
        if lease is None:
            row = self.database.leases.get(QUEUE)
            soon = self.timeline.now + MICROSECONDS // 2
            self.timeline.at(soon if row is None else max(soon, row.expires_at), self._contend)
            return
        self.processes += 1
        process = Process(self, self.faults)
        process.threads.start("main", lambda: process.live(lease, self.worker, self._rest))
        self.timeline.after(self.faults.restart_delay(), self._contend)

    def is_down(self, site: str) -> bool:
        """Return whether the database refuses a call now."""
        outage = self.faults.outage
        return outage is not None and self._is_now(outage) and (outage.kind == "database" or site == "commit")

    @property
    def is_queue_down(self) -> bool:
        """Whether every call to the input queue fails now, although some take effect."""
        outage = self.faults.queue_outage
        return outage is not None and outage.kind == "input queue" and self._is_now(outage)

    @property
    def answer_delay(self) -> float:
        """How long the answers of the input queue take now, in seconds."""
        outage = self.faults.queue_outage
        is_slow = outage is not None and outage.kind != "input queue" and self._is_now(outage)
        return SLOW_ANSWER_SECONDS if is_slow else 0.0

    def _is_now(self, outage: Outage) -> bool:
        first, last = self.market.sends[0][0], self.market.sends[-1][0]
        begin = first + outage.begin * (last - first)
        return begin <= self.timeline.now < begin + outage.seconds * MICROSECONDS

    def _rest(self) -> None:
        self.at_rest = True

    def _redrive(self) -> None:
        """Do what an operator does about dead letters of the queue: bring them back."""
        if not self.at_rest:
            self.inputs.redrive()
            self.timeline.after(REDRIVE_SECONDS, self._redrive)


class Process:
    """One run: its threads, its clock, and its calls to the world, each of which a fault may strike."""

    def __init__(self, world: World, faults: FaultPlan) -> None:
        self.world: Final = world
        self.faults: Final = faults
        self.clock: Final = ProcessClock(world.timeline)
        self.threads: Final = SimulatedThreads(world.timeline)
        self._frozen_until = 0
        self._lost_answers = 0
        self._received_slowly: Counter[str] = Counter()
        self._failing: set[str] = set()  # calls to the database that are being repeated
        self.clock.step(faults.host_clock())

    def live(self, lease: Lease, worker: Worker, on_rest: Callable[[], None]) -> None:
        """Serve until there is nothing left, the lease is lost, or a fault ends it, as ``drain`` does."""
        world = self.world
        try:
            worker(world, self, lease)
            on_rest()
        except LeaseLostError:
            self.faults.note("a process finds its lease lost", "write refused by the fencing number")
        except (DefectError, QueueError) as error:
            self.faults.note(f"a process ends with {type(error).__name__}: {error}", "process ended by an exception")
        except (OutageError, UniqueViolationError) as error:
            self.world.misconduct.append(f"a process ended with {type(error).__name__}: {error}")
        world.database.release(lease)

    def call(self, site: str, operation: Callable[[], _Result]) -> _Result:
        """Do something that takes time and may go wrong, before it is done or after."""
        timeline, fault = self.world.timeline, self.faults.at(site)
        timeline.sleep(CALL_SECONDS)
        if timeline.now < self._frozen_until:
            timeline.sleep_until(self._frozen_until)
        if fault is not None and fault.moment == "before":
            self._strike(fault)
        result = operation()
        if fault is not None and fault.moment == "after":
            self._strike(fault)
        return result

    def ask_database(self, site: str, operation: Callable[[], _Result]) -> _Result:
        """Call the database, which may be down before the operation or after it."""

        def execute() -> _Result:
            if site not in self._failing and self.world.is_down(site) and self.faults.loses_answer():
                operation()  # the outage begins after the database has worked, before it answers
            self._require_up(site)
            result = operation()
            self._require_up(site)
            return result

        try:
            result = self.call(site, execute)
        except OutageError:
            self._failing.add(site)
            raise
        except LeaseLostError:
            self._failing.discard(site)
            raise
        self._failing.discard(site)
        return result

    def _require_up(self, site: str) -> None:
        if self.world.is_down(site):
            if self.faults.kills_in_outage():
                self._strike(Fault("crash", "after"))
            raise OutageError("the database is down")

    def ask_queue(
        self, site: str, operation: Callable[[], _Result], *, on_lost: Callable[[_Result], None] = lambda _: None
    ) -> _Result:
        """Call the input queue; while it is down, the call fails, and may take effect nevertheless."""

        def execute() -> _Result:
            if self.world.is_queue_down and not self.faults.queue_loses_answer():
                raise OutageError("the input queue is down")
            result = operation()
            if self.world.is_queue_down:
                on_lost(result)
                raise OutageError("the input queue is down")
            if delay := self.world.answer_delay:
                self.world.timeline.sleep(delay)
            return result

        return self.call(site, execute)

    def watch_lost(self, poll: Poll) -> None:
        """Note that a process receives messages again and again although the answers are lost."""
        self._lost_answers += bool(poll.messages)
        if self._lost_answers > 1:
            self.world.misconduct.append(f"a process lost the answers of {self._lost_answers} receive calls")

    def watch_slow(self, poll: Poll) -> None:
        """Note that a process receives messages again and again because their answers take long."""
        if not self.world.answer_delay:
            return
        self._received_slowly.update(message.message_id for message in poll.messages)
        most = SLOW_RECEIVES + self.faults.seen["forgotten visibility"]  # each of them shows a message once more
        if any(count > most for count in self._received_slowly.values()):
            self.world.misconduct.append(f"a process received a message more than {most} times")

    def watch_intake(self) -> None:
        """Note that a process receives although it cannot commit."""
        if "commit" in self._failing:
            self.world.misconduct.append("a process received messages while its commits failed")

    def ports(self, lease: Lease) -> Ports:
        """Return the world behind faults, and the planted bug in front of it if there is one."""
        store = MemoryStore(self.world.database, lease, TinyPredictor.feature_view, self._in_transaction)
        ports = Ports(FaultyInputs(self, lease), FaultyOutputs(self), FaultyStore(self, store), Promotions(self.world))
        return self.world.wrap(self.world, ports)

    def receive(self, max_messages: int, wait_seconds: int, visibility_seconds: int) -> Poll:
        """Long-poll the input queue, whose clock is the virtual time in whole seconds."""
        timeline, inputs = self.world.timeline, self.world.inputs
        deadline = timeline.now + wait_seconds * MICROSECONDS
        while True:
            received_at = self.clock.now_us()
            batch = inputs.receive(max_messages, visibility_seconds=visibility_seconds, received_at=received_at)
            if batch or timeline.now >= deadline:
                return Poll(batch, timeline.now - timeline.now % MICROSECONDS)
            due = (inputs.next_visible_at() or deadline, self.world.next_send_at() or deadline, deadline)
            timeline.sleep_until(min(at for at in due if at > timeline.now))

    def _in_transaction(self) -> None:
        seconds = self.world.faults.slow_commit()
        if seconds:
            self.world.timeline.sleep(seconds)

    def _strike(self, fault: Fault) -> None:
        timeline = self.world.timeline
        if fault.kind == "crash":
            self.faults.note("a process is killed", "process killed")
            self.threads.kill()
            raise KilledError
        if fault.kind == "error":
            raise OutageError("simulated")
        if fault.kind == "clock":
            self.clock.step(fault.seconds)
            return
        if fault.kind == "freeze":  # of all threads; a stall is of this call alone
            self._frozen_until = max(self._frozen_until, timeline.now + round(fault.seconds * MICROSECONDS))
        timeline.sleep(fault.seconds)


def drain_worker(world: World, process: Process, lease: Lease) -> None:
    """Serve with the real shell and engine."""
    ports = process.ports(lease)
    engine = world.market.engine(world.database.instruments, world.champion)

    def after_step(step: Step) -> None:
        if step == "process":  # the only one without a call to the world
            try:
                process.call("process", lambda: None)
            except OutageError as error:
                raise DefectError from error

    shell = Shell(
        inputs=ports.inputs,
        outputs=ports.outputs,
        store=ports.store,
        engine=engine,
        bundles=ports.bundles,
        meter=Meter(),
        clock=process.clock,
        options=replace(OPTIONS, published=world.market.publish),
        tasks=ThreadTasks(process.threads),
        outages=Outages(process.clock, is_outage=lambda error: isinstance(error, OutageError)),
        after_step=after_step,
    )
    try:
        shell.start()
        while not (world.is_served() and has_closed_all(world, engine)):
            shell.run_once(OPTIONS.poll_seconds)
        shell.finish()
    except BaseException:
        shell.abort()
        raise


def has_closed_all(world: World, engine: Engine) -> bool:
    """Say whether no bar waits for the clock, in a market where the clock closes bars."""
    return not world.market.clock_closes or engine.next_close() is None
