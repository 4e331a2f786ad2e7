"""Symbols that arrive one by one or return after a restart, in a process of its own, so that its memory is its own.

``python -m benchmarks.cold_symbols ours|anchor LAKE DATABASE_URL SYMBOLS`` prints the costs of our engine, or of
reading the lake once, as JSON. The messages come from memory: one tick per symbol, ten a batch, each batch seeded,
scored and committed as in a drain run.
"""

import itertools
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from surveillance_pipelines.clock import MICROSECONDS, to_us
from surveillance_pipelines.contracts.frames import BAR_SCHEMA, UTC_MICROSECONDS, session_rows
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.stores.lake import Lake

SESSIONS: Final = 8
MINUTES: Final = 390
FIRST_DAY: Final = date(2024, 3, 4)
BATCH: Final = 10
VIEW: Final = "core_v2"
SINGLE: Final = 5
"""Symbols that arrive one by one; their figures are medians."""
_MINUTE: Final = timedelta(minutes=1)


def trading_days(count: int) -> list[date]:
    """Return weekdays."""
    days = (FIRST_DAY + timedelta(days=number) for number in range(2 * count + 2))
    return [day for day in days if day.weekday() < 5][:count]


def names_of(symbols: int) -> list[str]:
    return [f"S{number:05d}" for number in range(symbols)]


def opening(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC)


def fill_lake(lake: Lake, symbols: int, seed: int = 3) -> None:
    """Write eight sessions of minute bars that were never served, one commit per day."""
    rng, names = np.random.default_rng(seed), names_of(symbols)
    price = 100.0 * np.exp(rng.normal(0, 0.5, symbols))
    for day in trading_days(SESSIONS):
        paths = price[:, None] * np.exp(np.cumsum(rng.normal(0, 4e-4, (symbols, MINUTES)), axis=1))
        closes = np.round(paths, 4)
        starts = pl.datetime_range(opening(day), interval="1m", end=opening(day) + (MINUTES - 1) * _MINUTE, eager=True)
        frame = pl.DataFrame(
            {
                "symbol": np.repeat(names, MINUTES),
                "bar_start": pl.concat([starts.cast(UTC_MICROSECONDS)] * symbols),
                "open": np.roll(closes, 1, axis=1).ravel(),
                "high": closes.ravel() * 1.001,
                "low": closes.ravel() * 0.999,
                "close": closes.ravel(),
                "volume": np.round(rng.lognormal(8, 1, symbols * MINUTES)),
            }
        )
        bars = complete_bars(frame, source="file", adjustment="none", timeframe="1m", batch_id="proof")
        lake.write_days("bars_1m", bars, days=[day])
        price = closes[:, -1]


def session_frame() -> pl.DataFrame:
    """Return the sessions of the history and the next two, rows of ``SESSION_SCHEMA``."""
    days = trading_days(SESSIONS + 2)
    return session_rows(
        ("XNYS", day, to_us(opening(day)), to_us(opening(day)) + MINUTES * 60 * MICROSECONDS) for day in days
    )


def messages(names: list[str], first: int = 0) -> list[Received]:
    """Return one tick per symbol in the first minute after the history."""
    at = to_us(opening(trading_days(SESSIONS + 1)[-1])) + 5 * MICROSECONDS
    return [
        Received(
            message_id=f"m{number:06d}", body=encode_tick(Tick(name, 100.0, 10.0, at)), group_id=name,
            dedup_id=f"d{number:06d}", sequence_number=f"{number:020d}", sent_at=at, received_at=at + 1000,
            receive_count=1, receipt_handle=f"r{number:06d}",
        )
        for number, name in enumerate(names, start=first)
    ]  # fmt: skip


def peak_mb(process: int | str = "self") -> float:
    """Return the peak memory of a program; ``ru_maxrss`` would include that of the process that started it."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


class Queue:
    """Serves messages as a drain run does, without a queue server.

    Args:
        lake: lake with the histories.
        connections: those of a drain run, to a database that has never served.
        names: the instruments.
    """

    def __init__(self, lake: Lake, connections: Any, names: list[str]) -> None:
        from surveillance_pipelines.stores.lease import acquire

        lease = acquire(connections.main.get(), "cold", holder="proof", seconds=3600)
        assert lease is not None
        self._lake, self._connections, self._lease, self._names = lake, connections, lease, names
        self._numbers, self._fresh = itertools.count(1), itertools.count(len(names))
        self.start()

    def start(self) -> None:
        """Start a run that has no symbols."""
        from surveillance_pipelines.engine.engine import Engine, engine_config
        from surveillance_pipelines.models.warmup import WarmupRules
        from surveillance_pipelines.stores.live_store import PostgresStore
        from surveillance_pipelines_tests.engine.market import plain_settings

        class Rules(WarmupRules):
            feature_view = VIEW

        rules = Rules()
        self.store = PostgresStore(self._connections, self._lake, self._lease, feature_view=VIEW)
        sessions = SessionTable.from_frame(session_frame())
        self.engine = Engine(engine_config(plain_settings(), rules), rules, sessions, self._names)

    def restore(self) -> float:
        """Restore all symbols from their snapshots, and return the seconds."""
        begin = time.perf_counter()
        for symbol, seed in self.store.served().items():
            self.engine.seed(symbol, seed)
        return time.perf_counter() - begin

    def serve_all(self, batches: Iterable[list[Received]]) -> None:
        """Seed, score and commit batches; commits run in a thread of their own, as in a drain run."""
        from surveillance_pipelines.runtime.shell import STAGE_CAPACITY
        from surveillance_pipelines.runtime.tasks import ThreadTasks

        def commit(waiting: list[Callable[[], object]]) -> None:
            for each in waiting:
                each()

        tasks = ThreadTasks()
        stage = tasks.stage("commit", commit, capacity=STAGE_CAPACITY)
        for batch in batches:
            stage.submit(self._score(batch))
        tasks.finish()

    def serve(self, batch: list[Received]) -> float:
        """Seed, score and commit a batch, and return the seconds."""
        begin = time.perf_counter()
        self._score(batch)()
        return time.perf_counter() - begin

    def _score(self, batch: list[Received]) -> Callable[[], object]:
        """Seed and score a batch; return the call that commits it."""
        store, engine = self.store, self.engine
        number = next(self._numbers)
        known, decoded = store.record_received(number, batch, done=[]), engine.read(batch)
        wanted = engine.symbols_to_seed(decoded)
        for symbol, seed in store.history(wanted, feature_view=engine.feature_view).items():
            engine.seed(symbol, seed)
        effects = engine.process(decoded, known)
        effects.computed_at = batch[-1].received_at
        at = effects.computed_at
        return lambda: store.commit(effects.stamped(committed_at=at), [], committed_at=at, number=number)

    def serve_one(self, name: str) -> float:
        """Serve the first message of one symbol long after any other, and return the milliseconds."""
        self.store.forget_history()
        return 1e3 * self.serve(messages([name], first=next(self._fresh)))


def ours(lake: Lake, database_url: str, symbols: int) -> dict[str, float]:
    """Start all symbols but a few, then these one by one, then invented ones; after a restart, the last symbol."""
    from surveillance_pipelines.features.state import warm_up
    from surveillance_pipelines.stores.live_store import Connections

    names, invented = names_of(symbols), [f"INVENTED{number}" for number in range(SINGLE + 1)]
    warm_up()
    with ExitStack() as stack:
        queue = Queue(lake, Connections.open(stack, database_url), [*names, *invented])
        arrivals = messages(names[: -SINGLE - 1])
        before, cpu = rss_mb(), time.process_time()
        queue.serve_all(arrivals[start : start + BATCH] for start in range(0, len(arrivals), BATCH))
        found = {"cpu_s": time.process_time() - cpu}
        queue.store.forget_history()
        found["kb_per_symbol"] = (rss_mb() - before) * 1024 / symbols
        cpu = time.process_time()
        found["new_symbol_ms"] = statistics.median(map(queue.serve_one, names[-SINGLE - 1 : -1]))
        found["new_symbol_cpu_ms"] = 1e3 * (time.process_time() - cpu) / SINGLE
        found["first_invented_ms"] = queue.serve_one(invented[0])
        found["invented_ms"] = statistics.median(map(queue.serve_one, invented[1:]))
        queue.start()
        found["snapshots_s"] = queue.restore()
        found["first_new_symbol_ms"] = queue.serve_one(names[-1])
        return found


def anchor(lake: Lake) -> dict[str, float]:
    """Read the same bars once with polars."""
    begin = time.perf_counter()
    bars = lake.scan("bars_1m").select(BAR_SCHEMA.names()).collect()
    return {"seconds": time.perf_counter() - begin, "rows": bars.height, "peak_mb": peak_mb()}


def main(arguments: list[str]) -> None:
    arm, lake, database_url, symbols = arguments
    done: Any = ours(Lake(lake), database_url, int(symbols)) if arm == "ours" else anchor(Lake(lake))
    print(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1:])
