"""P9: a year of bars scored from the lake by the platform's run, compared with bare inference and polars I/O.

``python -m benchmarks.p9_backfill --symbols 10 --days 168`` is a small one, whose result is
printed, not kept.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.backfill_market import FEATURES, MONTH, SCORES, Sizes, Year, a_year
from benchmarks.harness import RESULTS, Arm, Comparison, Curve, Goal, Parity, prove
from benchmarks.models import anomaly_scores, classifier_inputs, model_indices, scaling_of
from surveillance_pipelines.models import autoencoder, classifier
from surveillance_pipelines.models.arrays import run_model
from surveillance_pipelines.models.bundle import Bundle, load_bundle
from surveillance_pipelines.models.runtime import MAX_BATCH_ROWS, inference_session

INFERENCE: Final = 1.3
IO: Final = 4.0
TOLERANCE: Final = 1e-12
GROWTH: Final = 1.15
"""Accepted growth of peak memory and of seconds per row from a month to the year: the noise of an idle machine."""
_LENGTHS: Final = (1, 5, 21, 84, 252)

_ATTEMPTS: Final = (
    (
        "attempts, kept: COPY into a temporary table in place of an insert over arrays (45 to 13 µs a prediction); a "
        "day stored beside the next one's scoring; ids and hashes of a frame at once; signals paced before their rows "
        "are made"
    ),
    (
        "attempt, kept: predictions keyed by (bar_start, id) in place of id alone, a hash: after 2.3 million rows one "
        "more took about three times as long as at first, now the same"
    ),
    (
        "attempt, kept: a checkpoint every 10 commits in place of 100 (97 to 28 ms of processor time a day after a "
        "hundred days written one by one)"
    ),
    (
        "attempt, kept: COPY straight into the table, 9 in place of 13 µs a prediction, and through a temporary one "
        "only where a row is there already"
    ),
    (
        "attempt, dropped: the next day's features read in a thread of their own (22.5 s a month, 21.6 without): what "
        "is short is processor time, on two cores with the database's"
    ),
)

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ReadyArrays:
    """The model inputs for the bars of some days, as arrays for the inference sessions."""

    scaled: Float32
    classified: Float32


@dataclass
class Bench:
    """Both arms over one year; each round takes the next month."""

    year: Year
    bundle: Bundle
    scratch: Path
    ours_s: list[float] = field(default_factory=list)
    inference_s: list[float] = field(default_factory=list)
    io_s: list[float] = field(default_factory=list)
    runs: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._autoencoder = inference_session(self.bundle.files[autoencoder.MODEL_FILE])
        self._classifier = inference_session(self.bundle.files[classifier.MODEL_FILE])

    def ours(self) -> Arm:
        def arm() -> float:
            month = self.year.months[len(self.ours_s)]
            done = self.year.run("scoring", month)
            rows = self._rows(month)
            if (done["rows"]["scores"]["dagster/row_count"], done["rows"]["signals"]["new_predictions"]) != (
                rows,
                rows,
            ):
                raise RuntimeError(f"expected {rows} bars scored and stored, was {done['rows']}")
            self.ours_s.append(done["seconds"])
            return done["seconds"]

        return arm

    def anchor(self) -> Arm:
        def arm() -> float:
            month = self.year.months[len(self.inference_s)]
            ready = self.ready(self._features(month))
            begin = time.perf_counter()
            self.infer(ready)
            self.inference_s.append(time.perf_counter() - begin)
            self.io_s.append(self._read_and_write(month))
            return INFERENCE * self.inference_s[-1] + IO * self.io_s[-1]

        return arm

    def ready(self, features: pl.DataFrame) -> ReadyArrays:
        """Build the arrays of some days, with reconstruction errors computed by the autoencoder."""
        values = features.select(self.bundle.view.columns).to_numpy()
        inputs = np.ascontiguousarray(values[:, model_indices(self.bundle)])
        scaled = autoencoder.scale(inputs, scaling_of(self.bundle))
        missing = np.isnan(inputs)
        squares = np.where(missing, 0.0, (scaled.astype(np.float64) - self._reconstructed(scaled)) ** 2)
        error = np.add.accumulate(squares, axis=1)[:, -1] / np.maximum((~missing).sum(axis=1), 1)
        return ReadyArrays(scaled, classifier_inputs(inputs, error))

    def infer(self, ready: ReadyArrays) -> None:
        """Run every model in use, with the platform's batch size."""
        self._reconstructed(ready.scaled)
        self._classified(ready.classified)

    def parity(self) -> Parity:
        """Score the first day in both ways."""
        day = self.year.days[:1]
        self.year.run("scoring", day)
        features = self._features(day).sort("symbol", "bar_start")
        values = np.ascontiguousarray(features.select(self.bundle.view.columns).to_numpy())
        theirs = anomaly_scores(self.bundle, values, self._reconstructed, self._classified)
        kept = self.year.lake.read(SCORES, days=day).sort("symbol", "bar_start")
        difference = float(np.abs(kept["anomaly_score"].to_numpy() - theirs).max())
        self.year.forget_scores()
        return Parity(
            passed=len(kept) == len(features) and difference <= TOLERANCE,
            statement=f"{len(kept):,} scores of a day from the anchor's outputs within {difference:.1e}",
        )

    def run_lengths(self) -> None:
        """Score ranges of increasing length, each in one run over an empty table."""
        for length in sorted({*(n for n in _LENGTHS if n <= len(self.year.days)), len(self.year.days)}):
            self.year.forget_scores()
            self.runs[length] = self.year.run("scoring", self.year.days[:length])
            print(f"{length} days: {self.runs[length]['seconds']:.1f} s, peak {self.runs[length]['peak_mb']:.0f} MB")

    def figures(self) -> Mapping[str, float]:
        longest = max(self.runs)
        month, year = self.runs[min(MONTH, longest)], self.runs[longest]
        cost = INFERENCE * sum(self.inference_s) + IO * sum(self.io_s)
        million = self._rows(self.year.days) / 1e6
        return {
            "rows": self._rows(self.year.days),
            "year_s": year["seconds"],
            "year_us_per_row": year["seconds"] / million,
            "year_ratio": cost / year["seconds"],
            "inference_us_per_row": sum(self.inference_s) / million,
            "io_us_per_row": sum(self.io_s) / million,
            "peak_mb_of_a_month": month["peak_mb"],
            "peak_mb_of_the_year": year["peak_mb"],
            "memory_growth": year["peak_mb"] / month["peak_mb"],
            "time_per_row_growth": (year["seconds"] / longest) / (month["seconds"] / min(MONTH, longest)),
        }

    def curves(self) -> list[Curve]:
        lengths = sorted(self.runs)
        rows = [self._rows(self.year.days[:length]) / 1e6 for length in lengths]
        peaks, seconds = ([self.runs[length][name] for length in lengths] for name in ("peak_mb", "seconds"))
        return [
            Curve("Peak memory of one run", "days", "MB", lengths, peaks),
            Curve("Time of one run", "million rows", "s", rows, seconds),
        ]

    def _rows(self, days: Sequence[date]) -> int:
        symbols = self.year.lake.read(FEATURES, days=self.year.days[:1], columns=["symbol"])["symbol"].n_unique()
        return symbols * 390 * len(days)

    def _features(self, days: Sequence[date]) -> pl.DataFrame:
        return self.year.lake.read(FEATURES, days=list(days))

    def _read_and_write(self, days: Sequence[date]) -> float:
        """Return the seconds for polars to read the features of each day and write its scores to a table."""
        target, seconds = self.scratch / "written", 0.0
        shutil.rmtree(target, ignore_errors=True)
        for day in days:
            scores = self.year.lake.read(SCORES, days=[day])
            begin = time.perf_counter()
            pl.scan_delta(f"{self.year.lake.url}/{FEATURES}").filter(pl.col("date") == day).collect()
            scores.write_delta(str(target), mode="append", delta_write_options={"partition_by": "date"})
            seconds += time.perf_counter() - begin
        return seconds

    def _reconstructed(self, scaled: Float32) -> npt.NDArray[np.float64]:
        return self._in_batches(self._autoencoder, scaled)

    def _classified(self, inputs: Float32) -> npt.NDArray[np.float64]:
        return self._in_batches(self._classifier, inputs)

    @staticmethod
    def _in_batches(session: Any, rows: Float32) -> npt.NDArray[np.float64]:
        starts = range(0, len(rows), MAX_BATCH_ROWS)
        return np.concatenate([run_model(session, rows[start : start + MAX_BATCH_ROWS]) for start in starts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=Sizes().symbols)
    parser.add_argument("--days", type=int, default=Sizes().days, help="at least 8 months of 21")
    sizes = Sizes(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as scratch, a_year(Path(scratch), sizes) as year:
        bench = Bench(year, load_bundle(year.bundle_path), Path(scratch))
        small = Path(scratch) / "proof"
        small.mkdir()
        prove(
            _comparison(sizes),
            parity=bench.parity,
            ours=bench.ours(),
            anchor=bench.anchor(),
            rounds=len(year.months) - 1,
            figures=lambda: (bench.run_lengths(), bench.figures())[1],
            curves=bench.curves,
            results=RESULTS if sizes == Sizes() else small,
        )
        if sizes != Sizes():
            print((small / "p9_backfill.json").read_text())


def _comparison(sizes: Sizes) -> Comparison:
    return Comparison(
        name="p9_backfill",
        work=f"Score {sizes.days} sessions of {sizes.symbols} symbols, {sizes.rows / 1e6:.1f} million bars, from the "
        "lake; each round is the next month of 21 sessions",
        ours="one Dagster run of batch_scoring: features of each day from the lake, models, ids and hashes, scores to "
        "the lake, anomalies, signals and predictions to PostgreSQL",
        anchor=f"{INFERENCE:g} × the bundle's models on ready arrays in batches of {MAX_BATCH_ROWS:,} rows + {IO:g} × "
        "polars reading those features and writing those scores, day by day",
        distributions=("onnxruntime", "polars", "deltalake"),
        unit="s for a month",
        goal=Goal(ratio=1.0, limits={"memory_growth": GROWTH, "time_per_row_growth": GROWTH}),
        notes=(
            *_ATTEMPTS,
            "the ratio is the whole budget, inference and I/O with their factors, over ours: 1 is the goal",
            "the anchor writes nothing to PostgreSQL; ours has its fsync on, and its server works beside ours",
            "the direction model has not passed its gate, as on any simulated market: its model is in neither arm",
            "seconds are of the run, after the process's imports and its models are warm; features lie in the lake",
            "peak memory is that of the run's process, imports of Dagster, polars and ONNX Runtime included",
        ),
    )


if __name__ == "__main__":
    main()
