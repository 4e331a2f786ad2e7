"""Replay of 200 random outputs of a run on real bars in a new process, after models, data and code have changed.

``python -m benchmarks.replay`` takes about five minutes on two cores. It ingests recorded 1-minute bars (``DATA``),
trains a champion and scores the days. Drain runs serve the next session as ticks, with a retrain in between. Then the
models are retrained again, a file with other prices overrides every bar, and the features' source changes: a copy of
the package has one more line in its kernel, so that its hash differs but no formula does. ``surveillance replay
--sample`` runs from that copy. Finally, single bytes are flipped.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.harness import REPOSITORY, counted
from benchmarks.live_lane import services_of
from surveillance_pipelines.market.files.bars import read_bars
from surveillance_pipelines.market.files.options import FileOptions
from surveillance_pipelines.services.ingestion import ReceivedBars, land
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.model_store import list_versions

DATA: Final = REPOSITORY.parent / "shared" / "data" / "equity_minute" / "yahoo_1m_2019_2022.parquet"
SYMBOLS: Final = ("AAPL", "GME", "NFLX", "TSLA", "UVXY")
LANDED: Final = (date(2022, 3, 29), date(2022, 4, 4))
SCORED: Final = (date(2022, 4, 1), date(2022, 4, 4))
SERVED: Final = date(2022, 4, 5)
SERVED_MINUTES: Final = 120
OUTPUTS: Final = 200

_CLI: Final = "import sys; from surveillance_pipelines.cli import main; sys.argv[0] = 'surveillance'; main()"
_PICK: Final = {
    "bar in progress": "SELECT body::jsonb ->> 'id' FROM ops.outbox WHERE body::jsonb ->> 'bar_status' = 'provisional'"
    " ORDER BY position DESC LIMIT 1",
    "closed bar": "SELECT id FROM surveillance.predictions WHERE t_received IS NOT NULL"
    " ORDER BY bar_start DESC LIMIT 1",
}
_FLIP_DIGIT: Final = rb"""
    UPDATE ops.inbox SET body = regexp_replace(body, '("price": ?\d)(\d)', '\1' ||
    ((regexp_match(body, '"price": ?\d(\d)'))[1]::int + 1) %% 10) WHERE message_id =
    (SELECT body::jsonb ->> 'correlation_id' FROM ops.outbox WHERE id = %s)
"""
_CLOSE: Final = b"""
    SELECT symbol, bar_start, close FROM ops.live_bars WHERE (symbol, bar_start) =
    (SELECT symbol, bar_start FROM surveillance.predictions WHERE id = %s)
"""
_SET_CLOSE: Final = b"UPDATE ops.live_bars SET close = %s WHERE symbol = %s AND bar_start = %s"
_ALERTS: Final = "SELECT id FROM surveillance.anomalies UNION SELECT id FROM surveillance.signals"
_BATCH_SCORES: Final = "SELECT id FROM surveillance.predictions WHERE t_received IS NULL AND bar_start::date = %s"


@dataclass(frozen=True)
class Proving:
    """One run of the proof: a separate home, and the platform's commands in separate processes."""

    home: Path
    platform: Platform
    environment: Mapping[str, str]

    def surveillance(self, *arguments: str, package: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        return self._python("-c", _CLI, *arguments, package=package)

    def drain(self) -> None:
        done = self._python("-m", "surveillance_pipelines.services.drain", "--window-seconds", "90")
        report = json.loads(done.stdout)
        print(f"  drain run: {report['totals']}")

    def _python(self, *arguments: str, package: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, "PYTHONPATH": str(package)}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=self.home, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"expected {arguments} to end, was {done.returncode}:\n{done.stderr[-3000:]}")
        return done


def main() -> int:
    """Run the proof and print its counts; return 0 if all outputs are equal and every flipped byte is reported."""
    if not DATA.is_file():
        print(f"skipped: no recorded market data (expected {DATA})")
        return 0
    with _proving() as proving:
        bars = _bars(*LANDED)
        _land(proving, bars, "yfinance")
        _step(proving, "backfill", *map(str, LANDED))
        _train(proving, seed=7)
        _step(proving, "backfill", *map(str, SCORED), "--job", "scoring_job")
        live = _bars(SERVED, SERVED)
        cut = live["bar_start"].min() + timedelta(minutes=SERVED_MINUTES // 2)  # type: ignore[operator]
        _serve(proving, live.filter(pl.col("bar_start") < cut), "first")
        _train(proving, seed=8)
        _serve(proving, live.filter(pl.col("bar_start") >= cut), "second")
        _train(proving, seed=9)
        _land(proving, bars.with_columns(pl.col("open", "high", "low", "close") * 1.01), "file")
        _step(proving, "backfill", *map(str, LANDED))
        changed = _changed_package(proving.home)
        found: list[str] = []
        failed = _replay_sample(proving, changed, found)
        failed += _flip_bytes(proving, changed, found)
    counted(
        "replay",
        work="outputs of live and batch runs on recorded bars, made again in a fresh process after two retrains, a "
        "change of the feature code and a correction of every bar",
        goal=f"{OUTPUTS} random outputs byte-equal; one flipped byte of each input named",
        found=found,
        met=failed == 0,
    )
    return 1 if failed else 0


@contextmanager
def _proving() -> Iterator[Proving]:
    with tempfile.TemporaryDirectory(prefix="proof-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        os.environ.update(_chosen(home))
        settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
        with services_of(settings):
            platform = Platform(settings)
            yield Proving(home, platform, {**platform.environment(), **_chosen(home)})


def _chosen(home: Path) -> dict[str, str]:
    return {
        "SURVEILLANCE_HOME": str(home / "home"),
        "SYMBOLS": ",".join(SYMBOLS),
        "PUBLISH_SCORES": "all",
        "MODEL_QUALITY_THRESHOLD_ACCURACY": "0",  # a few days are too few for good models, which are not needed here
        "FALLBACK_TO_YFINANCE": "false",
        "DRAIN_IDLE_SECONDS": "3",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


def _bars(first: date, last: date) -> pl.DataFrame:
    """Return the regular sessions' bars between two days."""
    found = read_bars(DATA, FileOptions(adjustment="split")).frame
    inside = pl.col("bar_start").dt.time().is_between(pl.time(13, 30), pl.time(19, 59))
    wanted = pl.col("symbol").is_in(SYMBOLS) & pl.col("date").is_between(first, last) & inside
    return found.filter(wanted).sort("bar_start", "symbol")


def _land(proving: Proving, bars: pl.DataFrame, source: str) -> None:
    frame = bars.with_columns(source=pl.lit(source))
    landed = land(proving.platform, ReceivedBars(source, frame, rows_in=frame.height), detail={"proof": "replay"})
    print(f"  landed {landed.landed:,} real bars as {source}")


def _step(proving: Proving, *arguments: str) -> None:
    done = proving.surveillance(*arguments)
    if done.returncode != 0:
        raise RuntimeError(f"expected {arguments} to succeed:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    print(f"  surveillance {' '.join(arguments)}")


def _train(proving: Proving, *, seed: int) -> None:
    _step(proving, "train", "--last", str(LANDED[1]), "--seed", str(seed))
    with proving.platform.connect() as connection:
        newest = list_versions(connection)[0].version
    _step(proving, "models", "activate", newest)  # one that is not better than the champion is a shadow
    with proving.platform.connect() as connection:
        row: Any = connection.execute(
            "SELECT version, model_id FROM surveillance.deployments WHERE role = 'champion' AND until IS NULL"
        ).fetchone()
    print(f"  champion {row[0]} {row[1][:12]}")


def _serve(proving: Proving, bars: pl.DataFrame, name: str) -> None:
    begin: Any = bars["bar_start"].min()
    path = proving.home / f"{name}.parquet"
    part = bars.filter(pl.col("bar_start") < begin + timedelta(minutes=SERVED_MINUTES // 2))
    part.select("symbol", "open", "high", "low", "close", "volume", ts="bar_start").write_parquet(path)
    _step(proving, "feed", str(path))
    proving.drain()


def _changed_package(home: Path) -> Path:
    """Return a folder with a copy of the package whose kernel has one more line and therefore another hash."""
    folder = home / "changed"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "surveillance_pipelines", folder / "surveillance_pipelines", ignore=ignored)
    kernel = folder / "surveillance_pipelines" / "features" / "kernel.py"
    kernel.write_text(kernel.read_text() + "\n# Another release.\n")
    return folder


def _replay_sample(proving: Proving, package: Path, found: list[str]) -> int:
    """Replay random outputs, then every anomaly and signal; return how many differ or are missing."""
    results = _replay(proving, package, "--sample", str(OUTPUTS), "--seed", "1")
    missing = OUTPUTS - len(results)
    found.append(f"{len(results)} outputs drawn at random: {_outcomes(results)}")
    by_origin = Counter((row["lane"], row["kind"], row["bar_status"]) for row in results)
    for (lane, kind, status), count in sorted(by_origin.items()):
        print(f"  {lane} {kind}, {status}: {count}")
    for note, count in Counter(note for row in results for note in row["notes"]).most_common():
        print(f"  {count}: {note}")
    alerts = _replay(proving, package, *_ids(proving, _ALERTS))
    found.append(f"every anomaly and signal, {len(alerts)}: {_outcomes(alerts)}")
    wrong = [row for row in results + alerts if row["outcome"] != "equal"]
    for row in wrong[:10]:
        print(f"  NOT EQUAL {row['id'][:12]} {row['lane']} {row['kind']}: {row['said']}")
    return len(wrong) + missing


def _outcomes(results: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(row["outcome"] for row in results).items())


def _replay(proving: Proving, package: Path, *arguments: str) -> list[dict[str, Any]]:
    done = proving.surveillance("replay", "--json", *arguments, package=package)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    if not rows:
        raise RuntimeError(f"expected results of {arguments}, got none:\n{done.stderr[-3000:]}")
    return rows


def _flip_bytes(proving: Proving, package: Path, said: list[str]) -> int:
    """Flip one byte of each kind of stored input; return how many the replay did not report."""
    ids = {name: _ids(proving, query)[0] for name, query in _PICK.items()}
    missed = 0
    with proving.platform.connect() as connection:
        connection.execute(_FLIP_DIGIT, (ids["bar in progress"],))
    results = _replay(proving, package, ids["bar in progress"])
    missed += _named("flipped one digit in a message of a bar in progress", results, said, "input_hash")
    with proving.platform.connect() as connection:
        symbol, bar_start, close = connection.execute(_CLOSE, (ids["closed bar"],)).fetchone() or ("", None, 0.0)
        (bits,) = struct.unpack("<q", struct.pack("<d", close))
        (flipped,) = struct.unpack("<d", struct.pack("<q", bits ^ 1))
        connection.execute(_SET_CLOSE, (flipped, symbol, bar_start))
    results = _replay(proving, package, ids["closed bar"])
    missed += _named("flipped the last bit of the close of a closed bar", results, said, f"close of bar {symbol}")
    return missed + _flip_in_lake(proving, package, said)


def _flip_in_lake(proving: Proving, package: Path, said: list[str]) -> int:
    """Flip one byte of the scored Parquet file of features; repeat until the byte affects an output."""
    day = SCORED[1]
    folder = Path(proving.platform.endpoints.lake_url) / "features_core_v1" / f"date={day}"
    path = min(folder.glob("*.parquet"), key=lambda file: file.stat().st_mtime)
    content, ids = path.read_bytes(), _ids(proving, _BATCH_SCORES, day)
    for attempt in range(1, 6):
        damaged = bytearray(content)
        place = len(content) * attempt // 7
        damaged[place] ^= 1
        path.write_bytes(damaged)
        results = _replay(proving, package, *ids)
        path.write_bytes(content)
        found = [row for row in results if row["outcome"] not in ("equal", "equivalent")]
        what = f"flipped byte {place:,} of {len(content):,} of a Parquet file of features_core_v1"
        print(f"{what}: {_outcomes(results)} of the {len(ids):,} scores of {day}")
        if found:
            return _named(what, found, said, "features_core_v1")
    return 1


def _named(what: str, results: Sequence[Mapping[str, Any]], said: list[str], culprit: str) -> int:
    """Record the replay's report of a damaged input; return 1 if it found no difference or did not name the input."""
    row = results[0]
    said.append(f"{what}: {row['outcome']}: {row['said'][:420].replace('|', '/')}")
    return int(row["outcome"] != "different" or culprit not in row["summary"])


def _ids(proving: Proving, query: str, *parameters: Any) -> list[str]:
    with proving.platform.connect() as connection:
        return [id_ for (id_,) in connection.execute(query.encode(), parameters)]


if __name__ == "__main__":
    sys.exit(main())
