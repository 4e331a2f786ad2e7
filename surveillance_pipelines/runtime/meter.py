"""What a drain run counts and how long its steps take; a report of both, every few seconds and at the end (MON-08).

Two latencies, always apart: *compute* is features and models in the warm process for one micro-batch, *queue to queue*
is SQS's SentTimestamp to publication, for each message that caused one.
"""

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.engine.effects import Effects
from surveillance_pipelines.stores.outbox import OutboxRow

StopReason = Literal["window", "idle", "signal", "lease_held", "lease_lost"]

KEPT_SAMPLES: Final = 20_000
"""Per latency, the newest: enough for a steady 99th percentile, 160 kB at most."""

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
class DrainReport:
    """Where a drain run stands. Counts and latencies of ``interval`` are since the report before.

    Attributes:
        totals: count by name: messages (received), of which each becomes one of scored, late, dead, duplicate,
            redelivered; finished (deleted from the queue, or refused there); bars, revisions, clock_rows; opened,
            confirmed, retracted, signals, scores, fallback; published, delete_refused.
        latency: percentiles by step (load, seed, process, commit, publish, mark, delete) and of queue_to_queue.
        stopped_by: why the run ended, None while it goes on.
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
        """Share of scores that rest on a substitute for a missing input."""
        scores = self.totals.get("scores", 0)
        return self.totals.get("fallback", 0) / scores if scores else 0.0


class Meter:
    """Collects counts and durations; knows no clock. Safe for several threads."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._totals: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._samples: dict[str, deque[float]] = {}
        self._interval_samples: dict[str, deque[float]] = {}

    def took(self, name: str, seconds: float) -> None:
        """Record how long something took."""
        with self._lock:
            self._took(name, seconds)

    def count(self, name: str, number: int) -> None:
        """Add to a count."""
        with self._lock:
            self._totals[name] += number

    def published(self, rows: Sequence[OutboxRow], sent_at: Mapping[str, int], now_us: int) -> None:
        """Count messages sent, and how long ago SQS took in those that caused them: row id → instant."""
        with self._lock:
            self._totals["published"] += len(rows)
            for row in rows:
                if row.id in sent_at:
                    self._took(QUEUE_TO_QUEUE, (now_us - sent_at[row.id]) / MICROSECONDS)

    def received(self, messages: int) -> None:
        """Count messages that came in."""
        self.count("messages", messages)

    def finished(self, messages: int) -> None:
        """Count messages that are through: each of them must have an outcome by now."""
        self.count("finished", messages)

    def committed(self, effects: Effects) -> None:
        """Count what is committed of a micro-batch, or of what the clock has closed."""
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
        """Return where the run stands, and begin the next interval."""
        with self._lock:
            totals, interval = dict(self._totals), self._totals - self._reported
            self._reported = self._totals.copy()
            samples = {name: list(values) for name, values in self._samples.items()}
            interval_samples, self._interval_samples = self._interval_samples, {}
        return DrainReport(
            queue_url=queue_url,
            run_id=run_id,
            bundle_hash=bundle_hash,
            warmup=warmup,
            seconds=seconds,
            totals=totals,
            interval=dict(interval),
            latency={name: _latency(values) for name, values in samples.items()},
            interval_latency={name: _latency(values) for name, values in interval_samples.items()},
            stopped_by=stopped_by,
        )

    def _took(self, name: str, seconds: float) -> None:
        for samples in (self._samples, self._interval_samples):
            samples.setdefault(name, deque(maxlen=KEPT_SAMPLES)).append(seconds * 1_000.0)

    def _count_outputs(self, effects: Effects) -> None:
        totals = self._totals
        totals["bars"] += sum(bar.revision == 0 for bar in effects.bars)
        totals["revisions"] += sum(bar.revision > 0 for bar in effects.bars)
        totals.update(row.alert_status for row in effects.anomalies)
        totals["signals"] += len(effects.signals)
        totals["scores"] += effects.scored
        totals["fallback"] += effects.fallbacks


def _latency(samples: Sequence[float]) -> Latency:
    p50, p95, p99 = np.percentile(np.fromiter(samples, dtype=np.float64), (50, 95, 99))
    return Latency(float(p50), float(p95), float(p99), max(samples), len(samples))
