"""Replay of stored outputs: each is made again from its recorded inputs, settings and models, and compared."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final, Literal

import psycopg

from surveillance_pipelines.clock import to_iso, utc_date
from surveillance_pipelines.contracts.outputs import DEFAULT_STRATEGY, AlertStatus, OutputRow
from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.engine.code_version import scoring_code_version
from surveillance_pipelines.engine.guard import without_members
from surveillance_pipelines.engine.scoring_rows import (
    Candidate,
    RowConfig,
    anomaly_kind,
    anomaly_row,
    current_row_config,
    score_row,
    signal_row,
)
from surveillance_pipelines.features.views import VIEWS, FeatureView
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.models.runtime import runtime_description, runtime_hash
from surveillance_pipelines.replay import legacy
from surveillance_pipelines.replay.batch import BatchRebuilder
from surveillance_pipelines.replay.bundle_cache import BundleCache
from surveillance_pipelines.replay.comparison import (
    CannotReplayError,
    Difference,
    Replayed,
    StoredOutput,
    first_difference,
)
from surveillance_pipelines.replay.live import (
    DamagedInputError,
    LiveInputs,
    closed_hashes,
    live_candidate,
    witness,
)
from surveillance_pipelines.replay.repository import END_OF_TIME, RecordedRun, ReplayRepository, day_of
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.strategies.pacing import SignalPace

_NO_PACE: Final = SignalPace(cooldown=0, warmup=0)
"""A row that was written has passed its pause."""


class Replayer:
    """Makes outputs again in this process, from what is stored."""

    def __init__(self, connection: psycopg.Connection[Any], lake: Lake, settings: Settings) -> None:
        self._books: Final = ReplayRepository(connection, settings)
        self._batch: Final = BatchRebuilder(self._books, lake)
        self._bundles: Final = BundleCache(connection, settings)

    def sample(self, size: int, seed: int, since: date | None = None) -> list[str]:
        """Return the ids of outputs of bars from a day on, drawn at random; the same seed draws the same."""
        return self._books.sample(size, seed, since)

    def newest_day(self) -> date | None:
        """Return the UTC day of the newest bar with an alert, a signal or a prediction; None without any."""
        return self._books.newest_day()

    def replay(self, ids: Sequence[str]) -> Iterator[Replayed]:
        """Yield what the replay of each output came to, in the order of the ids."""
        for id_ in ids:
            output = self._books.output(id_)
            if output is None:
                yield Replayed(
                    id=id_,
                    outcome="impossible",
                    reason="no row of surveillance.anomalies, signals or predictions and no message has this id",
                )
            else:
                yield _Replay(self._books, self._batch, self._bundles, output).run()


class _Replay:
    """One output on its way."""

    def __init__(
        self, books: ReplayRepository, batch: BatchRebuilder, shelf: BundleCache, output: StoredOutput
    ) -> None:
        self._books: Final = books
        self._batch: Final = batch
        self._bundles: Final = shelf
        self._output: Final = output
        self._live: LiveInputs | None = None
        self._place: tuple[str, int] | None = None
        self._notes: list[str] = []

    def run(self) -> Replayed:
        try:
            difference, same_runtime = self._compare()
        except CannotReplayError as error:
            return self._result("impossible", reason=str(error))
        except DamagedInputError as error:
            return self._result("different", difference=error.difference)
        if difference is not None:
            return self._result("different", difference=difference)
        return self._result("equal" if same_runtime else "equivalent")

    def _compare(self) -> tuple[Difference | None, bool]:
        output, run = self._output, self._recorded_run()
        values = output.values
        view, predictor = _view(values["feature_view"]), self._bundles.predictor(values["bundle_hash"])
        config_hash = values.get("config_hash") or legacy.config_of_prediction(self._books, values)
        knobs = self._books.knobs(config_hash)
        candidate = self._candidate(view, run, knobs, predictor.window_length)
        config = _row_config(output, predictor, config_hash, knobs)
        self._note_code(values.get("code_version") or (run.code_version if run else None))
        same_runtime = self._same_runtime(values.get("runtime_hash") or (run.runtime_hash if run else None))
        difference = self._scored_difference(candidate, predictor, config, same_runtime=same_runtime)
        difference = difference or self._status_difference()
        if self._live is not None:
            difference = self._explained(difference)
        return difference, same_runtime

    def _recorded_run(self) -> RecordedRun | None:
        output, run_id = self._output, self._output.values["run_id"]
        if not output.is_live:
            return self._books.batch_run(run_id, day_of(output))
        self._place = self._books.place(output.values.get("correlation_id") or self._source_message())
        if self._place is not None:
            return self._books.live_run(*self._place, run_id)
        queue = self._books.queue_of_bar(output.symbol, output.bar_start)  # the message is no longer kept
        return None if queue is None else self._books.live_run(queue, END_OF_TIME, run_id)

    def _source_message(self) -> str:
        """Return the last message of a prediction's bar; the table has no column for it."""
        output = self._output
        queue = self._books.queue_of_bar(output.symbol, output.bar_start)
        bar = None if queue is None else self._books.bar(output.symbol, queue, output.bar_start)
        if bar is None:
            raise CannotReplayError(
                f"expected the bar {output.symbol} {to_iso(output.bar_start)[:16]} in ops.live_bars, found none"
            )
        return bar.source_message_id

    def _candidate(
        self, view: FeatureView, run: RecordedRun | None, knobs: Mapping[str, Any], window_length: int
    ) -> Candidate:
        output = self._output
        if not output.is_live:
            if run is None:
                raise CannotReplayError(
                    f"the run {output.values['run_id']} that scored this is not on record in ops.scoring_runs"
                )
            rebuilt = self._batch.candidate(output, view, run, knobs, window_length)
            self._notes += rebuilt.notes
            return rebuilt.candidate
        if run is None:
            self._notes.append("the run is not on record in ops.scoring_runs: sessions are taken as they are now")
        self._live = self._live_inputs(view, run, knobs, window_length)
        return live_candidate(output, self._live)

    def _live_inputs(
        self, view: FeatureView, run: RecordedRun | None, knobs: Mapping[str, Any], window_length: int
    ) -> LiveInputs:
        output, books = self._output, self._books
        symbol, start, provisional = output.symbol, output.bar_start, output.bar_status == "provisional"
        if provisional and self._place is None:
            cause = output.values["correlation_id"]
            raise CannotReplayError(f"expected message {cause} in ops.inbox, found none: it is no longer kept")
        queue = books.queue_of_bar(symbol, start) if self._place is None else self._place[0]
        if queue is None:
            raise CannotReplayError("neither the bar in ops.live_bars nor its messages in ops.inbox are kept any more")
        position = self._place[1] if provisional and self._place else None
        seed = books.seed(symbol, queue, view.name, start, position)
        since, enough = books.bars_before(symbol, queue, start, seed.as_of_bar_start if seed else None, window_length)
        if seed is None and not enough:
            raise CannotReplayError(
                f"what the features of {symbol} were seeded from is not on record in ops.lane_seeds: it was served "
                "before that was recorded"
            )
        messages = books.messages(symbol, queue, start, until=position)
        calendar = {} if seed is None else {symbol: seed.calendar}
        sessions = books.sessions(run, knobs, **calendar)
        cumulative = bool(knobs["sqs_volume_is_cumulative"])
        before = books.volume_before(symbol, queue, messages[0], sessions) if cumulative and messages else None
        return LiveInputs(
            view=view,
            sessions=sessions,
            seed=None if enough else seed,
            since=tuple(since),
            bar=books.bar(symbol, queue, start),
            messages=tuple(messages),
            volume_before=before,
            cumulative=cumulative,
            window_length=window_length,
        )

    def _scored_difference(
        self, candidate: Candidate, predictor: Predictor, config: RowConfig, *, same_runtime: bool
    ) -> Difference | None:
        """Return the first field that differs, scored by the models that were in service then."""

        def replayed(excluded: Collection[str]) -> Difference | None:
            rebuilt = self._row(candidate, config, without_members(predictor, excluded))
            return first_difference(self._output, rebuilt, same_runtime=same_runtime)

        excluded = self._output.excluded_models
        if excluded is not None:
            return replayed(excluded)
        difference, found = legacy.search_excluded(self._books, self._place, replayed)
        if found:
            self._notes.append(f"scored while out of service: {', '.join(found)}")
        return difference

    def _row(self, candidate: Candidate, config: RowConfig, predictor: Predictor) -> OutputRow:
        output, scores = self._output, predictor.predict(candidate.window[None])
        if output.kind == "signal":
            return signal_row(config, candidate, scores, 0)
        if output.kind != "anomaly":
            return score_row(config, candidate, scores, 0)
        shown, stored = anomaly_kind(scores, 0), output.values["kind"]
        if output.values["alert_status"] == "retracted" and shown != stored:
            return anomaly_row(config, candidate, scores, 0, kind=stored, status="retracted")
        status: AlertStatus = "opened" if candidate.bar_status == "provisional" else "confirmed"
        return anomaly_row(config, candidate, scores, 0, kind=shown or NORMAL, status=status)

    def _status_difference(self) -> Difference | None:
        values = self._output.values
        if values.get("alert_status") != "retracted" or self._books.was_opened(values["alert_id"]):
            return None
        return Difference("alert_status", "retracted", None, "no row of this alert_id has opened it")

    def _explained(self, difference: Difference | None) -> Difference | None:
        """Return the damaged input behind a difference of a live row, or the difference itself."""
        inputs = self._live
        if inputs is None:
            return difference
        own = self._own_bar()
        if own is not None and (difference is None or self._output.bar_status == "final"):
            return own
        if difference is None or difference.field != "input_hash":
            return difference
        found = own or self._damaged_before(inputs)
        if found is None:
            return difference
        cause = f"{found.field}: {found.cause}, {found.stored!r} against {found.rebuilt!r}"
        return Difference(difference.field, difference.stored, difference.rebuilt, cause)

    def _own_bar(self) -> Difference | None:
        """Return how the row's bar, once closed, differs from what all of its messages say."""
        output, inputs = self._output, self._live
        if inputs is None or inputs.bar is None or self._place is None:
            return None
        messages = self._books.messages(output.symbol, self._place[0], output.bar_start)
        return witness(output.symbol, inputs.bar, messages, inputs)

    def _damaged_before(self, inputs: LiveInputs) -> Difference | None:
        """Return the first damage among the bars before: against their messages, then against their own scores."""
        output, place = self._output, self._place
        if place is None or not inputs.since:
            return None
        first = inputs.since[0].bar_start
        minutes = (output.bar_start - first) // MINUTE_US
        by_bar: dict[int, list[Any]] = {}
        for message in self._books.messages(output.symbol, place[0], first, bars=minutes):
            by_bar.setdefault(message.event_time - message.event_time % MINUTE_US, []).append(message)
        for bar in inputs.since:
            found = witness(output.symbol, bar, by_bar.get(bar.bar_start, []), inputs)
            if found is not None and not inputs.cumulative:
                return found
        return self._first_unlike_its_score(inputs)

    def _first_unlike_its_score(self, inputs: LiveInputs) -> Difference | None:
        today = [bar.bar_start for bar in inputs.since if utc_date(bar.bar_start) == day_of(self._output)]
        recorded = self._books.prediction_hashes(self._output.symbol, today, inputs.view.name)
        for bar, digest in closed_hashes(self._output.symbol, inputs):
            was = recorded.get(bar.bar_start)
            if was is not None and was != digest:
                cause = (
                    "its messages agree with it and its score does not: market_return or market_peers of this bar in "
                    "ops.live_bars, or a bar that the lane was seeded with"
                )
                return Difference(f"features of bar {to_iso(bar.bar_start)[:16]}", was, digest, cause)
        return None

    def _note_code(self, was: str | None) -> None:
        if was is not None and was != scoring_code_version():
            self._notes.append(f"scored by code {was}, replayed by {scoring_code_version()}")

    def _same_runtime(self, was: str | None) -> bool:
        if was is None:
            raise CannotReplayError("the runtime of this prediction is not on record: no run in ops.scoring_runs")
        if was == runtime_hash():
            return True
        then, now = self._books.runtime(was), runtime_description()
        changed = sorted(name for name in now if then is not None and then.get(name) != now[name])
        what = f"{', '.join(changed)} changed" if changed else "what it was is not on record in ops.runtimes"
        self._notes.append(f"scored on another runtime: {what}")
        return False

    def _result(
        self,
        outcome: Literal["equal", "equivalent", "different", "impossible"],
        *,
        difference: Difference | None = None,
        reason: str | None = None,
    ) -> Replayed:
        output = self._output
        return Replayed(
            id=output.id,
            outcome=outcome,
            kind=output.kind,
            symbol=output.symbol,
            bar_start=output.bar_start,
            bar_status=output.bar_status,
            lane="live" if output.is_live else "batch",
            difference=difference,
            reason=reason,
            notes=tuple(self._notes),
        )


def _view(name: str) -> FeatureView:
    view = VIEWS.get(name)
    if view is None:
        raise CannotReplayError(
            f"expected the feature view {name!r} among {sorted(VIEWS)}: use the release that had it"
        )
    return view


def _row_config(output: StoredOutput, predictor: Predictor, config_hash: str, knobs: Mapping[str, Any]) -> RowConfig:
    strategy = output.values.get("strategy", DEFAULT_STRATEGY)
    return current_row_config(
        predictor, tenant=knobs["tenant"], config_hash=config_hash, pace=_NO_PACE, strategy=strategy
    )
