"""Replay of stored outputs: each is rebuilt from its recorded inputs, settings and models, and compared."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final, Literal

import psycopg

from surveillance_pipelines.clock import to_iso, utc_date
from surveillance_pipelines.contracts.outputs import DEFAULT_STRATEGY, AlertStatus, OutputRow
from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.engine.code_version import scoring_code_version
from surveillance_pipelines.engine.incidents import gap_of
from surveillance_pipelines.engine.model_guard import without_members
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
from surveillance_pipelines.models.contract import ModelFailedError
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
from surveillance_pipelines.replay.incidents import incident_difference
from surveillance_pipelines.replay.live import (
    DamagedInputError,
    LiveInputs,
    closed_hashes,
    compare_with_messages,
    live_candidate,
)
from surveillance_pipelines.replay.repository import END_OF_TIME, RecordedRun, ReplayRepository, day_of
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.strategies.pacing import SignalPace

_NO_COOLDOWN: Final = SignalPace(cooldown=0, warmup=0)
"""A stored signal has already passed its cooldown."""


class Replayer:
    """Replays outputs in this process, from stored data."""

    def __init__(self, connection: psycopg.Connection[Any], lake: Lake, settings: Settings) -> None:
        self._repository: Final = ReplayRepository(connection, settings)
        self._batch: Final = BatchRebuilder(self._repository, lake)
        self._bundles: Final = BundleCache(connection, settings)

    def sample(self, size: int, seed: int, since: date | None = None) -> list[str]:
        """Return the ids of random outputs of bars from a day on; the same seed and rows give the same ids."""
        return self._repository.sample(size, seed, since)

    def newest_day(self) -> date | None:
        """Return the UTC day of the newest bar with an alert, a signal or a prediction; None if there is none."""
        return self._repository.newest_day()

    def replay(self, ids: Sequence[str]) -> Iterator[Replayed]:
        """Yield the replay result of each output, in the order of the ids."""
        for id_ in ids:
            output = self._repository.output(id_)
            if output is None:
                yield Replayed(
                    id=id_,
                    outcome="impossible",
                    reason="no row of surveillance.anomalies, incidents, signals or predictions and no message has "
                    "this id; an id has 64 characters, and `surveillance alerts show` prints that of an alert from its "
                    "first ones",
                )
            else:
                yield _Replay(self._repository, self._batch, self._bundles, output).run()


class _Replay:
    """The replay of one output."""

    def __init__(
        self, repository: ReplayRepository, batch: BatchRebuilder, bundles: BundleCache, output: StoredOutput
    ) -> None:
        self._repository: Final = repository
        self._batch: Final = batch
        self._bundles: Final = bundles
        self._output: Final = output
        self._live: LiveInputs | None = None
        self._inbox_position: tuple[str, int] | None = None
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
        if self._output.kind == "incident":
            return self._compare_incident()
        output, run = self._output, self._recorded_run()
        values = output.values
        view, predictor = _view(values["feature_view"]), self._bundles.predictor(values["bundle_hash"])
        config_hash = values.get("config_hash") or legacy.config_of_prediction(self._repository, values)
        knobs = self._repository.knobs(config_hash)
        candidate = self._candidate(view, run, knobs, predictor.window_length)
        config = _row_config(output, predictor, config_hash, knobs)
        self._note_code(values.get("code_version") or (run.code_version if run else None))
        same_runtime = self._same_runtime(values.get("runtime_hash") or (run.runtime_hash if run else None))
        difference = self._scored_difference(candidate, predictor, config, same_runtime=same_runtime)
        difference = difference or self._status_difference()
        if self._live is not None:
            difference = self._with_cause(difference)
        return difference, same_runtime

    def _compare_incident(self) -> tuple[Difference | None, bool]:
        """Group the alerts on record again; whether an alert itself can be repeated is shown by its own replay."""
        output, values = self._output, self._output.values
        gap = gap_of(self._repository.knobs(values["config_hash"]).get("incident_gap_minutes"))
        self._note_code(values["code_version"])
        same_runtime = self._same_runtime(values["runtime_hash"])
        alerts = self._repository.alerts_of_day(output)
        return incident_difference(output, alerts, gap=gap, same_runtime=same_runtime), same_runtime

    def _recorded_run(self) -> RecordedRun | None:
        output, run_id = self._output, self._output.values["run_id"]
        if not output.is_live:
            return self._repository.batch_run(run_id, day_of(output))
        self._inbox_position = self._repository.inbox_position(
            output.values.get("correlation_id") or self._source_message()
        )
        if self._inbox_position is not None:
            return self._repository.live_run(*self._inbox_position, run_id)
        queue = self._repository.queue_of_bar(output.symbol, output.bar_start)  # the message is no longer kept
        return None if queue is None else self._repository.live_run(queue, END_OF_TIME, run_id)

    def _source_message(self) -> str:
        """Return the id of the last message of a prediction's bar; the table has no column for it."""
        output = self._output
        queue = self._repository.queue_of_bar(output.symbol, output.bar_start)
        bar = None if queue is None else self._repository.bar(output.symbol, queue, output.bar_start)
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
                    f"the run {output.values['run_id']} that scored this output is not on record in ops.scoring_runs"
                )
            rebuilt = self._batch.candidate(output, view, run, knobs, window_length)
            self._notes += rebuilt.notes
            return rebuilt.candidate
        if run is None:
            self._notes.append("the run is not on record in ops.scoring_runs: current sessions are used")
        self._live = self._live_inputs(view, run, knobs, window_length)
        return live_candidate(output, self._live)

    def _live_inputs(
        self, view: FeatureView, run: RecordedRun | None, knobs: Mapping[str, Any], window_length: int
    ) -> LiveInputs:
        output, repository = self._output, self._repository
        symbol, start, provisional = output.symbol, output.bar_start, output.bar_status == "provisional"
        if provisional and self._inbox_position is None:
            cause = output.values["correlation_id"]
            raise CannotReplayError(f"expected message {cause} in ops.inbox, found none: it is no longer kept")
        queue = repository.queue_of_bar(symbol, start) if self._inbox_position is None else self._inbox_position[0]
        if queue is None:
            raise CannotReplayError("expected the bar in ops.live_bars or its messages in ops.inbox, found neither")
        position = self._inbox_position[1] if provisional and self._inbox_position else None
        seed = repository.seed(symbol, queue, view.name, start, position)
        since, enough = repository.bars_before(
            symbol, queue, start, seed.as_of_bar_start if seed else None, window_length
        )
        if seed is None and not enough:
            raise CannotReplayError(
                f"the seed of {symbol}'s features is not on record in ops.lane_seeds: the symbol was served before "
                "seeds were recorded"
            )
        messages = repository.messages(symbol, queue, start, until=position)
        calendar = {} if seed is None else {symbol: seed.calendar}
        sessions = repository.sessions(run, knobs, **calendar)
        cumulative = bool(knobs["sqs_volume_is_cumulative"])
        before = repository.volume_before(symbol, queue, messages[0], sessions) if cumulative and messages else None
        return LiveInputs(
            view=view,
            sessions=sessions,
            seed=None if enough else seed,
            since=tuple(since),
            bar=repository.bar(symbol, queue, start),
            messages=tuple(messages),
            volume_before=before,
            cumulative=cumulative,
            window_length=window_length,
        )

    def _scored_difference(
        self, candidate: Candidate, predictor: Predictor, config: RowConfig, *, same_runtime: bool
    ) -> Difference | None:
        """Return the first field that differs when the models that were in service score the bar again."""

        def replay_without(excluded: Collection[str]) -> Difference | None:
            try:
                rebuilt = self._row(candidate, config, without_members(predictor, excluded))
            except ModelFailedError as error:  # such a model was out of service when the row was written
                return Difference("explanation", "a score", None, str(error))
            return first_difference(self._output, rebuilt, same_runtime=same_runtime)

        excluded = self._output.excluded_models
        if excluded is not None:
            return replay_without(excluded)
        difference, excluded = legacy.search_excluded(self._repository, self._inbox_position, replay_without)
        if excluded:
            self._notes.append(f"scored while out of service: {', '.join(excluded)}")
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
        if values.get("alert_status") != "retracted" or self._repository.was_opened(values["alert_id"]):
            return None
        return Difference("alert_status", "retracted", None, "no row with this alert_id opened the alert")

    def _with_cause(self, difference: Difference | None) -> Difference | None:
        """Return the damaged input that causes a difference of a live row, or else the difference itself."""
        inputs = self._live
        if inputs is None:
            return difference
        bar_difference = self._bar_difference()
        if bar_difference is not None and (difference is None or self._output.bar_status == "final"):
            return bar_difference
        if difference is None or difference.field != "input_hash":
            return difference
        damage = bar_difference or self._damaged_before(inputs)
        if damage is None:
            return difference
        cause = f"{damage.field}: {damage.cause}, {damage.stored!r} against {damage.rebuilt!r}"
        return Difference(difference.field, difference.stored, difference.rebuilt, cause)

    def _bar_difference(self) -> Difference | None:
        """Return the first field in which the row's closed bar differs from all of its messages."""
        output, inputs = self._output, self._live
        if inputs is None or inputs.bar is None or self._inbox_position is None:
            return None
        messages = self._repository.messages(output.symbol, self._inbox_position[0], output.bar_start)
        return compare_with_messages(output.symbol, inputs.bar, messages, inputs)

    def _damaged_before(self, inputs: LiveInputs) -> Difference | None:
        """Return the first earlier bar that contradicts its messages or, failing that, its own score."""
        output, position = self._output, self._inbox_position
        if position is None or not inputs.since:
            return None
        first = inputs.since[0].bar_start
        minutes = (output.bar_start - first) // MINUTE_US
        by_bar: dict[int, list[Any]] = {}
        for message in self._repository.messages(output.symbol, position[0], first, bars=minutes):
            by_bar.setdefault(message.event_time - message.event_time % MINUTE_US, []).append(message)
        for bar in () if inputs.cumulative else inputs.since:  # running totals before each bar are not known
            damage = compare_with_messages(output.symbol, bar, by_bar.get(bar.bar_start, []), inputs)
            if damage is not None:
                return damage
        return self._first_bar_unlike_its_score(inputs)

    def _first_bar_unlike_its_score(self, inputs: LiveInputs) -> Difference | None:
        today = [bar.bar_start for bar in inputs.since if utc_date(bar.bar_start) == day_of(self._output)]
        recorded = self._repository.prediction_hashes(self._output.symbol, today, inputs.view.name)
        for bar, digest in closed_hashes(self._output.symbol, inputs):
            was = recorded.get(bar.bar_start)
            if was is not None and was != digest:
                cause = (
                    "the bar agrees with its messages but not with its score: the damage is in its market_return or "
                    "market_peers in ops.live_bars, or in the seed"
                )
                return Difference(f"features of bar {to_iso(bar.bar_start)[:16]}", was, digest, cause)
        return None

    def _note_code(self, was: str | None) -> None:
        if was is not None and was != scoring_code_version():
            self._notes.append(f"scored by code {was}, replayed by {scoring_code_version()}")

    def _same_runtime(self, was: str | None) -> bool:
        if was is None:
            raise CannotReplayError(
                "expected the run of this prediction in ops.scoring_runs for its runtime, found none"
            )
        if was == runtime_hash():
            return True
        then, now = self._repository.runtime(was), runtime_description()
        changed = sorted(name for name in now if then is not None and then.get(name) != now[name])
        what = f"{', '.join(changed)} changed" if changed else "its description is not on record in ops.runtimes"
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
            f"expected a feature view among {sorted(VIEWS)}, got {name!r}: use the release that had it"
        )
    return view


def _row_config(output: StoredOutput, predictor: Predictor, config_hash: str, knobs: Mapping[str, Any]) -> RowConfig:
    tenant, strategy = output.values.get("tenant", knobs["tenant"]), output.values.get("strategy", DEFAULT_STRATEGY)
    return current_row_config(predictor, tenant=tenant, config_hash=config_hash, pace=_NO_COOLDOWN, strategy=strategy)
