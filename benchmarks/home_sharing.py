"""Homes that are copied, moved or used by several processes: part of R7 (``benchmarks/homes.py``)."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks.home_under_test import Home, running, wait_until
from surveillance_pipelines.embedded.services import ensure_services, release
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.stores.database import migrate

Outcome = tuple[str, str, bool]
Share = Callable[[Home, Path], Outcome]


def _summary(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith("error:")]
    return " ".join((named or lines or ["no output"])[-1].split())[:220]


def _bundles(home: Home) -> str:
    return ", ".join(row[0][:12] for row in home.rows("SELECT DISTINCT bundle_hash FROM ops.served_bundles"))


def copy_beside_original(base: Home, scratch: Path) -> Outcome:
    """Serve ticks in a copy while the original runs and the original's bundles are deleted."""
    first = base.copy(scratch / "first")
    second = first.copy(scratch / "second")
    try:
        first.send(3)
        shutil.rmtree(first.path / "models")
        second.send(5)
        served = second.drain()
        counts = [home.rows("SELECT count(*) FROM ops.inbox")[0][0] for home in (first, second)]
        bundles = _bundles(second)
        state = f"inbox of the original {counts[0]}, of the copy {counts[1]}; copy served with {bundles}"
        return state, f"drain {served.code}", counts == [0, 5] and bundles not in ("", "warmup")
    finally:
        second.end_all()
        first.end_all()


def copy_of_running(base: Home, scratch: Path) -> Outcome:
    """Copy a home while its services run, and use the copy."""
    first = base.copy(scratch / "first")
    try:
        ensure_services(first.settings)
        second = first.copy(scratch / "second")
        answer = second.command("status")
        reset = second.command("reset", "--yes")
        state = f"status {answer.code}, reset of the copy {reset.code}; original runs: {first.is_running()}"
        passed = answer.code not in (0, None) and "copy of a stopped home" in answer.text and first.is_running()
        return state, _summary(answer.text), passed
    finally:
        release(first.settings)
        first.end_all()


def moved(base: Home, scratch: Path) -> Outcome:
    """Move a home and serve ticks."""
    first = base.copy(scratch / "first")
    first.send(1)
    first.stop()
    first.path.rename(scratch / "second")
    second = Home(scratch / "second")
    try:
        second.send(4)
        second.drain()
        inbox, bundles = second.rows("SELECT count(*) FROM ops.inbox")[0][0], _bundles(second)
        return f"{inbox} messages served with {bundles}", "nothing new", inbox == 5 and bundles not in ("", "warmup")
    finally:
        second.end_all()


def old_schema(base: Home, scratch: Path) -> Outcome:
    """Use a home whose database has an older schema."""
    home = base.copy(scratch / "home")
    try:
        migrate(Platform(home.settings).endpoints.database_url, "0008")
        home.stop()
        answer = home.command("status")
        revision = home.rows("SELECT version_num FROM alembic_version")[0][0]
        return f"schema {revision}", f"status {answer.code}", answer.code == 0 and revision != "0008"
    finally:
        home.end_all()


def four_prepare(base: Home, scratch: Path) -> Outcome:
    """Run ``prepare`` four times at once in a home that does not exist yet."""
    home = Home(scratch / "home")
    try:
        started = [home.start("prepare") for _ in range(4)]
        texts = [process.communicate()[0] for process in started]
        codes = [process.returncode for process in started]
        after = home.command("doctor")
        failed = next((text for text, code in zip(texts, codes, strict=True) if code), "")
        passed = codes == [0] * 4 and "no tables" not in after.text
        return f"exit codes {codes}", _summary(failed or "all prepared"), passed
    finally:
        home.end_all()


def other_user(base: Home, scratch: Path) -> Outcome:
    """Run ``status`` as another account."""
    home = base.copy(scratch / "home")
    scratch.chmod(0o755)
    try:
        home.send(1)
        as_other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        done = subprocess.run(
            [*as_other, *home.start_arguments("status")], env=home.environment, cwd="/", capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        text = done.stdout + done.stderr
        return f"status {done.returncode}", _summary(text), done.returncode != 0 and "Traceback" not in text
    finally:
        home.end_all()


def up_twice(base: Home, scratch: Path) -> Outcome:
    """Start `up` twice in one home, run a demo and a reset beside it."""
    home = base.copy(scratch / "home")
    try:
        with running(home, "up"):
            if wait_until(home.is_running, 120) is None:
                return "the first `up` did not start", "", False
            home.command("status")
            demo, reset = home.command("demo"), home.command("reset", "--yes")
            with running(home, "up", "--no-daemon") as second:
                stays = wait_until(lambda: second.poll() is not None, 30) is None
            state = f"demo {demo.code}, reset {reset.code}, second `up` runs beside the first: {stays}"
            refused = demo.code not in (0, None) and reset.code not in (0, None) and home.is_running()
            return state, f"{_summary(demo.text)} / {_summary(reset.text)}", refused and stays
    finally:
        home.end_all()


SHARING: Final[Mapping[str, Share]] = MappingProxyType(
    {
        "copy of a stopped home beside its original": copy_beside_original,
        "copy of a running home": copy_of_running,
        "moved home": moved,
        "home with an older schema": old_schema,
        "prepare four times at once": four_prepare,
        "another user": other_user,
        "up twice, demo and reset during up": up_twice,
    }
)
