"""Faults planted into the serving path, its configuration and its data, for the mutation test of canaries.

Each fault is a context manager: it takes a platform, breaks something, and gives the platform to run canaries on.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from surveillance_pipelines.clock import utc_date
from surveillance_pipelines.contracts.outputs import Anomaly, Signal
from surveillance_pipelines.engine import bar_builder, engine, symbol_state
from surveillance_pipelines.engine.alerts import AlertEvent, OpenAlerts
from surveillance_pipelines.engine.live_market import LiveMarket
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.market import messages
from surveillance_pipelines.models import bundle_predictions, ensemble, fusion
from surveillance_pipelines.models.autoencoder import Autoencoder
from surveillance_pipelines.models.classifier import Classifier
from surveillance_pipelines.models.rules import EVIDENCE
from surveillance_pipelines.models.tail_detector import TailDetector
from surveillance_pipelines.runtime import serving_engine
from surveillance_pipelines.services import canaries
from surveillance_pipelines.services.platform import Platform

Fault = Callable[[Platform], AbstractContextManager[Platform]]

HOUR_US: Final = 3_600_000_000
SYMBOL: Final = "AAPL"


def with_settings(platform: Platform, **changes: Any) -> Platform:
    """Return the same platform with other settings."""
    return Platform(platform.settings.model_copy(update=changes), platform.clock)


def _sql(statement: str, undo: str, **changes: Any) -> Fault:
    @contextmanager
    def fault(platform: Platform) -> Iterator[Platform]:
        with platform.connect() as connection:
            connection.execute(statement.encode())
        try:
            yield with_settings(platform, **changes)
        finally:
            with platform.connect() as connection:
                connection.execute(undo.encode())

    return fault


def _patched(target: Any, name: str, make: Callable[[Any], Any]) -> Fault:
    """Return a fault that replaces an attribute by what ``make`` returns for the original."""

    @contextmanager
    def fault(platform: Platform) -> Iterator[Platform]:
        with patch.object(target, name, make(target.__dict__[name])):
            yield platform

    return fault


def _calendar(symbols: str, calendar: str) -> Fault:
    return _sql(
        f"UPDATE surveillance.instruments SET calendar = '{calendar}' WHERE {symbols}",
        "UPDATE surveillance.instruments SET calendar = 'XNYS'",
    )


@contextmanager
def _feed_off(platform: Platform) -> Iterator[Platform]:
    lake, day = platform.lake, utc_date(platform.clock.now_us())
    day = max(known for known in lake.days("bars_1m") if known < day)
    bars = lake.read("bars_1m", days=[day])
    lake.write_days("bars_1m", bars.filter(bars["symbol"] != SYMBOL), days=[day])
    try:
        yield platform
    finally:
        lake.write_days("bars_1m", bars, days=[day])


@contextmanager
def _damaged_bundle(platform: Platform) -> Iterator[Platform]:
    with platform.connect() as connection:
        (path,) = connection.execute("SELECT path FROM surveillance.model_versions").fetchone() or ("",)
    folder = Path(path)
    hidden = folder.with_name(f"{folder.name}-moved")
    shutil.move(folder, hidden)
    try:
        yield platform
    finally:
        shutil.move(hidden, folder)


def _feature(change: Callable[[Any, tuple[str, ...]], Any]) -> Fault:
    """Return a fault that changes the feature vectors of the live lane."""

    def wrapped(original: Any) -> Any:
        def compute(self: FeatureState, *arguments: Any) -> Any:
            return change(original(self, *arguments).copy(), self.view.columns)

        return compute

    @contextmanager
    def fault(platform: Platform) -> Iterator[Platform]:
        with (
            patch.object(FeatureState, "peek", wrapped(FeatureState.peek)),
            patch.object(FeatureState, "advance", wrapped(FeatureState.advance)),
        ):
            yield platform

    return fault


def _zeroed(*names: str) -> Fault:
    def change(row: Any, columns: tuple[str, ...]) -> Any:
        row[[columns.index(name) for name in names]] = 0.0
        return row

    return _feature(change)


def _zeroed_for_models(name: str) -> Fault:
    """Zero a feature in what the models read, live and in batch."""

    def make(original: Any) -> Any:
        def predict(self: ensemble.Ensemble, window: Any) -> Any:
            changed = np.array(window)
            changed[..., VIEWS[self.feature_view].columns.index(name)] = 0.0
            return original(self, changed)

        return predict

    return _patched(ensemble.Ensemble, "predict", make)


def _shifted_features(original: Any) -> Any:
    def candidate(self: symbol_state.SymbolState, bar: Any, features: Any, **options: Any) -> Any:
        found = original(self, bar, features, **options)
        before = self.__dict__.setdefault("_last_features", features)
        if bar.bar_status == "final":
            self.__dict__["_last_features"] = features
        return replace(found, features=before)

    return candidate


def _decided(keep: Callable[[Any, Any], bool]) -> Fault:
    """Return a fault that drops alerts: ``keep`` receives the candidate bar and the row."""

    def make(original: Any) -> Any:
        def decide(predictions: Any, i: int, bar: Any, config: Any, state: Any, **options: Any) -> Any:
            rows = original(predictions, i, bar, config, state, **options)
            return [row for row in rows if not isinstance(row, Anomaly) or keep(bar, row)]

        return decide

    return _patched(engine, "decide", make)


def _needs_a_signal_that_day() -> Fault:
    signalled: set[tuple[int, Any]] = set()

    def make(original: Any) -> Any:
        def decide(predictions: Any, i: int, bar: Any, config: Any, state: Any, **options: Any) -> Any:
            rows = original(predictions, i, bar, config, state, **options)
            key = id(state), utc_date(bar.bar_start)
            allowed = key in signalled
            if any(isinstance(row, Signal) for row in rows):
                signalled.add(key)
            return [row for row in rows if not isinstance(row, Anomaly) or allowed]

        return decide

    return _patched(engine, "decide", make)


def _one_alert_a_day() -> Fault:
    alerted: set[tuple[int, str]] = set()

    def make(original: Any) -> Any:
        def decide(predictions: Any, i: int, bar: Any, config: Any, state: Any, **options: Any) -> Any:
            rows = original(predictions, i, bar, config, state, **options)
            found = [row for row in rows if isinstance(row, Anomaly) and row.alert_status == "confirmed"]
            key = id(state), bar.symbol
            if found and key in alerted:
                return [row for row in rows if not isinstance(row, Anomaly)]
            if found:
                alerted.add(key)
            return rows

        return decide

    return _patched(engine, "decide", make)


def _ticks(change: Callable[[Any], Any]) -> Fault:
    def make(original: Any) -> Any:
        def decode(body: str, *, sent_at: int | None) -> Any:
            tick = original(body, sent_at=sent_at)
            return change(tick) if isinstance(tick, messages.Tick) else tick

        return decode

    return _patched(messages, "decode_tick", make)


def _statistic(model: type, change: Callable[[Any], Any]) -> Fault:
    def make(original: Any) -> Any:
        def predict(self: Any, window: Any) -> Any:
            return change(original(self, window))

        return predict

    return _patched(model, "predict", make)


def _permuted(kinds: Any) -> Any:
    found = kinds.probabilities.copy()
    found[:, 1:] = np.roll(found[:, 1:], 1, axis=1)
    return replace(kinds, probabilities=found)


def _always_normal(kinds: Any) -> Any:
    found = np.zeros_like(kinds.probabilities)
    found[:, 0] = 1.0
    return replace(kinds, probabilities=found)


def _raises(_: Any) -> Any:
    raise RuntimeError("planted fault")


def _scores(change: Callable[[Any], Any]) -> Fault:
    """Return a fault that changes where a bar counts as anomalous, live and in batch."""
    return _patched(bundle_predictions.BundlePredictions, "is_anomaly", lambda _: property(change))


def _strict_evidence(original: Any) -> Any:
    return {
        kind: replace(rule, limits=tuple((name, 20.0 * limit) for name, limit in rule.limits))
        for kind, rule in EVIDENCE.items()
    }


def _no_finals(_: Any) -> Any:
    def on_final(self: OpenAlerts, _kind: str | None) -> list[AlertEvent]:
        self.__init__()
        return []

    return on_final


def _empty_history(original: Any) -> Any:
    return lambda *_arguments: {symbol: Seed() for symbol in _arguments[2]}


def _cumulative(original: Any) -> Any:
    return lambda *arguments, **options: replace(original(*arguments, **options), volume_is_cumulative=True)


def _high_is_lost(original: Any) -> Any:
    def add(self: bar_builder.OpenBar, print_: Any) -> None:
        high = self.high
        original(self, print_)
        self.high = max(high, self.close) if print_.tick.price < 1.01 * high else high

    return add


_NO_INSTRUMENT: Final = (
    f"DELETE FROM surveillance.instruments WHERE symbol = '{SYMBOL}'",
    (
        "INSERT INTO surveillance.instruments (symbol, calendar, added_at, source) "
        f"VALUES ('{SYMBOL}', 'XNYS', now(), 'test')"
    ),
)
_SESSIONS: Final = (
    "UPDATE surveillance.sessions SET opens_at = opens_at + interval '{0} hours', "
    "closes_at = closes_at + interval '{0} hours' WHERE calendar = 'XNYS'"
)

FAULTS: Final[dict[str, Fault]] = {
    "feed off for a symbol": _feed_off,
    "symbol removed from the instrument table": _sql(*_NO_INSTRUMENT, symbols=()),
    "symbol list cut": _sql(
        "UPDATE surveillance.instruments SET symbol = 'X.' || symbol WHERE symbol <> 'SPY'",
        "UPDATE surveillance.instruments SET symbol = substr(symbol, 3) WHERE symbol LIKE 'X.%'",
        symbols=("SPY",),
    ),
    "calendar of a symbol is XTKS": _calendar(f"symbol = '{SYMBOL}'", "XTKS"),
    "calendar of a symbol is XLON": _calendar(f"symbol = '{SYMBOL}'", "XLON"),
    "calendar of a symbol is 24/7": _calendar(f"symbol = '{SYMBOL}'", "24/7"),
    "calendar of all symbols is 24/7": _calendar("true", "24/7"),
    "DEFAULT_CALENDAR is XTKS": _sql(*_NO_INSTRUMENT, symbols=(SYMBOL,), default_calendar="XTKS"),
    "sessions shifted by an hour": _sql(_SESSIONS.format(1), _SESSIONS.format(-1)),
    "sessions shifted by five hours": _sql(_SESSIONS.format(5), _SESSIONS.format(-5)),
    "champion's folder lost, another bundle serves": _damaged_bundle,
    "feature volume_z zeroed": _zeroed("volume_z"),
    "feature return_z zeroed": _zeroed("return_z"),
    "feature session_progress zeroed": _zeroed("session_progress"),
    "all features zeroed": _feature(lambda row, _columns: np.zeros_like(row)),
    "volume_z zeroed for the models, live and batch": _zeroed_for_models("volume_z"),
    "gap_z zeroed for the models, live and batch": _zeroed_for_models("gap_z"),
    "features shifted by one bar": _patched(symbol_state.SymbolState, "_candidate", _shifted_features),
    "peers' returns lost": _patched(LiveMarket, "value", lambda _: lambda *_arguments: (float("nan"), 0)),
    "history not loaded": _patched(canaries, "history_seeds", _empty_history),
    "threshold inverted": _scores(lambda found: found.anomaly_score < found.threshold),
    "threshold 0.9 instead of 0.5": _scores(lambda found: found.anomaly_score >= 0.9),
    "threshold 0.05 instead of 0.5": _scores(lambda found: found.anomaly_score >= 0.05),
    "floors removed": _patched(ensemble, "floor_scores", lambda _: lambda rows, _columns: np.zeros(len(rows))),
    "tail detector's statistic halved": _statistic(
        TailDetector, lambda found: replace(found, statistic=0.5 * found.statistic)
    ),
    "tail detector raises": _statistic(TailDetector, _raises),
    "autoencoder raises": _statistic(Autoencoder, _raises),
    "classifier's labels permuted": _statistic(Classifier, _permuted),
    "classifier says normal": _statistic(Classifier, _always_normal),
    "evidence rules 20 times too strict": _patched(fusion, "EVIDENCE", _strict_evidence),
    "a kind suppressed": _decided(lambda _bar, row: row.kind != "volume_spike"),
    "decisions drop final bars": _patched(OpenAlerts, "on_final", _no_finals),
    "alerts for one symbol only": _decided(lambda bar, _row: bar.symbol == SYMBOL),
    "alerts of the tenant dropped": _decided(lambda _bar, row: row.tenant != "default"),
    "alerts need a signal that day": _needs_a_signal_that_day(),
    "one alert per symbol and day": _one_alert_a_day(),
    "no alerts in the last half hour": _decided(lambda bar, _row: bar.bar_start % (24 * HOUR_US) < 19.5 * HOUR_US),
    "time zone shifted by five hours": _ticks(lambda tick: replace(tick, event_time=tick.event_time - 5 * HOUR_US)),
    "prices times 100": _ticks(lambda tick: replace(tick, price=100.0 * tick.price)),
    "volume lost": _ticks(lambda tick: replace(tick, volume=0.0)),
    "volume read as cumulative": _patched(serving_engine, "engine_config", _cumulative),
    "highs of bars lost": _patched(bar_builder.OpenBar, "add", _high_is_lost),
}
"""Name → fault. All faults are planted alone."""


SMALL: Final = 12
"""Manipulations of a small run: one copy."""


def turns_red(platform: Platform, run_id: str) -> tuple[int, str]:
    """Run canaries with ``SMALL`` manipulations and, if all checks are green, with the usual number.

    The larger run sends the smaller one's unchanged bars as well, so it shows at least what the smaller one shows.

    Returns:
        The number of manipulations of the run in which a check is red, or which failed, and the reasons; 0 if both runs
        are green.
    """
    for events in (SMALL, canaries.EVENTS):
        if why := red_checks(platform, run_id, events=events):
            return events, why
    return 0, ""


def red_checks(platform: Platform, run_id: str, *, events: int | None = None) -> str:
    """Run canaries, and return the red checks or the error that ends the run; empty if all checks are green."""
    from surveillance_pipelines.defs.canaries.checks import canary_results

    number = canaries.EVENTS if events is None else events
    with patch.object(canaries, "EVENTS", number), patch.object(canaries, "THIRDS", 0):
        try:
            run = canaries.run_canaries(platform, run_id=run_id)
        except Exception as error:  # noqa: BLE001 (a failed run is red in Dagster)
            return f"the run fails: {type(error).__name__}: {error}"[:400]
    red = [result for result in canary_results(run) if not result.passed]
    return "; ".join(f"{result.check_name}: {result.description}" for result in red)[:400]
