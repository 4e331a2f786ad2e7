"""Events of a Dagster run, read from its event log: steps, materializations, checks and errors."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

_PAGE = 500
_CLASS_NAME = re.compile(r"\A(?:surveillance_pipelines[\w.]*|[\w.]*Failure|ValueError|RuntimeError): (?=\S)")
"""Class name before an error message of the platform; the message is complete without it."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one asset check; ``summary`` is the description of the result."""

    asset: str
    name: str
    passed: bool
    blocking: bool
    summary: str


@dataclass
class RunWatch:
    """Reads the event log of one run; each ``poll`` reads the events after the previous one.

    Attributes:
        steps: number of steps of the run; 0 until the run exists.
        running: keys of the steps in progress, in the order of their starts.
        done: keys of the ended steps, in order.
        materialized: asset key → metadata of its last materialization, as plain values.
        checks: results so far.
        errors: messages of failed steps and of the run itself.
    """

    instance: "dg.DagsterInstance"
    run_id: str
    steps: int = 0
    running: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    materialized: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _cursor: str | None = None

    def poll(self) -> None:
        """Read the events logged since the last call."""
        run = self.instance.get_run_by_id(self.run_id)
        if run is None:
            return
        self.steps = len(run.step_keys_to_execute or ())
        more = True
        while more:
            page = self.instance.get_records_for_run(self.run_id, cursor=self._cursor, limit=_PAGE)
            self._cursor, more = page.cursor, page.has_more
            for record in page.records:
                if record.event_log_entry.dagster_event is not None:
                    self._record(record.event_log_entry.dagster_event)

    def succeeded(self) -> bool:
        """Return whether the run succeeded."""
        run = self.instance.get_run_by_id(self.run_id)
        return run is not None and run.is_success

    def _record(self, event: "dg.DagsterEvent") -> None:
        self._record_step(event)
        if event.is_step_failure:
            self.errors.append(f"{event.step_key}: {_root_cause(event.step_failure_data.error)}")
        elif event.is_run_failure and event.job_failure_data.error and not self.errors:
            # After a failed step, the error of the run only repeats the error of the step.
            self.errors.append(_root_cause(event.job_failure_data.error))
        elif event.is_step_materialization:
            made = event.step_materialization_data.materialization
            self.materialized[made.asset_key.to_user_string()] = plain(made.metadata)
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            self._record_check(event.asset_check_evaluation_data)

    def _record_step(self, event: "dg.DagsterEvent") -> None:
        key, ended = str(event.step_key), event.is_step_success or event.is_step_failure or event.is_step_skipped
        if event.is_step_start or event.is_step_restarted:
            self.running.append(key)
        elif key in self.running and (ended or event.is_step_up_for_retry):
            self.running.remove(key)
        if ended:
            self.done.append(key)

    def _record_check(self, result: "dg.AssetCheckEvaluation") -> None:
        asset = result.asset_key.to_user_string()
        self.checks.append(
            Check(asset, result.check_name, result.passed, bool(result.blocking), result.description or "")
        )


def plain(metadata: Any) -> dict[str, Any]:
    """Return Dagster metadata as plain values; tables stay Dagster objects."""
    return {name: getattr(value, "value", value) for name, value in metadata.items()}


def _root_cause(error: Any) -> str:
    while error is not None and error.cause is not None:
        error = error.cause
    return "unknown error" if error is None else _CLASS_NAME.sub("", error.message.strip())
