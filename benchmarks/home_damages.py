"""Damages of a stopped home, and what a user must then see: part of R7 (``benchmarks/homes.py``)."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.home_under_test import Home

Damage = Callable[[Home], None]


@dataclass(frozen=True)
class Damaged:
    """One damage.

    Attributes:
        name: name in the table.
        damage: damages the home.
        bundle: beginning of the ``bundle_hash`` of the rows scored afterwards; None if nothing may be scored.
        says: text that ``status`` or ``doctor`` must contain; empty if they must not report anything new.
        knobs: settings of the case.
    """

    name: str
    damage: Damage
    bundle: str | None
    says: str = ""
    knobs: dict[str, str] = field(default_factory=dict)


def champion(home: Home) -> Path:
    """Return the folder of the champion, which is the last version."""
    return max((home.path / "models").glob("v*"))


def _delete_champion(home: Home) -> None:
    shutil.rmtree(champion(home))


def _truncate_model(home: Home) -> None:
    largest = max(champion(home).iterdir(), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def _change_byte(home: Home) -> None:
    largest = max(champion(home).iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def _change_manifest(home: Home) -> None:
    manifest = champion(home) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"training":{', '"training":{"changed":1,', 1))


def _lake_files(home: Home) -> list[Path]:
    return sorted((home.path / "lake" / "bars_1m").rglob("*.parquet"))


def _log_files(home: Home) -> list[Path]:
    return sorted((home.path / "lake" / "bars_1m" / "_delta_log").glob("*.json"))


def _delete_lake_file(home: Home) -> None:
    _lake_files(home)[-1].unlink()


def _truncate_lake_file(home: Home) -> None:
    file = _lake_files(home)[-1]
    file.write_bytes(file.read_bytes()[:100])


def _log_gap(home: Home) -> None:
    _log_files(home)[1].unlink()


def _truncate_log(home: Home) -> None:
    _log_files(home)[-1].write_text('{"commitInfo":')


def _delete_logs(home: Home) -> None:
    shutil.rmtree(home.path / "logs")


def _logs_are_a_file(home: Home) -> None:
    _delete_logs(home)
    (home.path / "logs").write_text("")


def _delete_artifacts(home: Home) -> None:
    shutil.rmtree(home.path / "mlartifacts", ignore_errors=True)


def _spoil_dagster(home: Home) -> None:
    (home.path / "dagster").mkdir(exist_ok=True)
    (home.path / "dagster" / "dagster.yaml").write_text(": [")


def _spoil_records(home: Home) -> None:
    for name in ("queue.json", "prepared.json", "home.json"):
        (home.path / "embedded" / name).write_text("{")


def _delete_password(home: Home) -> None:
    (home.path / "embedded" / "postgres.json").unlink()


def _full_permissions(home: Home) -> None:
    subprocess.run(["chmod", "-R", "a+rwX", str(home.path / "embedded" / "postgres")], check=True)


def damages(first: str, second: str) -> tuple[Damaged, ...]:
    """Return the damages; the arguments are the hashes of the earlier champion and of the champion."""
    bundles: Final = (
        ("bundle folder missing", _delete_champion),
        ("model file truncated", _truncate_model),
        ("model file with a changed byte", _change_byte),
        ("manifest of another bundle", _change_manifest),
    )
    strict = {"WARMUP_MODE_ENABLED": "false"}
    return (
        Damaged("none", lambda _: None, second),
        *(Damaged(name, damage, first, "cannot be loaded") for name, damage in bundles),
        Damaged("all bundle folders missing", _delete_all, "warmup", "served instead: the warm-up rules"),
        Damaged("all bundle folders missing, rules forbidden", _delete_all, None, "nothing, drain runs fail", strict),
        Damaged("lake file missing", _delete_lake_file, second, "bars_1m"),
        Damaged("lake file truncated", _truncate_lake_file, second, "bars_1m"),
        Damaged("gap in the Delta log", _log_gap, second, "bars_1m"),
        Damaged("last entry of the Delta log truncated", _truncate_log, second, "bars_1m"),
        Damaged("logs folder missing", _delete_logs, second),
        Damaged("a file in place of the logs folder", _logs_are_a_file, None, "logs"),
        Damaged("MLflow artifacts missing", _delete_artifacts, second),
        Damaged("dagster.yaml spoiled", _spoil_dagster, second),
        Damaged("records of the services spoiled", _spoil_records, second),
        Damaged("password of PostgreSQL missing", _delete_password, None, "password of the embedded PostgreSQL"),
        Damaged("PostgreSQL's folder readable by all", _full_permissions, second),
    )


def _delete_all(home: Home) -> None:
    shutil.rmtree(home.path / "models")
