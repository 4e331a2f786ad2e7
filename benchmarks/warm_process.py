"""The anchor of P2: a warm process that calls ``execute_in_process`` for each message until it is stopped.

``python -m benchmarks.warm_process`` reads the same variables as the platform's own processes,
and prints the seconds of each execution, one a line.
"""

import json
import time
from dataclasses import asdict

import dagster as dg

from benchmarks.anchor_location import message_job, run_config, warm_scorer
from benchmarks.plain_scoring import HIDDEN_SECONDS


def main() -> None:
    """Serve the queue."""
    scorer = warm_scorer()
    with dg.DagsterInstance.get() as instance:
        while True:
            for message in scorer.inputs.receive(10, wait_seconds=1, visibility_seconds=HIDDEN_SECONDS):
                begin = time.perf_counter()
                message_job.execute_in_process(instance=instance, run_config=run_config(json.dumps(asdict(message))))
                print(f"{time.perf_counter() - begin:.6f}", flush=True)


if __name__ == "__main__":
    main()
