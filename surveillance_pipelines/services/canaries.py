"""Canary runs: manipulations planted into a recent day, sent through the serving path beside the real messages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from surveillance_pipelines.clock import now, to_datetime, to_us
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.bar_builder import bar_start_of
from surveillance_pipelines.evaluation.canaries import (
    ALERT_SCHEMA,
    PROMISED_SIZE,
    SCORE_SCHEMA,
    Counts,
    RateVerdict,
    counts_of,
    events_of,
    judge,
    planted_copies,
    verdicts,
)
from surveillance_pipelines.hashing import sha256_text
from surveillance_pipelines.runtime.serving_engine import load_calendars, serving_engine
from surveillance_pipelines.services.canary_lane import LaneResult, ReadHistory, canary_messages, run_lane
from surveillance_pipelines.services.canary_market import CanaryMarket, read_market
from surveillance_pipelines.services.canary_promises import BatchScores, batch_scores, detectors_of, load_promise
from surveillance_pipelines.services.canary_verdicts import Control, lane_problems, measure_control, outside_training
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.stores.canaries import MARK, CanaryRow, save_canaries
from surveillance_pipelines.stores.deployments import champion
from surveillance_pipelines.stores.instruments import load_instruments
from surveillance_pipelines.stores.predictors import load_serving_predictor
from surveillance_pipelines.stores.seeding import history_seeds

if TYPE_CHECKING:
    import psycopg

    from surveillance_pipelines.engine.seed import Seed
    from surveillance_pipelines.models.ensemble import Predictor
    from surveillance_pipelines.settings import Settings

EVENTS: Final = 110
"""Manipulations of full size per run: ten per kind."""

MOST_COPIES: Final = 12
"""Copies of full size per run; a platform with few symbols has fewer manipulations per run."""

THIRDS: Final = 1
"""Copies with manipulations of a third of the full size, which nothing promises; their detection is recorded."""

CONTROL: Final = -1
"""Number of the copy without manipulations."""


@dataclass(frozen=True, slots=True, eq=False)
class CanaryRun:
    """The result of a canary run.

    Attributes:
        run_id: id that all its rows have; starts with ``canary:``.
        day: the UTC day whose bars were sent.
        events: result of ``judge`` for every planted manipulation.
        messages: number of messages sent.
        bundle_hash: models that scored.
        champion_hash: the champion; None if there is none.
        verdicts: shares against promises.
        counts: counts of the manipulations of full size.
        promised: the promise; empty if the bundle has none.
        control: the unchanged bars.
        problems: symbol → why it is not served as it should be; ``""`` for problems of the whole lane.
    """

    run_id: str
    day: date
    events: pl.DataFrame
    messages: int
    bundle_hash: str
    champion_hash: str | None
    verdicts: tuple[RateVerdict, ...]
    counts: Counts
    promised: Counts
    control: Control
    problems: Mapping[str, str]

    @property
    def broken(self) -> list[RateVerdict]:
        """The promises that were not kept."""
        return [verdict for verdict in self.verdicts if not verdict.kept]

    def median_delay(self, kind: str) -> float | None:
        """Return the median delay in minutes of the detected manipulations of a kind and the promised size."""
        chosen = self.events.filter((pl.col("kind") == kind) & (pl.col("size") == PROMISED_SIZE))
        delay = chosen["delay_minutes"].median()
        return None if delay is None else float(delay)  # pyright: ignore[reportArgumentType]


def run_canaries(stores: Stores, *, run_id: str, seed: int | None = None) -> CanaryRun:
    """Plant canaries, send them through the serving path and store what became of them.

    Settings, instruments, sessions and models are those that a drain run would load now. Only
    ``surveillance.canaries`` is written, after the lane has ended.

    Args:
        stores: settings and stores.
        run_id: id of the run.
        seed: seed of the canaries; None derives it from the run id, so that each run plants others.

    Raises:
        NotReadyError: if no recent day has bars.
        NoModelError: if there is nothing to score with.
    """
    settings, mark = stores.settings, f"{MARK}{run_id}"
    first_seed = int(sha256_text(run_id)[:8], 16) if seed is None else seed
    with stores.connect(autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only TO on")  # nothing that the lane calls can write
        predictor = load_serving_predictor(connection, settings, stores.endpoints.queue_urls[0])
        calendar_of = {row.symbol: row.calendar for row in load_instruments(connection)}
        sessions = load_calendars(connection, settings, calendar_of)
        market = read_market(stores, connection, sessions, first_seed)
        lane = _Lane(connection, settings, predictor, _history(stores, connection, predictor), mark, first_seed)
        control = lane.send(market.bars, CONTROL)
        planted = _planted(market, sessions, first_seed)
        results = [lane.send(bars, copy) for copy, (bars, _) in enumerate(planted)]
        deployed = champion(connection, settings.tenant)
        promised = load_promise(connection, predictor.bundle_hash)
    batch = partial(_batch_copy, market, sessions, predictor, settings)
    judged = _judged([events for _, events in planted], results, control)
    counts = counts_of(judged, detectors_of(predictor))
    run = CanaryRun(
        run_id=mark,
        day=market.day,
        events=judged,
        messages=sum(result.messages for result in (control, *results)),
        bundle_hash=predictor.bundle_hash,
        champion_hash=None if deployed is None else deployed.bundle_hash,
        verdicts=tuple(verdicts(counts, promised)),
        counts=counts,
        promised=promised,
        control=measure_control(control),
        problems={},
    )
    problems = _joined(
        _run_problems(run, market),
        outside_training(market.chosen, sessions, predictor),
        _served_problems(market, planted, (control, *results), batch),
    )
    run = replace(run, problems=problems)
    with stores.connect() as connection:
        save_canaries(connection, _rows(run, settings, now(stores.clock)), at=now(stores.clock))
    return run


@dataclass(frozen=True, slots=True)
class _Lane:
    """Sends copies through a new serving engine each."""

    connection: "psycopg.Connection[Any]"
    settings: "Settings"
    predictor: "Predictor"
    history: ReadHistory
    mark: str
    seed: int

    def send(self, bars: pl.DataFrame, copy: int) -> LaneResult:
        messages = canary_messages(
            bars,
            prefix=f"{self.mark}:{copy}",
            seed=self.seed + copy,
            cumulative=self.settings.sqs_volume_is_cumulative,
        )
        engine = serving_engine(self.connection, self.settings, self.predictor, run_id=self.mark)
        return run_lane(engine, messages, self.history, copy=copy, grace_seconds=self.settings.bar_close_grace_seconds)


def _history(stores: Stores, connection: "psycopg.Connection[Any]", predictor: "Predictor") -> ReadHistory:
    """Return the reader of histories that a drain run uses; each symbol's history is read once per run."""
    lake, known = stores.lake.quick(), dict[tuple[str, int], "Seed"]()

    def read(wanted: Mapping[str, int]) -> Mapping[str, "Seed"]:
        missing = {symbol: at for symbol, at in wanted.items() if (symbol, bar_start_of(at)) not in known}
        if missing:
            seeds = history_seeds(connection, lake, missing, predictor.window_length, predictor.feature_view)
            known.update({(symbol, bar_start_of(at)): seeds[symbol] for symbol, at in missing.items()})
        return {symbol: known[symbol, bar_start_of(at)] for symbol, at in wanted.items()}

    return read


def _planted(market: CanaryMarket, sessions: SessionTable, seed: int) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Return copies with manipulations: enough of full size for ``EVENTS``, and ``THIRDS`` of a third of it."""
    found = planted_copies(market.bars, sessions, size="third", seeds=range(seed, seed + THIRDS))
    events = 0
    for number in range(THIRDS, THIRDS + MOST_COPIES):
        if events >= EVENTS:
            break
        [copy] = planted_copies(market.bars, sessions, size=PROMISED_SIZE, seeds=[seed + number])
        if copy[1].is_empty():
            break
        found.append(copy)
        events += copy[1].height
    return found


def _judged(events: Sequence[pl.DataFrame], results: Sequence[LaneResult], control: LaneResult) -> pl.DataFrame:
    alerts = pl.concat([ALERT_SCHEMA.to_frame(), *(result.alert_frame() for result in results)])
    scores = pl.concat([SCORE_SCHEMA.to_frame(), *(result.score_frame() for result in results)])
    return judge(events_of(events), alerts, scores, control.alert_frame().select("symbol", "bar_start"))


def _batch_copy(
    market: CanaryMarket, sessions: SessionTable, predictor: "Predictor", settings: "Settings", bars: pl.DataFrame
) -> BatchScores:
    """Return what batch scoring makes of one copy."""
    return batch_scores(
        pl.concat([market.history, bars.select(market.history.columns)]), [market.day], sessions, predictor, settings
    )


def _run_problems(run: CanaryRun, market: CanaryMarket) -> dict[str, str]:
    """Return what is wrong with the models, and with the feed and calendars of the symbols."""
    problems = dict.fromkeys(sorted(set(market.chosen) - set(run.events["symbol"])), "no canary fits into its day")
    if run.champion_hash not in (None, run.bundle_hash):
        problems[""] = f"bundle {run.bundle_hash[:12]} serves instead of the champion {str(run.champion_hash)[:12]}"
    return problems | dict(market.problems)


def _served_problems(
    market: CanaryMarket,
    planted: Sequence[tuple[pl.DataFrame, pl.DataFrame]],
    results: Sequence[LaneResult],
    batch: Callable[[pl.DataFrame], BatchScores],
) -> dict[str, str]:
    """Return what is wrong with how the messages of each copy were served."""
    problems: dict[str, str] = {}
    sent = [market.bars, *(bars for bars, _ in planted)]
    for bars, result in zip(sent, results, strict=True):
        for symbol, problem in lane_problems(bars, result, batch(bars).scores).items():
            problems.setdefault(symbol, problem)
    return problems


def _joined(*found: Mapping[str, str]) -> dict[str, str]:
    """Return all problems of each symbol as one text."""
    symbols = dict.fromkeys(symbol for problems in found for symbol in problems)
    return {symbol: "; ".join(problems[symbol] for problems in found if symbol in problems) for symbol in symbols}


def _rows(run: CanaryRun, settings: "Settings", at: datetime) -> list[CanaryRow]:
    from surveillance_pipelines.engine.code_version import scoring_code_version

    return [
        CanaryRow(
            run_id=run.run_id,
            planted_at=at,
            kind=row["kind"],
            size=row["size"],
            symbol=row["symbol"],
            first_bar=to_datetime(to_us(row["first"])),
            last_bar=to_datetime(to_us(row["last"])),
            move=row["move"],
            detected=row["detected"],
            named=row["named"],
            kind_named=row["kind_named"],
            score=row["score"],
            delay_minutes=row["delay_minutes"],
            bundle_hash=run.bundle_hash,
            config_hash=settings.config_hash,
            code_version=scoring_code_version(),
        )
        for row in run.events.iter_rows(named=True)
    ]
