"""The domain of a bundle's training data, as its manifest records it, and the comparison of a bar with it.

Scores mean little outside the domain: a model of US stocks has never seen a market without a close.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

SYMBOL: Final = "symbol"
CALENDAR: Final = "calendar"
ASSET_CLASS: Final = "asset_class"
INSTRUMENT_PROPERTIES: Final = (SYMBOL, CALENDAR, ASSET_CLASS)


@dataclass(frozen=True, slots=True)
class TrainingDomain:
    """The symbols, calendars, asset classes and days of training data; None means that they are not recorded.

    Bundles of earlier releases record only the days.
    """

    first: date | None = None
    last: date | None = None
    symbols: frozenset[str] | None = None
    calendars: frozenset[str] | None = None
    asset_classes: frozenset[str] | None = None

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> "TrainingDomain":
        """Return the domain that a bundle's manifest records; a value of an unexpected type counts as not recorded."""
        training = manifest.get("training")
        data = training.get("data") if isinstance(training, Mapping) else None
        if not isinstance(data, Mapping):
            return cls()
        return cls(
            first=_day(data.get("first")),
            last=_day(data.get("last")),
            symbols=_names(data.get("symbols")),
            calendars=_names(data.get("calendars")),
            asset_classes=_names(data.get("asset_classes")),
        )

    @property
    def unknown(self) -> tuple[str, ...]:
        """The properties of instruments that are not recorded."""
        known = (self.symbols, self.calendars, self.asset_classes)
        return tuple(name for name, values in zip(INSTRUMENT_PROPERTIES, known, strict=True) if values is None)

    def outside(self, symbol: str, calendar: str | None, asset_class: str) -> dict[str, str]:
        """Return the properties of an instrument that no training bar had, by name.

        Args:
            symbol: the symbol.
            calendar: its trading calendar; None if it is not known, which is then not compared.
            asset_class: its asset class.
        """
        compared = (
            (SYMBOL, symbol, self.symbols),
            (CALENDAR, calendar, self.calendars),
            (ASSET_CLASS, asset_class, self.asset_classes),
        )
        return {
            name: value
            for name, value, known in compared
            if value is not None and known is not None and value not in known
        }


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _names(value: Any) -> frozenset[str] | None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    return frozenset(value)
