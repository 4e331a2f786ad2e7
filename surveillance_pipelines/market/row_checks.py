"""Validation of rows from files and vendors: valid rows, refused rows with a reason, and exact duplicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import polars as pl

from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.market.bar_frames import OHLC
from surveillance_pipelines.market.messages import MAX_PRICE, MAX_VOLUME, MIN_PRICE
from surveillance_pipelines.symbols import MAX_SYMBOL_LENGTH, SYMBOL_PATTERN, SYMBOL_RULE

CODE: Final = "refusal_code"
"""Column with the code of the first failed check of a row; null for a valid row."""
DETAIL: Final = "refusal_detail"
"""Optional column with a message that replaces the standard one of ``CODE``: the unreadable value and its column."""
RAW: Final = "raw_row"
"""Column with the original row as a struct."""

REASONS: Final[Mapping[str, str]] = {
    "missing_value": "expected a symbol, a time and every price, got a row with an empty one",
    "wrong_type": "expected numbers for prices and volume, got other text",
    "non_finite": "expected finite numbers, got NaN or infinity",
    "out_of_bounds": f"expected prices between {MIN_PRICE:g} and {MAX_PRICE:g} and volume between 0 and {MAX_VOLUME:g}",
    "bad_symbol": f"expected {SYMBOL_RULE} as symbol",
    "bad_timestamp": "expected a time that can be read and lies after 1970",
    "misaligned": "expected bars that start on a whole minute",
    "inconsistent_bar": "expected low ≤ open, close ≤ high",
    "conflicting_duplicate": "expected one bar per symbol and start, got a second with other values; the first stays",
    "flagged": "expected trades that the vendor vouches for, got one flagged as suspicious",
}
"""Code → message stored with a refused row."""


@dataclass(frozen=True, slots=True)
class RowRefusal:
    """A refused row: its original content (JSON), code, reason and position (from 0)."""

    body: str
    code: str
    reason: str
    row: int
    header_lines: int = 0  # lines of a text file above the first row

    @property
    def where(self) -> str:
        """The position counted from 1; in a text file, the first row below the header is ``line 2``."""
        return f"line {self.row + self.header_lines + 1}" if self.header_lines else f"row {self.row + 1}"


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The result of a validation: rows in = ``good`` + ``refusals`` + ``duplicates``."""

    good: pl.DataFrame
    refusals: tuple[RowRefusal, ...]
    duplicates: int


def _is_symbol(text: pl.Expr) -> pl.Expr:
    """Return what ``is_symbol`` returns, for a column."""
    return text.str.contains(f"^(?:{SYMBOL_PATTERN.pattern})$") & (text.str.len_bytes() <= MAX_SYMBOL_LENGTH)


def check_bars(rows: pl.DataFrame) -> CheckedRows:
    """Split bars into valid ones, refused ones and exact duplicates.

    Rows of the same symbol and start with different knowledge times are one bar and its corrections.

    Args:
        rows: ``symbol``, ``bar_start`` (UTC; null if unreadable), OHLC and ``volume`` as numbers (null if absent), and
            optionally ``knowledge_time`` (UTC), the original ``raw_row`` and the ``refusal_code`` of earlier checks.
    """
    key = ["symbol", "bar_start", *(["knowledge_time"] if "knowledge_time" in rows.columns else [])]
    checks = [
        ("missing_value", pl.any_horizontal(pl.col(*key, *OHLC, "volume").is_null())),
        ("bad_symbol", ~_is_symbol(pl.col("symbol"))),
        ("misaligned", pl.col("bar_start").dt.truncate("1m") != pl.col("bar_start")),
        *_number_checks(OHLC),
        (
            "inconsistent_bar",
            (pl.col("low") > pl.min_horizontal("open", "close"))
            | (pl.col("high") < pl.max_horizontal("open", "close")),
        ),
    ]
    checked = _first_failure(rows, checks)
    valid = checked.filter(pl.col(CODE).is_null())
    values = (*OHLC, "volume")
    first = valid.unique(key, keep="first", maintain_order=True)
    again = valid.join(first.select("row"), on="row", how="anti", maintain_order="left")
    original = first.select(*key, *(pl.col(name).alias(f"first_{name}") for name in values))
    compared = again.join(original, on=key, how="left", maintain_order="left")
    same = pl.all_horizontal(pl.col(name) == pl.col(f"first_{name}") for name in values)
    conflicts = compared.filter(~same).with_columns(pl.lit("conflicting_duplicate").alias(CODE))
    refused = pl.concat([checked.filter(pl.col(CODE).is_not_null()), conflicts.select(checked.columns)])
    return CheckedRows(_bare(first), refusals_of(refused), again.height - conflicts.height)


def check_ticks(rows: pl.DataFrame) -> CheckedRows:
    """Split ticks into valid and refused ones. Two equal rows are two trades, so there are no duplicates.

    Args:
        rows: ``symbol``, ``event_time`` (UTC), ``price`` and ``volume``, and optionally ``suspicious`` (flagged unless
            0), ``raw_row`` and ``refusal_code``.
    """
    checks = [
        ("missing_value", pl.any_horizontal(pl.col("symbol", "event_time", "price", "volume").is_null())),
        ("bad_symbol", ~_is_symbol(pl.col("symbol"))),
        *_number_checks(("price",)),
    ]
    if "suspicious" in rows.columns:
        checks.append(("flagged", pl.col("suspicious").cast(pl.Float64, strict=False).fill_null(0.0) != 0))
    checked = _first_failure(rows, checks)
    return CheckedRows(
        _bare(checked.filter(pl.col(CODE).is_null())), refusals_of(checked.filter(pl.col(CODE).is_not_null())), 0
    )


def refusals_of(rows: pl.DataFrame) -> tuple[RowRefusal, ...]:
    """Return rows that have a ``refusal_code`` as refusals, in the order of the file."""
    ordered = rows.sort("row")
    bodies = ordered[RAW] if RAW in rows.columns else ordered.drop(CODE, "row").to_struct(RAW)
    details = ordered[DETAIL].to_list() if DETAIL in rows.columns else [None] * ordered.height
    marks = zip(bodies.to_list(), ordered[CODE].to_list(), details, ordered["row"].to_list(), strict=True)
    return tuple(
        RowRefusal(canonical_json(_json_safe(body)), code, detail or REASONS[code], row)
        for body, code, detail, row in marks
    )


def _number_checks(prices: Sequence[str]) -> list[tuple[str, pl.Expr]]:
    finite = pl.all_horizontal(pl.col(*prices, "volume").is_finite())
    plausible = pl.all_horizontal(pl.col(*prices).is_between(MIN_PRICE, MAX_PRICE))
    return [("non_finite", ~finite), ("out_of_bounds", ~(plausible & pl.col("volume").is_between(0.0, MAX_VOLUME)))]


def _first_failure(rows: pl.DataFrame, checks: Sequence[tuple[str, pl.Expr]]) -> pl.DataFrame:
    earlier = [pl.col(CODE)] if CODE in rows.columns else []
    verdicts = [pl.when(failed.fill_null(value=False)).then(pl.lit(code)) for code, failed in checks]
    return rows.with_columns(pl.coalesce(*earlier, *verdicts).alias(CODE)).with_row_index("row")


def _bare(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop(CODE, DETAIL, RAW, "row", strict=False)


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, float) and value not in (float("inf"), float("-inf")) and value == value:  # noqa: PLR0124
        return value
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
