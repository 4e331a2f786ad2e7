"""Run benchmarks and write the report: ``python -m benchmarks [p5 …]``; without arguments, run all of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import PINNED, REPOSITORY
from benchmarks.report import write_report


def benches() -> dict[str, str]:
    """Return target → module of every benchmark, that is, every file of this folder named ``<letter><number>_…``."""
    files = [path.stem for path in Path(__file__).parent.glob("*.py") if re.match(r"[a-z]\d+_", path.stem)]
    return {stem.partition("_")[0]: stem for stem in sorted(files, key=_order)}


def main(wanted: list[str]) -> int:
    """Run each benchmark in a separate process with one thread per library, write the report, and return the status."""
    known = benches()
    if unknown := sorted(set(wanted) - set(known)):
        print(f"expected benchmarks among {', '.join(known)}, got {', '.join(unknown)}")
        return 2
    failed = [target for target in wanted or known if _run(known[target]) != 0]
    print(f"report: {write_report().relative_to(REPOSITORY)}")
    if failed:
        print(f"failed: {failed}")
    return 1 if failed else 0


def _run(stem: str) -> int:
    command = [sys.executable, "-m", f"benchmarks.{stem}"]
    return subprocess.run(command, env={**os.environ, **PINNED}, cwd=REPOSITORY, check=False).returncode


def _order(stem: str) -> tuple[str, int]:
    target = stem.partition("_")[0]
    return target[0], int(target[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
