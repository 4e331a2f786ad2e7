"""A loop that encodes JSON and shares nothing: how much CPU time processes side by side cost on this machine.

``python -m benchmarks.plain_loop`` runs it once and prints its CPU seconds.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Final

from benchmarks.harness import PINNED, REPOSITORY

VALUES: Final = 20_000
ROUNDS: Final = 60


def cpu_seconds(processes: int) -> float:
    """Return the mean CPU seconds of so many loops at once, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.plain_loop"]
    running = [
        subprocess.Popen(command, env=os.environ | PINNED, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return statistics.mean(float(process.communicate()[0]) for process in running)


def main() -> None:
    values = {number: str(number) for number in range(VALUES)}
    begin = time.process_time()
    for _ in range(ROUNDS):
        for pair in values.items():
            json.dumps(pair)
    print(time.process_time() - begin)


if __name__ == "__main__":
    main()
