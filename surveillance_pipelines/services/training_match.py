"""Comparison of scored bars with the training data of the models that scored them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.models.training_domain import TrainingDomain

DAY: Final = "day"
OUTSIDE: Final = "outside_training"
UNKNOWN: Final = "training_unknown"
MATCH_COLUMNS: Final = (OUTSIDE, UNKNOWN)
"""Columns of ``with_training_match``."""


@dataclass(frozen=True, slots=True)
class InstrumentMatch:
    """One scored symbol, compared with the training data.

    Attributes:
        symbol: the symbol.
        calendar: its trading calendar.
        asset_class: its asset class.
        outside: properties that no training bar had → their values; empty if all of them are known to the models.
        bars: number of scored bars.
        alerts: number of anomalous bars among them.
    """

    symbol: str
    calendar: str
    asset_class: str
    outside: Mapping[str, str]
    bars: int
    alerts: int

    @property
    def reason(self) -> str:
        """The properties outside the training data, such as ``symbol, calendar 24/7, asset class crypto``."""
        return ", ".join(
            name if name == "symbol" else f"{name.replace('_', ' ')} {value}" for name, value in self.outside.items()
        )


def match_instruments(
    bars_of: Mapping[str, int],
    alerts_of: Mapping[str, int],
    domain: "TrainingDomain | None",
    sessions: "SessionTable",
) -> list[InstrumentMatch]:
    """Return each scored symbol with its comparison, sorted by symbol.

    Args:
        bars_of: symbol → number of scored bars.
        alerts_of: symbol → number of anomalous bars.
        domain: domain of the training data; None for the warm-up rules, for which nothing is outside.
        sessions: the sessions with which the bars were scored.
    """
    from surveillance_pipelines.market.asset_classes import asset_class_of

    matches = []
    for symbol in sorted(bars_of):
        calendar = sessions.for_symbol(symbol).calendar
        asset_class = asset_class_of(symbol, calendar)
        outside = {} if domain is None else domain.outside(symbol, calendar, asset_class)
        matches.append(
            InstrumentMatch(symbol, calendar, asset_class, outside, bars_of[symbol], alerts_of.get(symbol, 0))
        )
    return matches


def is_outside_days(domain: "TrainingDomain") -> "pl.Expr":
    """Return an expression over ``bar_start``: whether the UTC day is outside the training days, if they are known."""
    import polars as pl

    day = pl.col("bar_start").dt.date()
    before = pl.lit(value=False) if domain.first is None else day < domain.first
    after = pl.lit(value=False) if domain.last is None else day > domain.last
    return before | after


def with_training_match(
    rows: "pl.DataFrame", matches: list[InstrumentMatch], domain: "TrainingDomain | None"
) -> "pl.DataFrame":
    """Return rows with the columns ``MATCH_COLUMNS``, both null for the warm-up rules.

    ``outside_training`` names the properties of the row that no training bar had: symbol, calendar, asset_class, day;
    null if there is none. ``training_unknown`` names those that the bundle does not record; null if it records all.

    Args:
        rows: symbol, bar_start and other columns.
        matches: the symbols of the rows.
        domain: domain of the training data; None for the warm-up rules.
    """
    import polars as pl

    if domain is None:
        return rows.with_columns(pl.lit(None, pl.String).alias(name) for name in MATCH_COLUMNS)
    named = {match.symbol: ", ".join(match.outside) or None for match in matches}
    days_known = domain.first is not None and domain.last is not None
    unknown = ", ".join((*domain.unknown, *(() if days_known else (DAY,)))) or None
    instrument = pl.col("symbol").replace_strict(named, default=None, return_dtype=pl.String)
    day = pl.when(is_outside_days(domain)).then(pl.lit(DAY))
    outside = pl.concat_str(instrument, day, separator=", ", ignore_nulls=True)
    return rows.with_columns(
        pl.when(outside != "").then(outside).alias(OUTSIDE), pl.lit(unknown, pl.String).alias(UNKNOWN)
    )


@dataclass(frozen=True, slots=True)
class OutsideGroup:
    """Symbols that are outside the training data for the same reason, apart from their names.

    Attributes:
        symbols: the symbols.
        reason: the properties that no training bar had.
        trained_on: what of these properties the training bars had, such as ``3 symbols, calendar XNYS``.
        bars: number of scored bars of these symbols.
        alerts: number of anomalous bars among them.
    """

    symbols: tuple[str, ...]
    reason: str
    trained_on: str
    bars: int
    alerts: int


@dataclass(frozen=True, slots=True)
class OutsideDays:
    """The scored bars of UTC days outside the training days."""

    first: "date"
    last: "date"
    bars: int
    alerts: int


def outside_instruments(matches: "Sequence[InstrumentMatch]", domain: "TrainingDomain") -> list[OutsideGroup]:
    """Return the symbols outside the training data, grouped by reason, those with the most alerts first."""
    groups: dict[str, list[InstrumentMatch]] = {}
    for match in matches:
        if match.outside:
            groups.setdefault(match.reason, []).append(match)
    found = [
        OutsideGroup(
            tuple(match.symbol for match in group),
            reason,
            _trained_on(domain),
            sum(match.bars for match in group),
            sum(match.alerts for match in group),
        )
        for reason, group in groups.items()
    ]
    return sorted(found, key=lambda group: (-group.alerts, group.reason))


def _trained_on(domain: "TrainingDomain") -> str:
    symbols = len(domain.symbols or ())
    parts = [f"{symbols:,} symbol{'' if symbols == 1 else 's'}"]
    parts += [f"calendar {name}" for name in sorted(domain.calendars or ())]
    return ", ".join(parts + [f"asset class {name}" for name in sorted(domain.asset_classes or ())])


def outside_days(scores: "pl.DataFrame", domain: "TrainingDomain") -> OutsideDays | None:
    """Return the bars on days outside the training days; None if there are none, or the days are not known.

    Args:
        scores: bar_start and is_anomaly of the scored bars.
        domain: domain of the training data.
    """
    outside = scores.filter(is_outside_days(domain))
    if outside.is_empty():
        return None
    days = outside["bar_start"].dt.date()
    first, last = min(days.to_list()), max(days.to_list())
    return OutsideDays(first, last, outside.height, int(outside["is_anomaly"].sum()))
