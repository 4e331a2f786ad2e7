"""Detection of anomalies in a frame of bars: of a file, or of the platform's own, with the models that are chosen."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.homes import is_untouched
from surveillance_pipelines.services.instruments import sessions_of
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.outputs import Anomaly
    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.files import FileResult
    from surveillance_pipelines.models.bundle import Bundle
    from surveillance_pipelines.models.ensemble import Predictor

BARS_TABLE: Final = "bars_1m"
_HISTORY: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class ChosenPredictor:
    """The models that score.

    Attributes:
        predictor: the models.
        name: which they are, in words.
        trained_to: last day of their training bars; None for the warm-up rules.
    """

    predictor: "Predictor"
    name: str
    trained_to: date | None = None


def choose_predictor(stores: Stores, *, bundle: Path | None, warmup: bool) -> ChosenPredictor:
    """Return the models to use: the named bundle, else the champion, else the warm-up rules."""
    from surveillance_pipelines.models.bundle import load_bundle
    from surveillance_pipelines.models.warmup import WarmupRules

    if warmup:
        return ChosenPredictor(WarmupRules(), "the warm-up rules")
    if bundle is not None:
        loaded = load_bundle(bundle)
        return _choice(loaded, f"the bundle {loaded.bundle_hash[:12]}")
    active = None if is_untouched(stores.settings) else _champion(stores)
    if active is None:
        return ChosenPredictor(
            WarmupRules(), "the warm-up rules: no model has been promoted yet (`surveillance train`)"
        )
    version, path, bundle_hash = active
    loaded = load_bundle(Path(path), expected_hash=bundle_hash)
    return _choice(loaded, f"the champion, v{version} {bundle_hash[:12]}")


def simulated_training_symbols(stores: Stores, chosen: ChosenPredictor, bars: "pl.DataFrame") -> list[str]:
    """Return the symbols whose simulated bars trained the models, if the bars to score are not simulated; else none.

    Models of a simulated market know nothing of what is usual in another.
    """
    last = chosen.trained_to
    if last is None or is_untouched(stores.settings) or "simulated" in bars["source"].unique():
        return []
    if not stores.lake.exists(BARS_TABLE):
        return []
    known = stores.lake.read(BARS_TABLE, days=(last, last), columns=["symbol", "source"])
    return known["symbol"].unique().sort().to_list() if set(known["source"]) == {"simulated"} else []


def _choice(bundle: "Bundle", name: str) -> ChosenPredictor:
    from surveillance_pipelines.models.ensemble import Ensemble

    data = bundle.manifest["training"].get("data", {})
    if not {"first", "last"} <= set(data):
        return ChosenPredictor(Ensemble(bundle), name)
    trained = f"{name}, trained on {data['first']} to {data['last']}"
    return ChosenPredictor(Ensemble(bundle), trained, date.fromisoformat(data["last"]))


def _champion(stores: Stores) -> tuple[int, str, str] | None:
    from surveillance_pipelines.stores.deployments import champion

    with stores.connect() as connection:
        return champion(connection, stores.settings.tenant)


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
    settings: Settings, bars: "pl.DataFrame", predictor: "Predictor", *, scope: Scope, calendar: str | None
) -> Detection:
    """Compute features, and judge every bar in scope."""
    from surveillance_pipelines.batch.scoring import score_day
    from surveillance_pipelines.engine.scoring_rows import row_config

    sessions = sessions_of(bars, calendar, settings.default_calendar)
    features = _features(bars, sessions, predictor, scope)
    scored = score_day(features, predictor, row_config(settings, predictor), sessions=sessions)
    judged = scored.scores.select("symbol", "bar_start", "volume", close="price")
    return Detection(_frame(scored.anomalies), judged)


def _features(bars: "pl.DataFrame", sessions: "SessionTable", predictor: "Predictor", scope: Scope) -> "pl.DataFrame":
    """Return the features of the bars in scope; all symbols' bars take part, as each is the others' market."""
    import polars as pl

    from surveillance_pipelines.features.batch import features_of_days, latest_features
    from surveillance_pipelines.features.views import VIEWS

    view = VIEWS[predictor.feature_view]
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
        raise InvalidInputError(
            f"expected bars of {', '.join(scope.symbols) or 'any symbol'} from {scope.first or 'any day'} "
            f"on, there are {held}",
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


def bars_of_file(path: Path, *, timezone: str | None, symbol: str | None) -> "FileResult":
    """Return the 1-minute bars of a file.

    Raises:
        FileError: if the file as a whole cannot be read.
        InvalidInputError: if no row can be used, or the bars are not of one minute.
    """
    from surveillance_pipelines.market.files import read_bars

    found = read_bars(path, timezone=timezone, symbol=symbol)
    if found.frame.is_empty():
        raise InvalidInputError(
            f"expected bars, no row of {path} can be used: {found.first_reason or 'it has none'}",
            remedy=f"`surveillance ingest {path}` keeps the reasons",
        )
    timeframe = found.frame["timeframe"][0]
    if timeframe != "1m":
        remedy = "the models know 1-minute bars only; give a finer file"
        raise InvalidInputError(f"expected 1-minute bars, {path} holds {timeframe}", remedy=remedy)
    return found


def bars_of_lake(stores: Stores, first: date | None) -> "pl.DataFrame":
    """Return the platform's own bars: the last two weeks, or from two weeks before ``first`` on.

    Raises:
        InvalidInputError: if there are none.
    """
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA

    days = stores.lake.days(BARS_TABLE)
    if not days:
        remedy = "`surveillance ingest` and `surveillance backfill` fill it; or name a file of bars"
        raise InvalidInputError(f"expected bars in the lake table {BARS_TABLE}, found none", remedy=remedy)
    if first is not None and first > days[-1]:
        raise InvalidInputError(
            f"expected bars from {first} on, the last in the lake are of {days[-1]}",
            remedy="choose an earlier --first, or bring newer bars in (`surveillance ingest`, `surveillance backfill`)",
        )
    begin = (days[-1] if first is None else first) - _HISTORY
    return stores.lake.read(BARS_TABLE, days=(begin, days[-1]), schema=BAR_SCHEMA)


def picture(detection: Detection, title: str) -> bytes:
    """Return a PNG of the prices with the anomalies marked."""
    from surveillance_pipelines.training.price_plot import prices_with_anomalies

    return prices_with_anomalies(detection.bars, detection.anomalies, title=title)


def pinned_bundle_hash(stores: Stores, bundle: str) -> str:
    """Return the whole hash of a bundle that can score, given its beginning; ``"warmup"`` names the warm-up rules.

    Raises:
        InvalidInputError: if the beginning is too short, or names no bundle on record or several.
        BundleError: if the bundle is damaged or not the one on record.
    """
    from surveillance_pipelines.stores.predictors import load_pinned_predictor

    try:
        with stores.connect() as connection:
            return load_pinned_predictor(connection, bundle).bundle_hash
    except (LookupError, ValueError) as error:
        raise InvalidInputError(
            str(error), remedy="column bundle_hash of surveillance.model_versions, and of every row, names them"
        ) from error
