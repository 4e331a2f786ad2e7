"""``python -m surveillance_pipelines_tests.simulation``: many seeds, or one of them in detail."""

import argparse
import sys
from pathlib import Path

from surveillance_pipelines_tests.simulation.bugs import BUGS
from surveillance_pipelines_tests.simulation.proof import described, keep_report, print_report, prove
from surveillance_pipelines_tests.simulation.schedule import run_schedule


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if everything holds that should, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Simulate the live lane under faults, by seed.")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--report", type=Path, help="where to write the counts, else beside the other proofs'")
    parser.add_argument("--seed", type=int, help="run this one only, and tell what happened")
    parser.add_argument("--bug", choices=sorted(BUGS), help="with --seed: plant this bug")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        result = run_schedule(options.seed, bug=BUGS[options.bug]) if options.bug else run_schedule(options.seed)
        sys.stdout.write("\n".join(described(result, options.bug)) + "\n")
        return 1 if result.violations else 0
    report = prove(options.seeds, workers=options.workers, first=options.first)
    keep_report(report, options.report)
    return 0 if print_report(report) else 1


if __name__ == "__main__":
    sys.exit(main())
