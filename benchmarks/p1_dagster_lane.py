"""P1: queue-to-queue latency under Dagster: the drain run, and a sensor that requests one run per message."""

import random
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from typing import Final

import numpy as np

from benchmarks.dagster_lane import (
    OURS,
    DagsterLane,
    PlainLane,
    Round,
    daemon_arguments,
    dagster_lane,
    equal_answers,
    live_ticks,
    plain_lane,
    work,
)
from benchmarks.harness import MIN_ROUNDS, Comparison, Goal, Parity, prove
from benchmarks.models import proof_models
from benchmarks.traffic import percentiles
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, to_us

RATE: Final = 50.0
MESSAGES: Final = 2_000
ANCHOR_MESSAGES: Final = 24
"""Messages of all rounds, including the dropped one."""

COMPARED: Final = 3
"""Messages compared for parity: the anchor's runs start without history, so only a symbol's first message is equal."""

SENSOR_SECONDS: Final = 5.0
"""Minimum interval of sensor evaluations in Dagster's daemon."""

ANCHOR: Final = "plain"

_NOTES: Final = (
    (
        f"a round is {MESSAGES // (MIN_ROUNDS + 1)} messages of ours, then {ANCHOR_MESSAGES // (MIN_ROUNDS + 1)} of "
        "the anchor, each sent when the one before is answered, at a random moment between two looks of its sensor; "
        "one drain run and one daemon of each arm serve all rounds, and no handover lies in between; percentiles are "
        "over all rounds but the dropped one"
    ),
    (
        "the anchor's op uses the same bundle and engine in a run of its own: default run coordinator (no run queue), "
        "pooled connections, minimum_interval_seconds=1; it keeps no ledger, no outbox and no history"
    ),
    (
        "both arms and both consumers poll for long; the embedded queue server answers when a message comes, as SQS "
        "does (attempt 1, kept: the emulator by itself looks every 100 ms, with which p50 was 115 ms)"
    ),
    (
        "t_published is the instant before the call that sends; producer_late is how far the producer was behind its "
        "schedule, which no latency here includes"
    ),
)


class Bench:
    """Both arms, running for the whole benchmark; each round uses one, then the other."""

    def __init__(self, lane: DagsterLane, anchor: PlainLane) -> None:
        self._lane = lane
        self._anchor = anchor
        self._names = (f"round-{i}" for i in count())
        self._moments = random.Random(1)
        self.rounds: list[Round] = []
        self.anchor_seconds: list[float] = []

    def parity(self) -> Parity:
        ours = list(self._lane.begin().receipts.values())
        theirs = self._anchor.send(self._lane.first[:COMPARED], "first").receipts
        return equal_answers(ours[:COMPARED], list(theirs.values()))

    def ours(self) -> float:
        self.rounds.append(self._lane.send(live_ticks(MESSAGES // (MIN_ROUNDS + 1), RATE), next(self._names)))
        return float(np.median(self.rounds[-1].seconds))

    def anchor(self) -> float:
        """Send one message after another, each at a random moment between two evaluations of the sensor."""
        seconds: list[float] = []
        for _ in range(ANCHOR_MESSAGES // (MIN_ROUNDS + 1)):
            SYSTEM_CLOCK.sleep(self._moments.uniform(0.0, SENSOR_SECONDS))
            seconds += self._anchor.send(live_ticks(1), next(self._names)).seconds
        self.anchor_seconds += seconds
        return float(np.median(seconds))

    def figures(self) -> Mapping[str, float]:
        """Return percentiles over all rounds except the first, and a breakdown of the latency."""
        rounds = self.rounds[1:]
        per_round = len(self.anchor_seconds) // len(self.rounds)
        p50, p99 = percentiles("", [second for one in rounds for second in one.seconds]).values()
        return {
            "p50_ms": p50,
            "p99_ms": p99,
            **percentiles("sent_to_received", self._received(rounds)),
            **percentiles("sent_to_published", _between(rounds, "t_published")),
            **percentiles("received_to_published", _between(rounds, "t_published", "t_received")),
            **percentiles("published_to_receipt", _since_publication(rounds)),
            **percentiles("producer_late", _late(rounds)),
            **percentiles("anchor", self.anchor_seconds[per_round:]),
            "messages": sum(len(one.sent_at) for one in rounds),
            "anchor_messages": len(self.anchor_seconds) - per_round,
        }

    def _received(self, rounds: list[Round]) -> list[float]:
        ids = [id_ for one in rounds for id_ in one.sent_at]
        found = self._lane.inbox(ids)
        return [(to_us(received_at) - to_us(sent_at)) / MICROSECONDS for _, sent_at, received_at, _ in found]


def _between(rounds: list[Round], name: str, since: str | None = None) -> list[float]:
    """Return the seconds from one instant of the results, or from SQS's SentTimestamp, to another."""
    return [
        (_instant(one, id_, name) - (sent_at if since is None else _instant(one, id_, since))) / MICROSECONDS
        for one in rounds
        for id_, sent_at in one.sent_at.items()
    ]


def _since_publication(rounds: list[Round]) -> list[float]:
    """Return the seconds that the results spent on the output queue."""
    return [
        (one.receipts[id_].at - _instant(one, id_, "t_published")) / MICROSECONDS
        for one in rounds
        for id_ in one.sent_at
    ]


def _late(rounds: list[Round]) -> list[float]:
    """Return the seconds between the due times of the messages and SQS's SentTimestamp."""
    return [
        (sent_at - _instant(one, id_, "event_time")) / MICROSECONDS
        for one in rounds
        for id_, sent_at in one.sent_at.items()
    ]


def _instant(one: Round, id_: str, name: str) -> int:
    return to_us(datetime.fromisoformat(one.receipts[id_].row[name]))


def main() -> None:
    models = proof_models()
    with (
        dagster_lane(models) as lane,
        plain_lane(lane.platform, ANCHOR, daemon_arguments(lane.platform, ANCHOR)) as plain,
    ):
        _prove(Bench(lane, plain))


def _prove(bench: Bench) -> None:
    prove(
        Comparison(
            name="p1_sensor_runs",
            work=work(MESSAGES, RATE),
            ours=OURS,
            anchor=f"a sensor that asks for a run for each message, {ANCHOR_MESSAGES} messages one after another",
            distributions=("dagster", "dagster-postgres"),
            unit="s (median of a round)",
            goal=Goal(ratio=300.0, limits={"p50_ms": 10.0, "p99_ms": 50.0}),
            notes=_NOTES,
        ),
        parity=bench.parity,
        ours=bench.ours,
        anchor=bench.anchor,
        figures=bench.figures,
    )


if __name__ == "__main__":
    main()
