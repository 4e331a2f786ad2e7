"""What a user can say about a file whose columns do not say it, and the error of a file that cannot be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.market import Adjustment, BarStamp, DateOrder, EpochUnit, Timeframe
from surveillance_pipelines.market.timestamps import REMEDIES, Lacking

_SYMBOL_REMEDY: Final = "`--symbol SPY`, the symbol of the whole file"
_COLUMNS_REMEDY: Final = (
    "`--columns time=NAME,open=NAME,…` names them, by their names or by their positions (time=1,open=2); `--dry-run` "
    "shows how the file is read"
)


class FileError(InvalidInputError):
    """The file as a whole cannot be read. The message states what was expected and what was found.

    Attributes:
        lacks: the missing information, for which an option exists; empty if there is none.
    """

    def __init__(self, message: str, *, lacks: Lacking | Literal["symbol", "columns", ""] = "") -> None:
        remedies = {**REMEDIES, "symbol": _SYMBOL_REMEDY, "columns": _COLUMNS_REMEDY, "": ""}
        super().__init__(message, remedy=remedies[lacks])
        self.lacks = lacks


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """Facts about a file that its columns may not state.

    Attributes:
        timezone: time zone of times without one, such as ``America/New_York``.
        symbol: symbol of a file without a symbol column.
        timeframe: length of the bars; None infers it from the most common distance between neighbouring bars.
        adjustment: adjustment of the prices.
        columns: our name → name of the file's column, or its position from 1. Names that are absent are recognised.
        unit: unit of epochs; None judges it from their size.
        date_order: order of day and month in dates such as 03/04/2024.
        bar_stamp: whether the time of a bar is its start or its end; None means the layout's, mostly the start.
        price_divisor: divisor of the prices, such as 1e9 for fixed-point numbers; None means the layout's, mostly 1.
    """

    timezone: str | None = None
    symbol: str | None = None
    timeframe: Timeframe | None = None
    adjustment: Adjustment = "none"
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: EpochUnit | None = None
    date_order: DateOrder | None = None
    bar_stamp: BarStamp | None = None
    price_divisor: float | None = None


def parse_columns(text: str, names: frozenset[str]) -> dict[str, str]:
    """Return our name → the file's column from ``time=window_start,open=o``.

    Raises:
        InvalidInputError: if an item has no ``=``, its name is not in ``names``, or a name occurs twice.
    """
    found: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, sign, column = (part.strip() for part in item.partition("="))
        if not sign or not column or name not in names:
            raise InvalidInputError(
                f"expected NAME=COLUMN with a NAME of {', '.join(sorted(names))}, got {item!r}",
                remedy="write for example `--columns time=window_start,open=o,close=c`",
            )
        if name in found:
            raise InvalidInputError(f"expected each name once, got {name} twice", remedy="leave one of them out")
        found[name] = column
    return found
