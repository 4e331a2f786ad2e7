"""Counts and latencies of a long-running run, reported every few seconds and at the end (MON-08).

A drain run always reports two latencies separately: *compute* is the time for features and models of one micro-batch in
the warm process; *queue to queue* is the time from SQS's SentTimestamp to publication, for each input with an output.
"""

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.engine.effects import Effects
from surveillance_pipelines.engine.scoring_rows import OUTSIDE_TRAINING
from surveillance_pipelines.stores.outbox import OutboxRow

StopReason = Literal["window", "idle", "signal", "lease_held", "lease_lost"]

KEPT_SAMPLES: Final = 20_000
"""Number of newest samples kept per latency: enough for a stable 99th percentile, at most 160 kB."""

COMPUTE: Final = "process"
QUEUE_TO_QUEUE: Final = "queue_to_queue"


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds over ``samples`` measurements."""

    p50: float
    p95: float
    p99: float
    maximum: float
    samples: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts and latencies since the start of the run, and since the previous report (``interval…``)."""

    totals: dict[str, int]
    interval: dict[str, int]
    latency: dict[str, Latency]
    interval_latency: dict[str, Latency]


@dataclass(frozen=True, slots=True)
class DrainReport:
    """Progress of a drain run. Counts and latencies of ``interval`` are since the previous report.

    Attributes:
        totals: count by name: messages (received), each of which becomes one of scored, late, dead, duplicate,
            redelivered; finished (deletion requested from the queue); bars, revisions, clock_rows; opened, confirmed,
            retracted, outside_training (rows of alerts whose bar is outside the training data of the models), signals,
            scores, fallback; published, delete_refused.
        latency: percentiles by step (load, seed, process, commit, publish, mark, delete) and of queue_to_queue.
        stopped_by: why the run ended; None while it serves.
    """

    queue_url: str
    run_id: str | None
    bundle_hash: str
    warmup: bool
    seconds: float
    totals: dict[str, int]
    interval: dict[str, int]
    latency: dict[str, Latency]
    interval_latency: dict[str, Latency]
    stopped_by: StopReason | None = None

    @property
    def messages_per_second(self) -> float:
        return self.totals.get("messages", 0) / self.seconds if self.seconds > 0 else 0.0

    @property
    def anomaly_rate(self) -> float:
        """Share of final bars that were confirmed as anomalies."""
        bars = self.totals.get("bars", 0)
        return self.totals.get("confirmed", 0) / bars if bars else 0.0

    @property
    def fallback_rate(self) -> float:
        """Share of scores with a fallback for a missing input or an excluded model."""
        scores = self.totals.get("scores", 0)
        return self.totals.get("fallback", 0) / scores if scores else 0.0


class Meter:
    """Collects counts and durations. Thread-safe."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._totals: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._samples: dict[str, deque[float]] = {}
        self._interval_samples: dict[str, deque[float]] = {}

    def observe(self, name: str, seconds: float) -> None:
        """Record one duration of a step."""
        with self._lock:
            self._observe(name, seconds)

    def count(self, name: str, number: int) -> None:
        """Add to a count."""
        with self._lock:
            self._totals[name] += number

    def published(self, rows: Sequence[OutboxRow], sent_at: Mapping[str, int], now_us: int) -> None:
        """Count published messages, and record the time since their inputs were sent; ``sent_at``: row id → instant."""
        with self._lock:
            self._totals["published"] += len(rows)
            for row in rows:
                if row.id in sent_at:
                    self._observe(QUEUE_TO_QUEUE, (now_us - sent_at[row.id]) / MICROSECONDS)

    def received(self, messages: int) -> None:
        """Count messages received."""
        self.count("messages", messages)

    def finished(self, messages: int) -> None:
        """Count finished messages; each of them has an outcome."""
        self.count("finished", messages)

    def committed(self, effects: Effects) -> None:
        """Count the committed effects of a micro-batch or of the clock."""
        with self._lock:
            totals = self._totals
            totals["redelivered"] += len(effects.redelivered)
            totals["clock_rows"] += len(effects.clock_rows)
            totals.update(row.outcome for row in effects.outcomes)
            self._count_outputs(effects)

    def report(
        self,
        *,
        queue_url: str,
        run_id: str | None,
        bundle_hash: str,
        warmup: bool,
        seconds: float,
        stopped_by: StopReason | None = None,
    ) -> DrainReport:
        """Return the progress of a drain run, and start a new interval."""
        figures = self.figures()
        return DrainReport(
            queue_url=queue_url,
            run_id=run_id,
            bundle_hash=bundle_hash,
            warmup=warmup,
            seconds=seconds,
            totals=figures.totals,
            interval=figures.interval,
            latency=figures.latency,
            interval_latency=figures.interval_latency,
            stopped_by=stopped_by,
        )

    def figures(self) -> Figures:
        """Return the counts and latencies, and start a new interval."""
        with self._lock:
            totals, interval = dict(self._totals), self._totals - self._reported
            self._reported = self._totals.copy()
            samples = {name: list(values) for name, values in self._samples.items()}
            interval_samples, self._interval_samples = self._interval_samples, {}
        return Figures(
            totals=totals,
            interval=dict(interval),
            latency={name: _latency(values) for name, values in samples.items()},
            interval_latency={name: _latency(values) for name, values in interval_samples.items()},
        )

    def _observe(self, name: str, seconds: float) -> None:
        for samples in (self._samples, self._interval_samples):
            samples.setdefault(name, deque(maxlen=KEPT_SAMPLES)).append(seconds * 1_000.0)

    def _count_outputs(self, effects: Effects) -> None:
        totals = self._totals
        totals["bars"] += sum(bar.revision == 0 for bar in effects.bars)
        totals["revisions"] += sum(bar.revision > 0 for bar in effects.bars)
        totals.update(row.alert_status for row in effects.anomalies)
        totals.update(f"incidents_{row.incident_status}" for row in effects.incidents)
        totals["outside_training"] += sum(OUTSIDE_TRAINING in row.explanation for row in effects.anomalies)
        totals["signals"] += len(effects.signals)
        totals["scores"] += effects.scored
        totals["fallback"] += effects.fallbacks


def _latency(samples: Sequence[float]) -> Latency:
    p50, p95, p99 = np.percentile(np.fromiter(samples, dtype=np.float64), (50, 95, 99))
    return Latency(float(p50), float(p95), float(p99), max(samples), len(samples))
