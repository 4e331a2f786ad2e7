"""A backlog drained by drain runs: ``python -m benchmarks.backlog [--messages 2000 --shallow 500]``.

One queue of 2,000 waiting messages, one of 50,000, and ten of 5,000, each drained by a drain run. Of the messages, 10%
are malformed, one for each code of refusal in turn, the too large ones of 250 kB, and 1% are late. The benchmark's own
producer knows the outcome of each message; its own consumer reads the output queue meanwhile.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import counted
from benchmarks.live_lane import services
from benchmarks.models import proof_models
from benchmarks.queue_depth import DEEP, LARGE_BYTES, MAX_RATIO, QUEUES, SHALLOW
from benchmarks.queue_drains import SYMBOLS_PER_QUEUE, Drain, drain_queues, load_sentence
from benchmarks.waiting_messages import BAD_SHARE, LATE_SHARE, MALFORMATIONS, TICKS_PER_BAR

WARM_UP: Final = 200
"""Messages of a first load, which is not measured: files in the page cache, connections of the services."""


def prove(deep: int, shallow: int) -> dict[str, Any]:
    """Drain the three loads and return the content of the result."""
    loads = {
        f"one queue of {shallow:,}": [shallow],
        f"one queue of {deep:,}": [deep],
        f"{QUEUES} queues of {deep // QUEUES:,}": [deep // QUEUES] * QUEUES,
    }
    models, drains = proof_models(), {}
    with services() as found, tempfile.TemporaryDirectory() as folder:
        drain_queues(found, Path(folder), models, [WARM_UP], name="warm-up")
        for name, sizes in loads.items():
            drains[name] = drain_queues(found, Path(folder), models, sizes, name=name)
            print(f"  {name}: {drains[name].sentence}", flush=True)
    return summary(drains)


def summary(drains: dict[str, Drain]) -> dict[str, Any]:
    """Return the content of the result; the loads are the shallow queue, the deep one and the ten queues."""
    shallow, deep, ten = drains.values()
    ratios = {"deep / shallow": deep.cpu_ms / shallow.cpu_ms, "deep / ten queues": deep.cpu_ms / ten.cpu_ms}
    times = {
        "deep / shallow": shallow.per_second / deep.per_second,
        "deep / ten queues": ten.per_second / deep.per_second,
    }
    return {
        "work": f"{', '.join(drains)}, a drain run for each queue, all runs at once; {SYMBOLS_PER_QUEUE} symbols per "
        f"queue, {TICKS_PER_BAR} ticks per bar; {BAD_SHARE:.0%} malformed with {len(MALFORMATIONS)} codes, of these one"
        f" in {len(MALFORMATIONS)} of {LARGE_BYTES // 1_000} kB; {LATE_SHARE:.0%} late; an own producer and consumer",
        "goal": "each message has its planned outcome, its rows or its dead letter exactly once, in order; CPU of the "
        f"drain runs per message in one deep queue ≤ {MAX_RATIO}× that in a shallow one and in ten queues",
        "found": [
            *(f"{name}: {one.sentence}" for name, one in drains.items()),
            "CPU per message: " + "; ".join(f"{name}: {ratio:.2f}×" for name, ratio in ratios.items()),
            "time per message: " + "; ".join(f"{name}: {ratio:.2f}×" for name, ratio in times.items()),
            load_sentence(),
        ],
        "met": all(one.is_sound for one in drains.values()) and max(ratios.values()) <= MAX_RATIO,
        "figures": {
            "drains": {name: asdict(one) | {"per_second": one.per_second} for name, one in drains.items()},
            "cpu_ratios": ratios,
            "time_ratios": times,
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all goals are met, else 1."""
    parser = argparse.ArgumentParser(description="Drain a shallow queue, a deep one, and ten queues.")
    parser.add_argument("--messages", type=int, default=DEEP, help="messages of the deep queue, and of ten queues")
    parser.add_argument("--shallow", type=int, default=SHALLOW, help="messages of the shallow queue")
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    return 0 if counted("backlog", path=options.result, **prove(options.messages, options.shallow))["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
