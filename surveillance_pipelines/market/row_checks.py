"""Validation of rows from files and vendors: valid rows, refused rows with a reason, and exact duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import polars as pl

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.market.bar_frames import OHLC
from surveillance_pipelines.market.messages import MAX_FUTURE_SECONDS, MAX_PRICE, MAX_VOLUME, MIN_PRICE
from surveillance_pipelines.symbols import MAX_SYMBOL_LENGTH, SYMBOL_PATTERN, SYMBOL_RULE

CODE: Final = "refusal_code"
"""Column with the code of the first failed check of a row; null for a valid row."""
DETAIL: Final = "refusal_detail"
"""Column with the message of ``CODE``: the column, and the expected and the received value."""
RAW: Final = "raw_row"
"""Column with the original row as a struct."""
_SHOWN: Final = 40

MAX_FUTURE_US: Final = round(MAX_FUTURE_SECONDS * MICROSECONDS)
"""Tolerated lead of a row's time over the clock of this host, as for messages of the queue."""
ROUNDING: Final = 1e-9
"""Relative difference between prices of one bar that is due to rounding."""

Check = tuple[str, pl.Expr, pl.Expr]
"""Code, whether a row fails the check, and the message with the column and the value."""


@dataclass(frozen=True, slots=True)
class RowRefusal:
    """A refused row: its original content (JSON), code, reason and position.

    Attributes:
        body: the original row as JSON.
        code: code of the reason.
        reason: what was expected and what was received.
        row: number of the row, from 0.
        line: line of a text file, from 1; None elsewhere.
    """

    body: str
    code: str
    reason: str
    row: int
    line: int | None = None

    @property
    def where(self) -> str:
        """The position for people, counted from 1."""
        return f"row {self.row + 1}" if self.line is None else f"line {self.line}"


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The result of a validation: rows in = ``good`` + ``refusals`` + ``duplicates``."""

    good: pl.DataFrame
    refusals: tuple[RowRefusal, ...]
    duplicates: int


def _is_symbol(text: pl.Expr) -> pl.Expr:
    """Return what ``is_symbol`` returns, for a column."""
    return text.str.contains(f"^(?:{SYMBOL_PATTERN.pattern})$") & (text.str.len_bytes() <= MAX_SYMBOL_LENGTH)


def check_bars(rows: pl.DataFrame, *, now_us: int | None = None) -> CheckedRows:
    """Split bars into valid ones, refused ones and exact duplicates.

    Rows of the same symbol and start with different knowledge times are one bar and its corrections.

    Args:
        rows: ``symbol``, ``bar_start`` (UTC; null if unreadable), OHLC and ``volume`` as numbers (null if absent), and
            optionally ``knowledge_time`` (UTC), the original ``raw_row``, the ``refusal_code`` of earlier checks with
            its ``refusal_detail``, and the position: ``row`` and ``line``.
        now_us: the time, microseconds since the epoch; later bars are refused. None does not check.
    """
    key = ["symbol", "bar_start", *(["knowledge_time"] if "knowledge_time" in rows.columns else [])]
    checks = [
        _missing((*key, *OHLC, "volume")),
        _bad_symbol(),
        _in_future("bar_start", now_us),
        (
            "misaligned",
            pl.col("bar_start").dt.truncate("1m") != pl.col("bar_start"),
            pl.format(
                "expected bars that start on a whole minute, got {}", pl.col("bar_start").dt.to_string("%H:%M:%S%.f")
            ),
        ),
        *_number_checks(OHLC),
        (
            "inconsistent_bar",
            (pl.col("low") > pl.min_horizontal("open", "close"))
            | (pl.col("high") < pl.max_horizontal("open", "close")),
            pl.format("expected low ≤ open, close ≤ high, got low {}, open {}, close {}, high {}",
                      pl.col("low"), pl.col("open"), pl.col("close"), pl.col("high")),
        ),
    ]  # fmt: skip
    checked = _first_failure(widen_to_rounding(rows), checks)
    valid = checked.filter(pl.col(CODE).is_null())
    values = (*OHLC, "volume")
    first = valid.unique(key, keep="first", maintain_order=True)
    again = valid.join(first.select("row"), on="row", how="anti", maintain_order="left")
    original = first.select(*key, *(pl.col(name).alias(f"first_{name}") for name in values))
    compared = again.join(original, on=key, how="left", maintain_order="left")
    same = pl.all_horizontal(pl.col(name) == pl.col(f"first_{name}") for name in values)
    conflicts = compared.filter(~same).with_columns(
        pl.lit("conflicting_duplicate").alias(CODE),
        pl.lit("expected one bar per symbol and start, got a second with other values; the first stays").alias(DETAIL),
    )
    refused = pl.concat([checked.filter(pl.col(CODE).is_not_null()), conflicts.select(checked.columns)])
    return CheckedRows(_bare(first), refusals_of(refused), again.height - conflicts.height)


def check_ticks(rows: pl.DataFrame, *, now_us: int | None = None) -> CheckedRows:
    """Split ticks into valid and refused ones. Two equal rows are two trades, so there are no duplicates.

    Args:
        rows: ``symbol``, ``event_time`` (UTC), ``price`` and ``volume``, and optionally ``suspicious`` (flagged unless
            0) and the columns of ``check_bars``.
        now_us: see ``check_bars``.
    """
    checks = [
        _missing(("symbol", "event_time", "price", "volume")),
        _bad_symbol(),
        _in_future("event_time", now_us),
        *_number_checks(("price",)),
    ]
    if "suspicious" in rows.columns:
        flagged = pl.col("suspicious").cast(pl.Float64, strict=False).fill_null(0.0) != 0
        reason = pl.lit("expected trades that the vendor vouches for, got one flagged as suspicious")
        checks.append(("flagged", flagged, reason))
    checked = _first_failure(rows, checks)
    refused = checked.filter(pl.col(CODE).is_not_null())
    return CheckedRows(_bare(checked.filter(pl.col(CODE).is_null())), refusals_of(refused), 0)


def refusals_of(rows: pl.DataFrame) -> tuple[RowRefusal, ...]:
    """Return rows that have a code and a message as refusals, in the order of the file."""
    ordered = rows.sort("row")
    bodies = (
        ordered[RAW] if RAW in rows.columns else ordered.drop(CODE, DETAIL, "row", "line", strict=False).to_struct()
    )
    lines = ordered["line"].to_list() if "line" in rows.columns else [None] * ordered.height
    marks = zip(bodies.to_list(), ordered[CODE], ordered[DETAIL], ordered["row"], lines, strict=True)
    return tuple(
        RowRefusal(canonical_json(_json_safe(body)), code, detail, row, line) for body, code, detail, row, line in marks
    )


def widen_to_rounding(rows: pl.DataFrame) -> pl.DataFrame:
    """Return bars whose low and high include open and close, correcting differences due to rounding.

    Vendors adjust open, high and low by a ratio and keep the close, so a close at the low or the high can differ from
    it in the last bit. A larger difference is kept, and the row is refused as inconsistent.
    """
    inner = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    low, high = pl.col("low"), pl.col("high")
    return rows.with_columns(
        low=pl.when((low - inner[0]).is_between(0.0, ROUNDING * low)).then(inner[0]).otherwise(low),
        high=pl.when((inner[1] - high).is_between(0.0, ROUNDING * high)).then(inner[1]).otherwise(high),
    )


def _missing(names: Sequence[str]) -> Check:
    reasons = [pl.when(pl.col(name).is_null()).then(pl.lit(f"expected a value for {name}, got none")) for name in names]
    return "missing_value", pl.any_horizontal(pl.col(*names).is_null()), pl.coalesce(reasons)


def _bad_symbol() -> Check:
    shown = pl.format(f"expected {SYMBOL_RULE} as symbol, got '{{}}'", pl.col("symbol").str.slice(0, _SHOWN))
    return "bad_symbol", ~_is_symbol(pl.col("symbol")), shown


def _in_future(name: str, now_us: int | None) -> Check:
    latest = pl.lit(None, UTC_MICROSECONDS) if now_us is None else pl.lit(now_us + MAX_FUTURE_US).cast(UTC_MICROSECONDS)
    shown = pl.col(name).dt.to_string("%Y-%m-%dT%H:%M:%SZ")
    reason = (
        "expected times up to now, got {}, which is in the future: check the date, the time zone and this host's clock"
    )
    return "future_timestamp", pl.col(name) > latest, pl.format(reason, shown)


def _number_checks(prices: Sequence[str]) -> list[Check]:
    names = (*prices, "volume")
    infinite = [
        pl.when(~pl.col(name).is_finite()).then(pl.format(f"expected a finite number, got {{}} for {name}", name))
        for name in names
    ]
    negative = [
        pl.when(pl.col(name) <= 0).then(
            pl.format(
                f"expected {name} above 0, got {{}}: prices of 0 and below are not supported, because features "
                "use their logarithms",
                name,
            )
        )
        for name in prices
    ]
    beyond = [
        pl.when(~pl.col(name).is_between(low, high)).then(
            pl.format(f"expected {name} between {low:g} and {high:g}, got {{}}: check the unit", name)
        )
        for name, low, high in (*((name, MIN_PRICE, MAX_PRICE) for name in prices), ("volume", 0.0, MAX_VOLUME))
    ]
    finite = pl.all_horizontal(pl.col(*names).is_finite())
    plausible = pl.all_horizontal(pl.col(*prices).is_between(MIN_PRICE, MAX_PRICE))
    return [
        ("non_finite", ~finite, pl.coalesce(infinite)),
        (
            "out_of_bounds",
            ~(plausible & pl.col("volume").is_between(0.0, MAX_VOLUME)),
            pl.coalesce(*negative, *beyond),
        ),
    ]


def _first_failure(rows: pl.DataFrame, checks: Sequence[Check]) -> pl.DataFrame:
    """Return the rows with code and message of the first failed check of each; rows refused before keep theirs."""
    placed = rows if "row" in rows.columns else rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    earlier = [pl.col(CODE)] if CODE in rows.columns else []
    verdicts = [pl.when(failed.fill_null(value=False)).then(pl.lit(code)) for code, failed, _ in checks]
    coded = placed.with_columns(pl.coalesce(*earlier, *verdicts).alias(CODE))
    stated = pl.col(DETAIL) if DETAIL in rows.columns else pl.lit(None, pl.String)
    good = coded.filter(pl.col(CODE).is_null()).with_columns(pl.lit(None, pl.String).alias(DETAIL))
    bad = coded.filter(pl.col(CODE).is_not_null())
    # The messages are only built for refused rows.
    details = [pl.when(pl.col(CODE) == code).then(detail) for code, _, detail in checks]
    explained = bad.with_columns(pl.coalesce(stated, *details).alias(DETAIL))
    return pl.concat([good, explained.select(good.columns)]).sort("row")


def _bare(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop(CODE, DETAIL, RAW, "row", "line", strict=False)


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, float) and value not in (float("inf"), float("-inf")) and value == value:  # noqa: PLR0124
        return value
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
