"""Which models answer a command, and what they say about a frame of bars."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.commands.console import say
from surveillance_pipelines.commands.context import Platform
from surveillance_pipelines.commands.days import span
from surveillance_pipelines.commands.failures import CommandError, ExitCode, failing_as
from surveillance_pipelines.commands.homes import is_untouched
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.outputs import Anomaly
    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.models.bundle import Bundle
    from surveillance_pipelines.models.ensemble import Predictor

_BARS: Final = "bars_1m"
_SHOWN_SYMBOLS: Final = 6


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers: the models, their name in words, and the newest day that they learned from, if they did."""

    scorer: "Predictor"
    said: str
    trained_to: date | None = None


def choose_scorer(platform: Platform, *, bundle: Path | None, warmup: bool) -> Choice:
    """Return the models to use: the named bundle, else the champion, else the warm-up rules."""
    from surveillance_pipelines.models.bundle import BundleError, load_bundle
    from surveillance_pipelines.models.warmup import WarmupRules

    if warmup:
        return Choice(WarmupRules(), "the warm-up rules")
    with failing_as(ExitCode.USAGE, BundleError):
        if bundle is not None:
            loaded = load_bundle(bundle)
            return _choice(loaded, f"the bundle {loaded.bundle_hash[:12]}")
        active = None if is_untouched(platform.settings) else _champion(platform)
        if active is None:
            return Choice(WarmupRules(), "the warm-up rules: no model has been promoted yet (`surveillance train`)")
        version, path, bundle_hash = active
        loaded = load_bundle(Path(path), expected_hash=bundle_hash)
        return _choice(loaded, f"the champion, v{version} {bundle_hash[:12]}")


def warn_of_synthetic_training(platform: Platform, choice: Choice, bars: "pl.DataFrame") -> None:
    """Say when models of the platform's simulated bars judge other bars: what is usual there is not usual here."""
    last = choice.trained_to
    if last is None or is_untouched(platform.settings) or "simulated" in bars["source"].unique():
        return
    if not platform.lake.exists(_BARS):
        return
    known = platform.lake.read(_BARS, days=(last, last), columns=["symbol", "source"])
    if set(known["source"]) == {"simulated"}:
        symbols = known["symbol"].unique().sort()
        say(
            f"its bars of {last} were simulated ({', '.join(symbols.head(_SHOWN_SYMBOLS))}), yours are not: what it "
            "finds says little; `ingest`, `backfill` and `train` in a home of their own (`surveillance --home DIR …`)",
            style="yellow",
        )


def _choice(bundle: "Bundle", name: str) -> Choice:
    from surveillance_pipelines.models.ensemble import Ensemble

    data = bundle.manifest["training"].get("data", {})
    if not {"first", "last"} <= set(data):
        return Choice(Ensemble(bundle), name)
    said = f"{name}, trained on {data['first']} to {data['last']}"
    return Choice(Ensemble(bundle), said, date.fromisoformat(data["last"]))


def _champion(platform: Platform) -> tuple[int, str, str] | None:
    from surveillance_pipelines.stores.deployments import champion

    with platform.connect() as connection:
        return champion(connection, platform.settings.tenant)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which bars to report on; the others are history. Empty or None takes all."""

    symbols: tuple[str, ...] = ()
    lookback: int | None = None
    first: date | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found in which bars.

    Attributes:
        anomalies: columns as in their table; ``explanation`` is JSON text.
        bars: symbol, bar_start, close, volume of every bar that was judged.
    """

    anomalies: "pl.DataFrame"
    bars: "pl.DataFrame"


def find_anomalies(
    settings: Settings, bars: "pl.DataFrame", scorer: "Predictor", *, scope: Scope, calendar: str | None
) -> Detection:
    """Compute features, and judge every bar in scope."""
    from surveillance_pipelines.batch.scoring import score_day
    from surveillance_pipelines.engine.scoring_rows import row_config

    sessions = sessions_of(bars, calendar, settings.default_calendar)
    features = _features(bars, sessions, scorer, scope)
    scored = score_day(features, scorer, row_config(settings, scorer), sessions=sessions)
    judged = scored.scores.select("symbol", "bar_start", "volume", close="price")
    return Detection(_frame(scored.anomalies), judged)


def _features(bars: "pl.DataFrame", sessions: "SessionTable", scorer: "Predictor", scope: Scope) -> "pl.DataFrame":
    """Return the features of the bars in scope; all symbols' bars take part, as each is the others' market."""
    import polars as pl

    from surveillance_pipelines.features.batch import features_of_days, latest_features
    from surveillance_pipelines.features.views import VIEWS

    view = VIEWS[scorer.feature_view]
    if scope.lookback is not None:
        features = latest_features(bars, sessions, scope.lookback, view)
    else:
        days = [day for day in bars["date"].unique().sort() if scope.first is None or day >= scope.first]
        features = features_of_days(bars, days, sessions, view)
    if scope.first is not None:
        features = features.filter(pl.col("date") >= scope.first)
    if scope.symbols:
        features = features.filter(pl.col("symbol").is_in(scope.symbols))
    if features.is_empty():
        held = f"{', '.join(bars['symbol'].unique().sort())} up to {bars['date'].max()}"
        raise CommandError(
            f"expected bars of {', '.join(scope.symbols) or 'any symbol'} from {scope.first or 'any day'} "
            f"on, there are {held}",
            code=ExitCode.USAGE,
            remedy="choose other symbols or days",
        )
    return features


def _frame(rows: "Sequence[Anomaly]") -> "pl.DataFrame":
    import polars as pl

    from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
    from surveillance_pipelines.contracts.outputs import INSTANT_FIELDS, Anomaly, column_names, to_record

    records = [to_record(row) | {"explanation": json.dumps(row.explanation)} for row in rows]
    columns = column_names(Anomaly)
    frame = pl.DataFrame(records, schema=list(columns), infer_schema_length=None)
    return frame.with_columns(
        pl.col(name).cast(pl.Int64).cast(UTC_MICROSECONDS) for name in columns if name in INSTANT_FIELDS
    )


def sessions_of(bars: "pl.DataFrame", calendar: str | None, default: str) -> "SessionTable":
    """Return the sessions around some bars, of the calendars that their symbols trade on."""
    from datetime import timedelta

    import polars as pl

    from surveillance_pipelines.commands.registration import by_calendar
    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.calendars import build_sessions

    grouped = by_calendar(bars["symbol"].unique().sort(), calendar, default)
    first, last = span(bars["date"])
    margin = timedelta(days=10)
    rows = pl.concat([build_sessions(name, first - margin, last + margin) for name in grouped])
    calendar_of = {symbol: name for name, symbols in grouped.items() for symbol in symbols}
    return SessionTable.from_frame(rows, calendar=min(grouped), calendar_of=calendar_of)
