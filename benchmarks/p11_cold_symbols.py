"""P11: first messages of 1,000 and 5,000 symbols with eight sessions of history, compared with reading those bars once.

``python -m benchmarks.p11_cold_symbols --symbols 100`` is a small one, whose result is printed, not kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.cold_symbols import MINUTES, SESSIONS, fill_lake
from benchmarks.harness import PINNED, REPOSITORY, RESULTS, Arm, Comparison, Goal, Parity, prove
from benchmarks.live_lane import make_lane, services_of
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines_tests.storage_fixtures import service_settings

SYMBOLS: Final = 1_000
MANY: Final = 5_000
_LIMITS: Final = {"peak_mb_at_5000": 1_024.0, "snapshots_s": 2.0, "new_symbol_ms": 50.0, "invented_ms": 50.0}
_NOTES: Final = (
    "both arms take the messages from memory; ours also decodes, scores and commits them, the anchor does not",
    "each arm is a process of its own; its cost is the time of the work, without imports",
    (
        "one new symbol arrives after the histories of the others have been dropped, as after minutes without a new "
        "one; first_new_symbol_ms is the first one after a restart from snapshots, which also reads its peers' closes"
    ),
    "the anchor leaves out the bare loop of the target, which P3 measures",
    (
        "attempts, kept: feature snapshots without compression; histories compressed in the thread that commits; "
        "commits beside the scoring of the next batch, as in a drain run"
    ),
    (
        "profile of the engine's thread: the histories of the lake, the features and the scoring take about a third "
        "each, and no single function much"
    ),
)


class Bench:
    """One lake, and a fresh database for each start."""

    def __init__(self, found: EmbeddedServices, folder: Path, symbols: int) -> None:
        self._found, self._folder, self._symbols = found, folder, symbols
        self._lake: Final = folder / f"lake-{symbols}"
        self.last: dict[str, float] = {}
        fill_lake(Lake(str(self._lake)), symbols)

    def ours(self) -> float:
        self.last = self.run("ours")
        return self.last["seconds"]

    def anchor(self) -> float:
        return self.run("anchor")["seconds"]

    def run(self, arm: str) -> dict[str, float]:
        url = make_lane(self._found, self._folder, None).endpoints.database_url if arm == "ours" else "none"
        command = [sys.executable, "-m", "benchmarks.cold_symbols", arm, str(self._lake), url, str(self._symbols)]
        done = subprocess.run(
            command, env=os.environ | PINNED, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"expected {arm} with {self._symbols} symbols to succeed, it said: {done.stderr[-3000:]}"
            )
        return json.loads(done.stdout.splitlines()[-1])


def compare(bench: Bench, figures: Any, symbols: int, results: Path) -> dict[str, Any]:
    """Run the rounds and write the result."""
    bars = symbols * MINUTES * SESSIONS
    ours: Arm = bench.ours
    limits = {name: limit for name, limit in _LIMITS.items() if symbols == SYMBOLS or "_at_" not in name}
    return prove(
        Comparison(
            name="p11_polars_read",
            work=f"from the first message to the last of {symbols:,} symbols committed, {bars:,} bars in the lake",
            ours="LakeHistory, PostgresStore, Engine, ten messages a batch",
            anchor="polars: the same bars read once, all columns",
            distributions=("polars", "deltalake"),
            unit="s",
            goal=Goal(ratio=0.5, limits=limits),
            notes=_NOTES,
        ),
        parity=lambda: Parity(
            passed=bench.run("anchor")["rows"] == bars, statement=f"the anchor reads {bars:,} bars, those of the lake"
        ),
        ours=ours,
        anchor=bench.anchor,
        figures=figures,
        results=results,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    symbols = parser.parse_args(arguments).symbols
    with tempfile.TemporaryDirectory(prefix="proof-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        with services_of(service_settings(folder / "home")) as found:
            bench = Bench(found, folder, symbols)

            def figures() -> Mapping[str, float]:
                measured = {name: value for name, value in bench.last.items() if name != "seconds"}
                if symbols != SYMBOLS:
                    return measured
                many = Bench(found, folder, MANY).run("ours")
                return measured | {"seconds_at_5000": many["seconds"], "peak_mb_at_5000": many["peak_mb"],
                                   "snapshots_at_5000_s": many["snapshots_s"], "kb_per_symbol": many["kb_per_symbol"],
                                   }  # fmt: skip

            print(json.dumps(compare(bench, figures, symbols, RESULTS if symbols == SYMBOLS else folder / "proof")))


if __name__ == "__main__":
    main()
