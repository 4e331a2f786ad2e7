"""Two activations at the same instant, again and again: one champion each time, and no promotion lost.

``python -m benchmarks.activations`` (a minute on two cores). Two processes with connections of their own meet at a
barrier, then each activates another version through ``services.models``. The same is done with planted mistakes, which
must be noticed: without the lock, and without lock and unique index. Then an alias is moved in MLflow by hand.
"""

import argparse
import multiprocessing
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.harness import counted
from benchmarks.live_lane import services
from surveillance_pipelines.lifecycle.deployments import Deployment, Scope
from surveillance_pipelines.services.models import activate, alias_differences
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect, ensure_database, migrate, normalise_url, with_database
from surveillance_pipelines.stores.deployments import ConcurrentTransitionError, champion, history, lock_scope
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.predictors import champion_hash
from surveillance_pipelines.stores.registry import ModelRegistry
from surveillance_pipelines_tests.services.model_stores import ModelStores
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle

ROUNDS: Final = 100
PAIRS: Final = ((1, 2), (3, 4))
"""Versions that compete, in turn: neither of a pair is the champion when its round begins."""

Competitor = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Counts:
    """What the rounds came to.

    Attributes:
        rounds: pairs of activations.
        refused: activations that failed because the other one was in their way.
        not_one_champion: rounds after which there was not exactly one open champion.
        lost: activations that succeeded and are not in the history.
        gaps: places in the history where one champion's end is not the next one's beginning.
    """

    rounds: int
    refused: int
    not_one_champion: int
    lost: int
    gaps: int

    @property
    def flawless(self) -> bool:
        return not (self.refused or self.not_one_champion or self.lost or self.gaps)


def no_lock(_connection: psycopg.Connection[Any], _scope: Scope) -> None:
    """Plant the mistake: transitions do not take turns."""


def add_versions(database_url: str, bundle: Path, bundle_hash: str, count: int = 4) -> None:
    """Record versions that share one bundle."""
    with connect(database_url) as connection:
        for number in range(1, count + 1):
            version = ModelVersion(
                version=number, bundle_hash=bundle_hash, path=bundle, training_duration_seconds=1.0,
                training_dataset_size=1,
            )  # fmt: skip
            record_version(connection, version)


def contend(
    database_url: str,
    rounds: int = ROUNDS,
    *,
    lock: Callable[..., None] = lock_scope,
    without_index: bool = False,
    processes: bool = True,
) -> Counts:
    """Let two competitors activate versions at the same instant, and count what came of it.

    Args:
        database_url: with the versions of ``PAIRS``.
        rounds: pairs of activations.
        lock: ``no_lock`` plants a mistake.
        without_index: plant another one: drop the unique indexes, and begin each round without a champion.
        processes: competitors are processes; False for threads.
    """
    context: Any = multiprocessing.get_context("spawn") if processes else threading
    start: Any = context.Process if processes else threading.Thread
    barrier = context.Barrier(3)
    refused: list[Any] = [context.Value("i", 0) if processes else _Number() for _ in range(2)]
    competitors = [
        start(target=_compete, args=(database_url, side, rounds, lock, barrier, refused[side])) for side in (0, 1)
    ]
    for competitor in competitors:
        competitor.start()
    not_one = 0
    with connect(database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE surveillance.deployments")
        if without_index:
            connection.execute("DROP INDEX surveillance.one_champion; DROP INDEX surveillance.one_role_per_model")
        for _ in range(rounds):
            if without_index:
                connection.execute("TRUNCATE surveillance.deployments")
            barrier.wait(timeout=120)
            barrier.wait(timeout=120)
            ((champions,),) = connection.execute(
                "SELECT count(*) FROM surveillance.deployments WHERE role = 'champion' AND until IS NULL"
            ).fetchall()
            not_one += champions != 1
        rows = [row for row in history(connection, Scope()) if row.role == "champion"]
    for competitor in competitors:
        competitor.join()
    failed = sum(number.value for number in refused)
    kept = 0 if without_index else 2 * rounds - failed - len(rows)
    return Counts(rounds, failed, not_one, kept, 0 if without_index else _gaps(rows))


class _Number:
    value = 0


def _compete(database_url: str, side: int, rounds: int, lock: Any, barrier: Any, refused: Any) -> None:
    with connect(database_url, autocommit=True) as connection:

        @contextmanager
        def in_transaction() -> Iterator[psycopg.Connection]:
            with connection.transaction():
                yield connection

        stores = ModelStores(in_transaction, ModelRegistry("postgresql://unused"), Path())
        for number in range(rounds):
            barrier.wait(timeout=120)
            try:
                activate(stores, PAIRS[number % 2][side], decided_by=f"competitor {side}", lock=lock)
            except (ConcurrentTransitionError, psycopg.Error):
                refused.value += 1
            finally:
                barrier.wait(timeout=120)


def _gaps(rows: list[Deployment]) -> int:
    """Count where the history of champions is not seamless; its last row must be open."""
    seams = sum(row.until != after.since for row, after in pairwise(rows))
    return seams + (not rows or rows[-1].until is not None)


def move_alias(database_url: str, registry: ModelRegistry, bundle: Path, bundle_hash: str) -> dict[str, Any]:
    """Point the champion's alias at another version by hand, and return what the platform makes of it."""
    stores = ModelStores(lambda: connect(database_url), registry, bundle.parent)
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    with connect(database_url) as connection:
        for number in (5, 6):
            with registry.start_run(f"version {number}") as run:
                mlflow_version = registry.register_bundle(bundle, run.run_id)
            version = ModelVersion(
                version=number, bundle_hash=bundle_hash, path=bundle, training_duration_seconds=1.0,
                training_dataset_size=1, mlflow_version=mlflow_version, mlflow_run_id=run.run_id,
            )  # fmt: skip
            record_version(connection, version)
    activate(stores, 5, decided_by="proof")
    followed = not alias_differences(stores)
    with connect(database_url, autocommit=True) as connection:
        before = champion(connection), champion_hash(connection, settings), history(connection, Scope())
        registry.set_alias("champion", 2)
        reported = [str(difference) for difference in alias_differences(stores)]
        unchanged = before == (champion(connection), champion_hash(connection, settings), history(connection, Scope()))
    activate(stores, 5, decided_by="proof")
    return {
        "alias follows an activation": followed,
        "change by hand is reported": reported,
        "change by hand changes nothing that serves": unchanged,
        "next activation repairs it": registry.aliases().get("champion") == 1 and not alias_differences(stores),
    }


def prove(rounds: int) -> dict[str, Any]:
    """Run the proof and return what ``harness.counted`` is to write."""
    with services() as found, tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "models" / "v1"
        bundle_hash = build_tiny_bundle(bundle)
        urls = {}
        for name in ("activations", "no_lock", "no_index", "mlflow_aliases"):
            ensure_database(found.server_url, name)
            urls[name] = with_database(found.server_url, name)
            if name != "mlflow_aliases":
                migrate(urls[name])
                add_versions(urls[name], bundle, bundle_hash)
        sound = contend(urls["activations"], rounds)
        unlocked = contend(urls["no_lock"], rounds, lock=no_lock)
        unindexed = contend(urls["no_index"], rounds, lock=no_lock, without_index=True)
        registry = ModelRegistry(normalise_url(urls["mlflow_aliases"], "psycopg2"), str(Path(folder) / "artifacts"))
        alias = move_alias(urls["activations"], registry, bundle, bundle_hash)
    noticed = unlocked.refused > 0 and unindexed.not_one_champion > 0
    return {
        "work": f"{rounds} times, two processes activate two versions at the same instant; the same with planted "
        "mistakes; the champion's alias in MLflow is moved by hand",
        "goal": "exactly one champion each time, no promotion lost, planted mistakes noticed, a moved alias reported",
        "found": [
            _sentence(sound),
            f"without the lock: {_sentence(unlocked)}",
            f"without lock and index: {_sentence(unindexed)}",
            "; ".join(f"{what}: {_shown(value)}" for what, value in alias.items()),
        ],
        "met": sound.flawless and noticed and all(bool(value) for value in alias.values()),
        "figures": {"sound": asdict(sound), "no_lock": asdict(unlocked), "no_index": asdict(unindexed), "alias": alias},
    }


def _sentence(counts: Counts) -> str:
    return (
        f"{2 * counts.rounds} activations, {counts.refused} refused; {counts.not_one_champion} rounds without exactly "
        f"one champion, {counts.lost} promotions lost, {counts.gaps} gaps in the history"
    )


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else "yes" if value else "no"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all is as promised."""
    parser = argparse.ArgumentParser(description="Activate two model versions at the same instant, again and again.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    return 0 if counted("activations", path=options.result, **prove(options.rounds))["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
