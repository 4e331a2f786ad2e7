"""P2: queue-to-queue latency under Dagster: the drain run, and a warm process with ``execute_in_process``."""

import sys
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

import numpy as np

from benchmarks.dagster_lane import (
    OURS,
    DagsterLane,
    PlainLane,
    Round,
    dagster_lane,
    equal_answers,
    live_ticks,
    plain_lane,
    wait_until,
    work,
)
from benchmarks.harness import MIN_ROUNDS, Comparison, Goal, Parity, prove
from benchmarks.models import proof_models
from benchmarks.traffic import percentiles
from surveillance_pipelines.commands.dagster_home import open_instance

RATE: Final = 50.0
MESSAGES: Final = 2_000
ONE_AT_A_TIME: Final = 30
ASSET: Final = "output_queue"
ANCHOR: Final = "warm"

_NOTES: Final = (
    (
        f"a round is {MESSAGES // (MIN_ROUNDS + 1)} messages of each arm, from an empty queue to the last answer; one "
        "drain run and one warm process serve all rounds"
    ),
    (
        "where the anchor executes fewer messages a second than come, its queue grows and its latency with it: "
        "one_at_a_time sends each message when the one before is answered, and anchor_execution is the call alone; so "
        "the ratio is one of capacity, and one_at_a_time_share is our latency of a single message over the anchor's"
    ),
    (
        "the anchor holds bundle, engine and connections (pooled) and logs nothing to the console; it keeps no ledger, "
        "no outbox and no history on disk"
    ),
    (
        "both lead from a message to a run and an asset event: the anchor with a run and an event for each, ours by "
        "ops.inbox.run_id and the run's materializations, which count the messages"
    ),
)


class Bench:
    """Both arms, running for the whole benchmark; each round uses one, then the other."""

    def __init__(self, lane: DagsterLane, anchor: PlainLane) -> None:
        self._lane = lane
        self._anchor = anchor
        self._names = (f"round-{i}" for i in count())
        self.rounds: list[Round] = []
        self.anchor_rounds: list[Round] = []

    def parity(self) -> Parity:
        """Compare the scores of both arms, and check that each message of ours can be traced to an asset event."""
        begun = self._lane.begin()
        theirs = self._anchor.send(self._lane.first, "first").receipts
        equal = equal_answers(list(begun.receipts.values()), list(theirs.values()))
        wait_until(lambda: not self.untraced(list(begun.sent_at)), self._lane.daemon)
        return Parity(
            passed=equal.passed,
            statement=f"{equal.statement}; each of ours has a run id in ops.inbox, and that run has a materialization "
            f"of {ASSET} that counts it",
        )

    def ours(self) -> float:
        return self._round(self._lane, self.rounds)

    def anchor(self) -> float:
        return self._round(self._anchor, self.anchor_rounds)

    def figures(self) -> Mapping[str, float]:
        rounds, anchor_rounds = self.rounds[1:], self.anchor_rounds[1:]
        sent = [id_ for one in self.rounds for id_ in one.sent_at]
        wait_until(lambda: not self.untraced(sent), self._lane.daemon)
        alone, anchor_alone = self._one_at_a_time(self._lane), self._one_at_a_time(self._anchor)
        executions = [float(line) for line in self._anchor.process.tail(10**6).splitlines() if _is_number(line)]
        return {
            **percentiles("open_loop", _seconds(rounds)),
            **percentiles("anchor_open_loop", _seconds(anchor_rounds)),
            **percentiles("one_at_a_time", alone),
            **percentiles("anchor_one_at_a_time", anchor_alone),
            "one_at_a_time_share": float(np.median(alone) / np.median(anchor_alone)),
            **percentiles("anchor_execution", executions),
            "anchor_messages_per_second": len(executions) / sum(executions),
            "messages_untraced": len(self.untraced(sent)),
            "asset_events_of_ours": self._events(sent),
        }

    def untraced(self, ids: Sequence[str]) -> list[str]:
        """Return the messages not traced to an asset event: id → run in ops.inbox → materialization of that run.

        A run's materializations count its published rows, which must cover all messages that it scored.
        """
        runs = self._runs(ids)
        with open_instance(self._lane.platform) as instance:
            events = {run: _counts(instance, run) for run in set(runs.values()) if run}
        taken = {run: sum(other == run for other in runs.values()) for run in events}
        return [
            id_ for id_ in ids if max(events.get(str(runs.get(id_)), ()), default=0) < taken.get(str(runs.get(id_)), 1)
        ]

    def _runs(self, ids: Sequence[str]) -> dict[str, str | None]:
        return {id_: run_id for id_, _, _, run_id in self._lane.inbox(ids)}

    def _events(self, ids: Sequence[str]) -> int:
        with open_instance(self._lane.platform) as instance:
            return sum(len(_counts(instance, run)) for run in set(self._runs(ids).values()) if run)

    def _round(self, lane: DagsterLane | PlainLane, rounds: list[Round]) -> float:
        rounds.append(lane.send(live_ticks(MESSAGES // (MIN_ROUNDS + 1), RATE), next(self._names)))
        return float(np.median(rounds[-1].seconds))

    def _one_at_a_time(self, lane: DagsterLane | PlainLane) -> list[float]:
        return [lane.send(live_ticks(1), next(self._names)).seconds[0] for _ in range(ONE_AT_A_TIME)]


def _counts(instance: Any, run_id: str) -> list[int]:
    """Return the cumulative number of published rows of each output-queue materialization of a run."""
    import dagster as dg

    if instance.get_run_by_id(run_id) is None:
        return []
    logs = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    found = (entry.get_dagster_event().step_materialization_data.materialization for entry in logs)
    totals = [event.metadata["since_start"].value for event in found if event.asset_key == dg.AssetKey(ASSET)]
    return [each.get("published", 0) for each in totals]


def _seconds(rounds: list[Round]) -> list[float]:
    return [second for one in rounds for second in one.seconds]


def _is_number(line: str) -> bool:
    return line.replace(".", "", 1).isdigit()


def main() -> None:
    models = proof_models()
    command = [sys.executable, "-m", f"{__package__}.warm_process"]
    with dagster_lane(models) as lane, plain_lane(lane.platform, ANCHOR, command) as plain:
        _prove(Bench(lane, plain))


def _prove(bench: Bench) -> None:
    prove(
        Comparison(
            name="p2_execute_in_process",
            work=work(MESSAGES, RATE),
            ours=OURS,
            anchor="execute_in_process for each message in a warm process, on an instance over PostgreSQL",
            distributions=("dagster", "dagster-postgres"),
            unit="s (median of a round)",
            goal=Goal(ratio=100.0, limits={"one_at_a_time_share": 1 / 8, "messages_untraced": 0.0}),
            notes=_NOTES,
        ),
        parity=bench.parity,
        ours=bench.ours,
        anchor=bench.anchor,
        figures=bench.figures,
    )


if __name__ == "__main__":
    main()
