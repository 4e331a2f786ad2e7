"""R7: homes that are damaged, copied, shared or killed: ``python -m benchmarks.homes [damages|sharing|kills]``.

Each case starts from a copy of one stopped home with two champions, a lake and one symbol that trades at all hours. It
records what the home does afterwards and what its user was told, and whether that was true.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import COUNTS, counted
from benchmarks.home_damages import Damaged, damages
from benchmarks.home_kills import KILLS, kill_case
from benchmarks.home_sharing import SHARING
from benchmarks.home_under_test import Answer, Home, make_home
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK
from surveillance_pipelines.contracts.errors import SurveillanceError
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle

TICKS: Final = 5


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        part: damages, sharing or kills.
        case: name.
        state: what the home did afterwards.
        reported: what the user was told.
        passed: whether the state is right and the report is true.
        seconds: duration of the case.
    """

    part: str
    case: str
    state: str
    reported: str
    passed: bool
    seconds: float


def damage_case(base: Home, case: Damaged, scratch: Path) -> tuple[str, str, bool]:
    """Damage a copy, send ticks, serve them, and read what ``status`` and ``doctor`` print."""
    home = Home(base.copy(scratch / "home").path, **case.knobs)
    try:
        case.damage(home)
        status, doctor = home.command("status"), home.command("doctor")
        served = _served(home)
        state = "nothing was scored" if served is None else f"scored with {served[:12]}"
        as_wanted = served is None if case.bundle is None else (served or "").startswith(case.bundle)
        told = (status.text + doctor.text).replace("\n", " ")
        is_true = case.says in told and ("Traceback" not in told) and (bool(case.says) or _is_content(status))
        return state, _told(status, doctor, case.says), as_wanted and is_true
    finally:
        home.end_all()


def _served(home: Home) -> str | None:
    """Return the bundle that scored new ticks; None if none was scored."""
    try:
        home.send(TICKS)
    except SurveillanceError:  # the services do not start
        return None
    home.drain()
    rows = home.rows("SELECT bundle_hash FROM ops.served_bundles ORDER BY id DESC LIMIT 1")
    scored = home.rows("SELECT count(*) FROM ops.ledger WHERE outcome = 'scored'")[0][0]
    return rows[0][0] if rows and scored else None


def _is_content(status: Answer) -> bool:
    return status.code == 0


def _told(status: Answer, doctor: Answer, says: str) -> str:
    lines = [line.strip(" │|") for answer in (status, doctor) for line in answer.text.splitlines()]
    found = next((line for line in lines if says and says in line), "nothing new")
    return f"status {status.code}, doctor {doctor.code}: {' '.join(found.split())[:220]}"


def _rows(base: Home, hashes: tuple[str, str], parts: list[str], only: str, seed: int) -> Iterator[Row]:
    cases: list[tuple[str, str, Callable[[Path], tuple[str, str, bool]]]] = [
        *(("damages", case.name, partial(damage_case, base, case)) for case in damages(*hashes)),
        *(("sharing", name, partial(share, base)) for name, share in SHARING.items()),
        *(("kills", kill.name, partial(kill_case, base, kill, random.Random(f"{seed} {kill.name}"))) for kill in KILLS),
    ]
    for part, name, run in cases:
        if part not in parts or only not in name:
            continue
        begin = SYSTEM_CLOCK.now_us()
        with tempfile.TemporaryDirectory(prefix="homes-", ignore_cleanup_errors=True) as scratch:
            try:
                state, reported, passed = run(Path(scratch))
            except Exception as error:  # noqa: BLE001 (a case that breaks the harness is a failed row)
                state, reported, passed = "the case broke", f"{type(error).__name__}: {error}"[:220], False
        state, reported = (text.replace(str(scratch), "SCRATCH") for text in (state, reported))
        yield Row(part, name, state, reported, passed, round((SYSTEM_CLOCK.now_us() - begin) / MICROSECONDS, 1))


def prepare(folder: Path) -> tuple[Home, tuple[str, str]]:
    """Return the home that all cases copy, and the hashes of its first and second champion."""
    first, second = folder / "first", folder / "second"
    hashes = build_tiny_bundle(first), build_tiny_bundle(second, seed=2)
    return make_home(folder / "home", [(first, hashes[0]), (second, hashes[1])]), hashes


def main(arguments: list[str] | None = None) -> int:
    """Run the cases, merge their rows into ``proof/counts/homes.json``, and return 1 if a row has failed."""
    parser = argparse.ArgumentParser(description="Damage, copy, share and kill homes.")
    parser.add_argument("parts", nargs="*", default=["damages", "sharing", "kills"])
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments of the kills")
    parser.add_argument("--only", default="", help="run only the cases whose name contains this text")
    parser.add_argument("--result", type=Path, default=COUNTS / "homes.json")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="homes-", ignore_cleanup_errors=True) as folder:
        base, hashes = prepare(Path(folder))
        rows = _earlier(options.result)
        for row in _rows(base, hashes, options.parts, options.only, options.seed):
            print(
                f"{'ok  ' if row.passed else 'FAIL'} {row.part}: {row.case}: {row.state} | {row.reported}", flush=True
            )
            rows[f"{row.part}: {row.case}"] = asdict(row)
            _write(rows, options.result)
    return 0 if all(row["passed"] for row in rows.values()) else 1


def _earlier(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text())["figures"]["rows"] if path.is_file() else {}


def _names() -> list[str]:
    """Return the names of all cases, so that a case that was not measured is not taken for a passed one."""
    damaged = [f"damages: {case.name}" for case in damages("", "")]
    return [*damaged, *(f"sharing: {name}" for name in SHARING), *(f"kills: {kill.name}" for kill in KILLS)]


def _write(rows: dict[str, dict[str, Any]], path: Path) -> None:
    failed = [f"failed: {name}" for name, row in rows.items() if not row["passed"]]
    unmeasured = [f"not measured: {name}" for name in _names() if name not in rows]
    counted(
        "homes",
        work="R7: homes that were damaged, copied, moved, shared, or whose processes were killed at seeded moments",
        goal="each case ends in a right state or a clear refusal, what was reported is true, no orphan, no run STARTED",
        found=[f"{len(rows)} of {len(_names())} cases measured, {len(failed)} failed", *failed, *unmeasured],
        met=not failed and not unmeasured,
        figures={"rows": rows},
        path=path,
    )


if __name__ == "__main__":
    sys.exit(main())
