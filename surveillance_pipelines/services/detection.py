"""Detection of anomalies in the bars of a file or of the lake, with a chosen model."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args, get_type_hints

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.homes import is_untouched
from surveillance_pipelines.services.instruments import sessions_of
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.services.training_match import InstrumentMatch, match_instruments, with_training_match
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.outputs import Anomaly
    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.calendar_choice import CalendarChoice
    from surveillance_pipelines.market.files.options import FileOptions
    from surveillance_pipelines.market.files.result import FileResult
    from surveillance_pipelines.models.bundle import Bundle
    from surveillance_pipelines.models.ensemble import Predictor
    from surveillance_pipelines.models.training_domain import TrainingDomain
    from surveillance_pipelines.stores.model_store import StoredBundle

BARS_TABLE: Final = "bars_1m"
_HISTORY: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class ChosenPredictor:
    """The models that score.

    Attributes:
        predictor: the models.
        name: name of the models for display.
    """

    predictor: "Predictor"
    name: str

    @property
    def domain(self) -> "TrainingDomain | None":
        """Domain of the training data; None for the warm-up rules."""
        return self.predictor.training_domain


def choose_predictor(stores: Stores, *, bundle: Path | None, warmup: bool) -> ChosenPredictor:
    """Return the given bundle, else the champion, else the warm-up rules."""
    from surveillance_pipelines.models.bundle import load_bundle
    from surveillance_pipelines.models.declared_sizes import check_file
    from surveillance_pipelines.models.warmup import WarmupRules

    if warmup:
        return ChosenPredictor(WarmupRules(), "the warm-up rules")
    if bundle is not None:
        loaded = load_bundle(bundle)
        for name, content in loaded.files.items():
            check_file(name, content)
        return _choice(loaded, f"the bundle {loaded.bundle_hash[:12]}")
    active = None if is_untouched(stores.settings) else _champion(stores)
    if active is None:
        return ChosenPredictor(WarmupRules(), "the warm-up rules (no model is promoted yet: `surveillance train`)")
    from surveillance_pipelines.stores.predictors import load_stored

    loaded = load_stored(stores.settings, active)
    return _choice(loaded, f"the champion, v{active.version} {active.bundle_hash[:12]}")


def simulated_training_symbols(stores: Stores, chosen: ChosenPredictor, bars: "pl.DataFrame") -> list[str]:
    """Return the simulated symbols of the training bars if the bars to score are real, else an empty list.

    Scores of models that were trained on a simulated market are not meaningful for a real one.
    """
    last = None if chosen.domain is None else chosen.domain.last
    if last is None or is_untouched(stores.settings) or "simulated" in bars["source"].unique():
        return []
    if not stores.lake.exists(BARS_TABLE):
        return []
    known = stores.lake.read(BARS_TABLE, days=(last, last), columns=["symbol", "source"])
    return known["symbol"].unique().sort().to_list() if set(known["source"]) == {"simulated"} else []


def _choice(bundle: "Bundle", name: str) -> ChosenPredictor:
    from surveillance_pipelines.models.ensemble import warmed_ensemble

    predictor = warmed_ensemble(bundle)
    days = predictor.training_domain
    if days.first is None or days.last is None:
        return ChosenPredictor(predictor, name)
    return ChosenPredictor(predictor, f"{name}, trained on {days.first} to {days.last}")


def _champion(stores: Stores) -> "StoredBundle | None":
    from surveillance_pipelines.stores.deployments import champion

    with stores.connect() as connection:
        return champion(connection, stores.settings.tenant)


@dataclass(frozen=True, slots=True)
class Scope:
    """Bars to report; the other bars serve as history. Empty or None means no restriction."""

    symbols: tuple[str, ...] = ()
    lookback: int | None = None
    first: date | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """Detected anomalies and the scored bars.

    Attributes:
        anomalies: columns of ``surveillance.anomalies``, then ``MATCH_COLUMNS``; ``explanation`` is JSON text.
        scores: columns of the lake table ``scores``, then ``MATCH_COLUMNS``; one row per scored bar, by symbol and
            time.
        instruments: every scored symbol, compared with the training data.
        calendars: symbol → its calendar, with the basis of the choice.
        domain: domain of the training data; None for the warm-up rules.
    """

    anomalies: "pl.DataFrame"
    scores: "pl.DataFrame"
    instruments: "list[InstrumentMatch]"
    calendars: "Mapping[str, CalendarChoice]"
    domain: "TrainingDomain | None"

    @property
    def bars(self) -> "pl.DataFrame":
        """symbol, bar_start, close and volume of every scored bar."""
        return self.scores.select("symbol", "bar_start", "volume", close="price")


def find_anomalies(
    settings: Settings,
    bars: "pl.DataFrame",
    predictor: "Predictor",
    *,
    scope: Scope,
    calendars: "Mapping[str, CalendarChoice]",
) -> Detection:
    """Compute the features of every bar in scope and score it; windows of several bars may begin before the scope."""
    from surveillance_pipelines.batch.scoring import score_day
    from surveillance_pipelines.engine.scoring_rows import row_config

    sessions = sessions_of(bars, calendars)
    features, earlier = _features(bars, sessions, predictor, scope)
    scored = score_day(features, predictor, row_config(settings, predictor), earlier=earlier, sessions=sessions)
    domain, bars_of = predictor.training_domain, Counter(scored.scores["symbol"].to_list())
    instruments = match_instruments(bars_of, Counter(row.symbol for row in scored.anomalies), domain, sessions)
    return Detection(
        anomalies=with_training_match(_frame(scored.anomalies), instruments, domain),
        scores=with_training_match(scored.scores.sort("symbol", "bar_start"), instruments, domain),
        instruments=instruments,
        calendars=calendars,
        domain=domain,
    )


def _features(
    bars: "pl.DataFrame", sessions: "SessionTable", predictor: "Predictor", scope: Scope
) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Return the features of the bars in scope, and those of the bars before it that windows reach.

    The bars of all symbols are used as peers.
    """
    import polars as pl

    from surveillance_pipelines.features.batch import features_of_days, latest_features
    from surveillance_pipelines.features.views import VIEWS

    view, reach = VIEWS[predictor.feature_view], predictor.window_length - 1
    if scope.lookback is not None:
        known = latest_features(bars, sessions, scope.lookback + reach, view)
    else:
        known = features_of_days(bars, _days(bars, scope.first, reach), sessions, view)
    if scope.symbols:
        known = known.filter(pl.col("symbol").is_in(scope.symbols))
    features = known if scope.first is None else known.filter(pl.col("date") >= scope.first)
    if scope.lookback is not None:
        features = features.group_by("symbol", maintain_order=True).tail(scope.lookback)
    if features.is_empty():
        held = f"{', '.join(bars['symbol'].unique().sort())} up to {bars['date'].max()}"
        raise InvalidInputError(
            f"expected bars of {', '.join(scope.symbols) or 'any symbol'} from {scope.first or 'any day'} "
            f"on, got bars of {held}",
            remedy="select other symbols or days",
        )
    before = known.join(features, on=["symbol", "bar_start"], how="anti", maintain_order="left")
    return features, _last_of_each_symbol(before, reach)


def _days(bars: "pl.DataFrame", first: date | None, reach: int) -> "list[date]":
    """Return the days of the bars from a day on, and those of the last ``reach`` bars of each symbol before it."""
    import polars as pl

    days = bars["date"].unique().sort().to_list()
    if first is None:
        return days
    earlier = bars.filter((pl.col("date") < first) & (pl.col("revision") == 0)).sort("bar_start")
    reached = _last_of_each_symbol(earlier, reach)["date"].unique().to_list()
    return sorted({*reached, *(day for day in days if day >= first)})


def _last_of_each_symbol(rows: "pl.DataFrame", count: int) -> "pl.DataFrame":
    # polars returns a row of nulls per group for tail(0).
    return rows.group_by("symbol", maintain_order=True).tail(count) if count else rows.clear()


def _frame(rows: "Sequence[Anomaly]") -> "pl.DataFrame":
    import polars as pl

    from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
    from surveillance_pipelines.contracts.outputs import INSTANT_FIELDS, to_record

    records = [to_record(row) | {"explanation": json.dumps(row.explanation)} for row in rows]
    frame = pl.DataFrame(records, schema=_anomaly_schema())
    return frame.with_columns(pl.col(name).cast(UTC_MICROSECONDS) for name in frame.columns if name in INSTANT_FIELDS)


def _anomaly_schema() -> "dict[str, pl.DataType | type[pl.DataType]]":
    """Return the columns of ``Anomaly``, so that a file has the same types with and without anomalies."""
    import polars as pl

    from surveillance_pipelines.contracts.outputs import Anomaly, column_names

    hints, types = get_type_hints(Anomaly), {float: pl.Float64, bool: pl.Boolean, int: pl.Int64}
    return {
        name: next((types[each] for each in (hints[name], *get_args(hints[name])) if each in types), pl.String)
        for name in column_names(Anomaly)
    }


def bars_of_file(path: Path, options: "FileOptions") -> "FileResult":
    """Return the 1-minute bars of a file.

    Raises:
        FileError: if the file as a whole cannot be read.
        InvalidInputError: if no row is valid, or the bars are not 1-minute bars.
    """
    from surveillance_pipelines.market.files.bars import read_bars

    found = read_bars(path, options)
    if found.frame.is_empty():
        raise InvalidInputError(
            f"expected bars in {path}, got no valid row: {found.first_reason or 'the file has no rows'}",
            remedy=f"`surveillance ingest {shlex.quote(str(path))}` records the reasons of all rows",
        )
    timeframe = found.frame["timeframe"][0]
    if timeframe != "1m":
        remedy = "use a file of 1-minute bars; the models score no other bars"
        raise InvalidInputError(f"expected 1-minute bars, got {timeframe} bars in {path}", remedy=remedy)
    return found


def bars_of_lake(stores: Stores, first: date | None) -> "pl.DataFrame":
    """Return the bars of the lake from two weeks before ``first`` (None means the last day) on.

    Raises:
        InvalidInputError: if the lake has no bars, or none from ``first`` on.
    """
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA

    days = stores.lake.days(BARS_TABLE)
    if not days:
        remedy = "fill it with `surveillance ingest` and `surveillance backfill`, or pass a file of bars"
        raise InvalidInputError(f"expected bars in the lake table {BARS_TABLE}, found none", remedy=remedy)
    if first is not None and first > days[-1]:
        raise InvalidInputError(
            f"expected bars from {first} on in the lake, got bars up to {days[-1]}",
            remedy="set an earlier --first, or load newer bars (`surveillance ingest`, `surveillance backfill`)",
        )
    begin = (days[-1] if first is None else first) - _HISTORY
    return stores.lake.read(BARS_TABLE, days=(begin, days[-1]), schema=BAR_SCHEMA)


@dataclass(frozen=True, slots=True)
class PriceChart:
    """A price chart as PNG, with the symbols that it shows and those that it has no room for."""

    png: bytes
    drawn: list[str]
    left_out: list[str]


def price_chart(detection: Detection, title: str) -> PriceChart:
    """Return a price chart with the anomalies marked."""
    from surveillance_pipelines.training.price_plot import drawn_symbols, prices_with_anomalies

    bars = detection.bars
    drawn = drawn_symbols(bars, detection.anomalies)
    left_out = sorted(set(bars["symbol"].unique()) - set(drawn))
    return PriceChart(prices_with_anomalies(bars, detection.anomalies, title=title), drawn, left_out)


def pinned_bundle_hash(stores: Stores, bundle: str) -> str:
    """Return the full hash of a usable bundle for a hash prefix; ``"warmup"`` means the warm-up rules.

    Raises:
        InvalidInputError: if the prefix is too short, or matches no registered bundle or several.
        BundleError: if the bundle is damaged or differs from the registered one.
    """
    from surveillance_pipelines.stores.predictors import load_pinned_predictor

    try:
        with stores.connect() as connection:
            return load_pinned_predictor(connection, stores.settings, bundle).bundle_hash
    except (LookupError, ValueError) as error:
        raise InvalidInputError(
            str(error), remedy="the hashes are in column bundle_hash of surveillance.model_versions and of every row"
        ) from error
