"""Local times of a file's rows, converted to instants; clock changes repeat an hour and skip another."""

from dataclasses import dataclass
from typing import Final

import polars as pl

_SHOWN: Final = 40
"""Maximum number of characters of a value in a message."""


@dataclass(frozen=True, slots=True)
class RowSymbols:
    """The symbol of each row.

    Attributes:
        names: String[n].
        has_repeats: whether several rows of a symbol may have the same time, as trades may and bars may not.
    """

    names: pl.Series
    has_repeats: bool


def localised(written: pl.Series, zone: str, symbols: RowSymbols) -> tuple[pl.Series, pl.Series]:
    """Return the instants of local times, and the reason of each that has none.

    The hour that a clock change repeats is told apart by the order of each symbol's rows, which steps back once: rows
    before the step are in the first pass, the others in the second. Without such a step, the instant is ambiguous.
    """
    first = written.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    last = written.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null").dt.convert_time_zone("UTC")
    ambiguous = (first != last).fill_null(value=False)
    instants, reasons = first, no_reasons(written)
    if ambiguous.any():
        passes = _passes(written, symbols, ambiguous)
        instants = first.zip_with(~(passes == 2).fill_null(value=False), last)
        unclear = ambiguous & passes.is_null()
        instants = instants.set(unclear, None)
        text = f"expected an offset, because clocks change: '{{}}' occurs twice in {zone}; write it with its offset"
        reasons = reasons.zip_with(~unclear, with_value(written.dt.to_string("%Y-%m-%d %H:%M:%S"), text))
    skipped = first.is_null() & written.is_not_null()
    text = f"expected a time that exists, because clocks change: '{{}}' is skipped in {zone}"
    return instants, reasons.zip_with(~skipped, with_value(written.dt.to_string("%Y-%m-%d %H:%M:%S"), text))


def _passes(written: pl.Series, symbols: RowSymbols, ambiguous: pl.Series) -> pl.Series:
    """Return 1 or 2, the pass of the repeated hour of each ambiguous row; null where the order does not tell it."""
    rows = pl.DataFrame({"written": written, "symbol": symbols.names, "ambiguous": ambiguous}).with_row_index("row")
    direction = rows.drop_nulls("written").group_by("symbol").agg(
        falls=(pl.col("written").last() < pl.col("written").first())
    )  # fmt: skip
    repeated = rows.filter("ambiguous").join(direction, on="symbol", how="left", maintain_order="left")
    repeated = repeated.with_columns(day=pl.col("written").dt.date())
    place = pl.when(pl.col("falls")).then(-pl.col("row").cast(pl.Int64)).otherwise(pl.col("row").cast(pl.Int64))
    ordered = repeated.with_columns(place=place).sort("place")
    key = ["symbol", "day"]
    distance = pl.col("written").diff().over(key).dt.total_microseconds()
    back = distance < 0 if symbols.has_repeats else distance <= 0
    stepped = ordered.with_columns(back=back.fill_null(value=False))
    counted = stepped.with_columns(
        steps=pl.col("back").sum().over(key), number=1 + pl.col("back").cast(pl.Int64).cum_sum().over(key)
    )
    told = counted.select("row", number=pl.when(pl.col("steps") == 1).then(pl.col("number")))
    return rows.select("row").join(told, on="row", how="left", maintain_order="left")["number"]


def with_value(text: pl.Series, reason: str) -> pl.Series:
    """Return a reason for each row, with the row's value in place of ``{}``."""
    shown = text.cast(pl.String).str.slice(0, _SHOWN)
    return shown.to_frame("shown").select(pl.format(reason, pl.col("shown"))).to_series()


def no_reasons(values: pl.Series) -> pl.Series:
    """Return a null reason for each row."""
    return pl.Series("reason", [None], dtype=pl.String).new_from_index(0, len(values))
