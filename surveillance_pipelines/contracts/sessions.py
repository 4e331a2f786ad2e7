"""In-memory table of trading sessions: the session of an instant, and its position within the session.

The live lane uses it for every bar, so it depends only on numpy and ``bisect``. ``market/calendars.py`` builds the rows
from a calendar library.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

_MINUTE_US: Final = 60_000_000.0


@dataclass(frozen=True, eq=False)
class SessionTable:
    """The sessions of a default calendar and, in ``others``, of further calendars.

    An instant outside all sessions belongs to the nearer one: before the border to the previous session (minutes beyond
    its length), after it to the next session (negative minutes). The border is halfway between close and open. Instants
    before the first or after the last row belong to that row; ``covers`` returns whether the table includes an instant.

    Attributes:
        calendar: name, such as ``XNYS`` or ``24/7``.
        session_ids: int64[n], ``date.toordinal`` of the session's date.
        opens_at: int64[n], microseconds since the epoch, UTC, ascending.
        closes_at: int64[n], the first microsecond after the session.
        others: tables of further calendars, by name.
        calendar_of: symbol → calendar; default: ``calendar``.
    """

    calendar: str
    session_ids: npt.NDArray[np.int64]
    opens_at: npt.NDArray[np.int64]
    closes_at: npt.NDArray[np.int64]
    others: Mapping[str, "SessionTable"] = field(default_factory=dict)
    calendar_of: Mapping[str, str] = field(default_factory=dict)
    _borders: npt.NDArray[np.int64] = field(init=False, repr=False)
    _border_list: list[int] = field(init=False, repr=False)
    _rows: list[tuple[int, int, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not len(self.session_ids) == len(self.opens_at) == len(self.closes_at):
            raise ValueError(
                f"expected session_ids, opens_at and closes_at of equal length, got {len(self.session_ids)}, "
                f"{len(self.opens_at)} and {len(self.closes_at)}"
            )
        if len(self.opens_at) == 0:
            raise ValueError(f"expected at least one session of calendar {self.calendar!r}, got none: build them first")
        if np.any(self.closes_at <= self.opens_at) or np.any(self.opens_at[1:] < self.closes_at[:-1]):
            raise ValueError(f"expected ordered, disjoint sessions of {self.calendar!r}, got overlapping ones")
        borders = (self.closes_at[:-1] + self.opens_at[1:]) // 2
        rows = zip(self.session_ids.tolist(), self.opens_at.tolist(), self.closes_at.tolist(), strict=True)
        object.__setattr__(self, "_borders", borders)
        object.__setattr__(self, "_border_list", borders.tolist())
        object.__setattr__(self, "_rows", list(rows))

    @classmethod
    def from_frame(
        cls, frame: "pl.DataFrame", *, calendar: str | None = None, calendar_of: Mapping[str, str] | None = None
    ) -> "SessionTable":
        """Return a table of the rows of a ``SESSION_SCHEMA`` frame.

        Args:
            frame: sessions of one or several calendars, in any order.
            calendar: default calendar; required if the frame has several calendars.
            calendar_of: symbol → calendar.

        Raises:
            ValueError: if the default calendar is ambiguous, or sessions of a calendar are missing.
        """
        names = frame["calendar"].unique().sort().to_list()
        default = calendar if calendar is not None or len(names) != 1 else names[0]
        wanted = set((calendar_of or {}).values()) | {default}
        missing = sorted(str(name) for name in wanted - set(names))
        if missing:
            raise ValueError(f"expected sessions of calendars {missing}, got those of {names}: build them first")
        tables = {name: _single(name, frame.filter(frame["calendar"] == name)) for name in names}
        table = tables[str(default)]
        return cls(
            str(default), table.session_ids, table.opens_at, table.closes_at,
            others=tables, calendar_of=dict(calendar_of or {}),
        )  # fmt: skip

    def for_symbol(self, symbol: str) -> "SessionTable":
        """Return the table of a symbol's calendar."""
        calendar = self.calendar_of.get(symbol, self.calendar)
        return self if calendar == self.calendar else self.others[calendar]

    def position(self, instant: int) -> tuple[int, float, float]:
        """Return ``(session_id, minute_of_session, session_minutes)`` of an instant in microseconds."""
        session_id, opens, closes = self._rows[self.row_of(instant)]
        return session_id, (instant - opens) / _MINUTE_US, (closes - opens) / _MINUTE_US

    def positions(
        self, instants: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ``position`` of many instants: int64[n], float64[n], float64[n], bit-identical to the scalar."""
        row = self.rows_of(instants)
        opens = self.opens_at[row]
        return self.session_ids[row], (instants - opens) / _MINUTE_US, (self.closes_at[row] - opens) / _MINUTE_US

    def row_of(self, instant: int) -> int:
        """Return the row of an instant's session."""
        return bisect_right(self._border_list, instant)

    def rows_of(self, instants: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return the row of each instant's session."""
        return np.searchsorted(self._borders, instants, side="right")

    def is_open(self, instant: int) -> bool:
        """Return whether the market is open at an instant; the opening instant is included, the closing one is not."""
        _, opens, closes = self._rows[bisect_right(self._border_list, instant)]
        return opens <= instant < closes

    def covers(self, instant: int) -> bool:
        """Return whether an instant is between the first opening and the last closing of the table."""
        return self._rows[0][1] <= instant < self._rows[-1][2]

    def with_calendars(self, calendar_of: Mapping[str, str]) -> "SessionTable":
        """Return a copy with another mapping from symbol to calendar."""
        unknown = sorted(set(calendar_of.values()) - set(self.others) - {self.calendar})
        if unknown:
            raise ValueError(f"expected sessions of calendars {unknown}, got those of {sorted(self.others)}")
        return SessionTable(
            self.calendar, self.session_ids, self.opens_at, self.closes_at,
            others=self.others, calendar_of=dict(calendar_of),
        )  # fmt: skip


def _single(name: str, frame: "pl.DataFrame") -> SessionTable:
    rows = frame.sort("opens_at")
    ids = np.array([day.toordinal() for day in rows["session_date"].to_list()], dtype=np.int64)
    opens, closes = (rows[column].dt.timestamp("us").to_numpy() for column in ("opens_at", "closes_at"))
    return SessionTable(name, ids, opens, closes)
