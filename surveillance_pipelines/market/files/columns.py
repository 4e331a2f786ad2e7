"""The columns of a file under our names and types. Each value that cannot be read is kept with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Final

import polars as pl

from surveillance_pipelines.market.bar_frames import OHLC
from surveillance_pipelines.market.files.layouts import ALIASES, is_header, normal_name
from surveillance_pipelines.market.files.options import FileError, FileOptions
from surveillance_pipelines.market.files.table import Table
from surveillance_pipelines.market.row_checks import CODE, DETAIL, RAW
from surveillance_pipelines.market.timestamps import ParsedTimes, TimeFormatError, TimeOptions, parse_times

_OPTIONAL: Final = frozenset({"volume", "suspicious"})
_PRICES: Final = frozenset({*OHLC, "price"})
_NOT_REPORTED: Final = -1.0
"""Volume that IBKR and others write where they report none."""
_NO_PRICE: Final = 2**63 - 1
"""Fixed-point price that Databento writes where there is none."""
_CLOCK: Final = (
    r"^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: *[AaPp]\.?[Mm]\.?)?(?: *(?:[Zz]|[+-]\d\d(?::?\d\d)?|[A-Z]{3,4}))?$"
)
_CLOCK_DIGITS: Final = r"^\d{3,6}$"
"""Clock times such as 930, 0930 and 093000 next to a column of dates."""
_SHOWN: Final = 40
_JUDGED_VOLUMES: Final = 3
"""Minimum number of volumes of which the spelling is judged."""


@dataclass(frozen=True, slots=True)
class StandardRows:
    """Rows under our names.

    Attributes:
        frame: ``symbol``, ``time`` (UTC), the numbers, ``row``, ``line``, ``raw_row``, ``refusal_code`` and the detail.
        times: the times, with their form.
        sources: our name → the file's column, as written.
        notes: assumptions.
    """

    frame: pl.DataFrame
    times: ParsedTimes
    sources: Mapping[str, str]
    notes: tuple[str, ...]


def standard_rows(
    table: Table, wanted: Sequence[str], *, path: Path, options: FileOptions, allows_dates: bool
) -> StandardRows:
    """Return the wanted columns.

    Args:
        table: result of ``load_table``.
        wanted: keys of ``ALIASES``; ``volume`` and ``suspicious`` may be absent.
        path: path of the file, for messages and for the symbol that some vendors write into its name.
        options: facts that the columns do not state.
        allows_dates: whether times without a zone may be dates, which need none.

    Raises:
        FileError: if a column is absent, or the times need a fact that is missing.
    """
    found = {key: column_of(table, key, options) for key in wanted}
    symbol, notes = _symbol_of_file(table, path, options, found["symbol"])
    given = _OPTIONAL | {"symbol"} if symbol else _OPTIONAL
    if missing := [key for key in wanted if found[key] is None and key not in given]:
        raise _missing_columns(missing, table, path)
    cells = table.cells
    symbols = _symbols(cells, symbol, found["symbol"])
    times = _times(
        table, str(found["time"]), symbols, path=path, options=options, allows_dates=allows_dates,
        has_repeats="open" not in wanted,
    )  # fmt: skip
    if cells.schema[str(found["time"])] == pl.String:
        _require_one_header(table, str(found["time"]), times, path)
    if "time" not in options.columns and options.timeframe is None:
        _require_times(table, str(found["time"]), times, path)
    numbers = {key: name for key in wanted if key not in {"symbol", "time"} and (name := found[key]) is not None}
    read = cells.select(_number(cells, name).alias(key) for key, name in numbers.items())
    read, divided = _divided(read, cells, numbers, table, options)
    frame = pl.concat(
        [
            symbols.to_frame(),
            times.instants.alias("time").to_frame(),
            read,
            table.places,
            _refused(cells, numbers, times),
        ],
        how="horizontal",
    ).with_columns(cells.to_struct(RAW))
    frame, volumes = _reported_volume(frame)
    volumes = (*volumes, *_grouped_volumes(cells, numbers.get("volume")))
    sources = {key: _spelled(table, name) for key, name in found.items() if name is not None}
    return StandardRows(frame, times, sources, (*notes, *divided, *volumes))


def _symbols(cells: pl.DataFrame, symbol: str | None, column: str | None) -> pl.Series:
    """Return the symbol of each row in upper case."""
    if symbol is not None:
        return pl.Series("symbol", [symbol.strip().upper()], dtype=pl.String).new_from_index(0, cells.height)
    return cells[str(column)].alias("symbol").cast(pl.String).str.strip_chars().str.to_uppercase()


def column_of(table: Table, key: str, options: FileOptions) -> str | None:
    """Return the file's column with a meaning; None if there is none.

    Raises:
        FileError: if the user named a column that the file does not have.
    """
    names = table.cells.columns
    if (named := options.columns.get(key)) is not None:
        if normal_name(named) in names:
            return normal_name(named)
        if named.isdigit() and 1 <= int(named) <= len(names):
            return names[int(named) - 1]
        raise FileError(f"expected a column {named!r} for {key}, the file has {table.spelled}", lacks="columns")
    if (known := table.layout.columns.get(key)) is not None:
        return known
    return next((name for name in ALIASES[key] if name in names), None)


def known_times(table: Table, path: Path, options: FileOptions) -> ParsedTimes | None:
    """Return when each row became known; None without such a column.

    Raises:
        FileError: if the times need a fact that is missing.
    """
    name = column_of(table, "knowledge_time", options)
    return None if name is None else _parse(table.cells[name], None, path=path, options=options, allows_dates=False)


def _symbol_of_file(
    table: Table, path: Path, options: FileOptions, column: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """Return the symbol of all rows, if no column has it, and a note about a symbol taken from the file's name."""
    if column is not None:
        return None, ()
    if options.symbol is not None:
        return options.symbol, ()
    stated = table.layout.match_name(path.name)
    if stated is None:
        return None, ()
    symbol = stated["symbol"].upper()
    return symbol, (f"symbol {symbol}, from the file's name, as {table.layout.name} writes it",)


def _times(
    table: Table,
    name: str,
    symbols: pl.Series,
    *,
    path: Path,
    options: FileOptions,
    allows_dates: bool,
    has_repeats: bool,
) -> ParsedTimes:
    stated = table.layout.match_name(path.name)
    written = _with_clock(table.cells, name)
    if stated is not None and "day" in stated.groupdict():
        midnight = datetime.strptime(stated["day"], "%Y%m%d")  # noqa: DTZ007 -- in the zone of the layout
        milliseconds = pl.col(name).cast(pl.Int64, strict=False)
        written = table.cells.select((pl.lit(midnight) + pl.duration(milliseconds=milliseconds)).alias(name))[name]
    return _parse(
        written, symbols, path=path, options=options, allows_dates=allows_dates, timezone=table.layout.timezone,
        has_repeats=has_repeats,
    )  # fmt: skip


def _parse(
    written: pl.Series,
    symbols: pl.Series | None,
    *,
    path: Path,
    options: FileOptions,
    allows_dates: bool,
    timezone: str | None = None,
    has_repeats: bool = True,
) -> ParsedTimes:
    facts = TimeOptions(
        timezone=options.timezone or timezone, unit=options.unit, date_order=options.date_order,
        allows_dates=allows_dates,
    )  # fmt: skip
    try:
        return parse_times(written, facts, series=symbols, has_repeats=has_repeats)
    except TimeFormatError as error:
        raise FileError(f"{path.name}: {error.message}", lacks="" if error.lacks is None else error.lacks) from error


def _require_one_header(table: Table, name: str, times: ParsedTimes, path: Path) -> None:
    """Refuse a file with a second header of other columns: its rows would be read under the names of the first."""
    unread = pl.concat([table.places, table.cells], how="horizontal").filter(times.reasons.is_not_null())
    titles = [text for text in unread[name].unique().drop_nulls() if normal_name(text) in ALIASES["time"]]
    for _, line, *fields in unread.filter(pl.col(name).is_in(titles)).iter_rows():
        names = [normal_name(text or "") or f"column_{place}" for place, text in enumerate(fields, start=1)]
        if is_header(names) and names != table.cells.columns:
            raise FileError(
                f"expected one header in {path.name}, line {line} is another one, {','.join(names)}: split the file"
            )


def _require_times(table: Table, name: str, times: ParsedTimes, path: Path) -> None:
    """Refuse dates next to a column of times that is not read: each date would become a daily bar."""
    if name != "date" or table.layout.columns or not times.written.drop_nulls().dt.time().eq(time()).all():
        return
    combined = {"time"} if "time" in table.cells.columns and _holds_clock_times(table.cells["time"]) else set[str]()
    others = {*ALIASES["time"], "time"} - {"date"} - combined
    for other in (each for each in table.cells.columns if each in others):
        if len(values := table.cells[other].drop_nulls()) > 0:
            raise FileError(
                f"expected one column of times in {path.name}, got dates in {_spelled(table, name)} and values such as "
                f"{str(values[0])[:_SHOWN]!r} in {_spelled(table, other)}",
                lacks="columns",
            )


def _with_clock(cells: pl.DataFrame, name: str) -> pl.Series:
    """Return the times as in the file; separate columns of date and clock time are joined as text."""
    if name != "date" or "time" not in cells.columns or not _holds_clock_times(cells["time"]):
        return cells[name]
    day = pl.col("date").cast(pl.String).str.strip_chars()
    clock = pl.col("time").cast(pl.String).str.strip_chars()
    digits = clock.str.contains(_CLOCK_DIGITS)
    padded = pl.when(clock.str.len_chars() <= len("0930")).then(clock.str.zfill(4) + "00").otherwise(clock.str.zfill(6))
    parted = padded.str.replace(r"^(\d\d)(\d\d)(\d\d)$", "$1:$2:$3")
    joined = pl.concat_str(
        day.str.replace(r"[ T]00:00:00(?:\.0+)?$", ""), pl.when(digits).then(parted).otherwise(clock), separator=" "
    )
    return cells.select(joined.alias(name)).to_series()


def _holds_clock_times(times: pl.Series) -> bool:
    """Return whether most values are clock times, such as 09:30."""
    if times.dtype == pl.Time:
        return True
    if times.dtype != pl.String and not times.dtype.is_integer():
        return False
    text = times.drop_nulls().cast(pl.String).str.strip_chars()
    fitting = text.str.contains(_CLOCK) | text.str.contains(_CLOCK_DIGITS)
    return int(fitting.sum()) * 2 > len(text)


def _number(cells: pl.DataFrame, name: str) -> pl.Expr:
    column = pl.col(name)
    if cells.schema[name] == pl.String:
        column = column.str.strip_chars()
    return column.cast(pl.Float64, strict=False)


def _divided(
    read: pl.DataFrame, cells: pl.DataFrame, numbers: Mapping[str, str], table: Table, options: FileOptions
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Convert fixed-point prices."""
    prices = [key for key in numbers if key in _PRICES]
    divisor = options.price_divisor or table.layout.price_divisor
    if divisor is None or (options.price_divisor is None and not _are_whole(cells, [numbers[key] for key in prices])):
        return read, ()
    note = f"prices are divided by {divisor:g}, fixed-point numbers of {table.layout.name}"
    return read.with_columns(_quotient(read[price], divisor) for price in prices), (note,)


def _quotient(prices: pl.Series, divisor: float) -> pl.Series:
    """Return correctly rounded quotients; polars multiplies by the reciprocal, which changes the last digit."""
    present = prices.set(prices == float(_NO_PRICE), None)
    divided = pl.Series(prices.name, present.fill_null(0.0).to_numpy() / divisor)
    return divided.set(present.is_null(), None)


def _are_whole(cells: pl.DataFrame, names: Sequence[str]) -> bool:
    """Return whether all values are whole numbers, written without a decimal point."""
    for name in names:
        values = cells[name].drop_nulls()
        if values.dtype == pl.String:
            if not values.str.contains(r"^\d+$").all():
                return False
        elif not values.dtype.is_integer():
            return False
    return True


def _refused(cells: pl.DataFrame, numbers: Mapping[str, str], times: ParsedTimes) -> pl.DataFrame:
    """Return the code and the reason of each row with a time or a number that cannot be read."""
    wrong = [
        pl.when(pl.col(name).is_not_null() & (pl.col(name) != "") & _number(cells, name).is_null()).then(
            pl.format(f"expected a number, got '{{}}' for {name}", pl.col(name).str.slice(0, _SHOWN))
        )
        for name in numbers.values()
        if cells.schema[name] == pl.String
    ]
    if wrong:
        texts = cells.select(pl.coalesce(wrong).alias("text"))
    else:
        texts = pl.Series("text", [None], dtype=pl.String).new_from_index(0, cells.height).to_frame()
    bad_time, bad_number = pl.col("time").is_not_null(), pl.col("text").is_not_null()
    return texts.with_columns(times.reasons.alias("time")).select(
        pl.when(bad_time).then(pl.lit("bad_timestamp")).when(bad_number).then(pl.lit("wrong_type")).alias(CODE),
        pl.coalesce("time", "text").alias(DETAIL),
    )


def _reported_volume(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Set the volume of rows that report none to 0, and say so."""
    if "volume" not in frame.columns:
        note = "the file has no volume column: the volume of every row is 0, which means no volume reported"
        return frame.with_columns(pl.lit(0.0).alias("volume")), (note,)
    absent = (pl.col("volume").is_null() | (pl.col("volume") == _NOT_REPORTED)) & pl.col(CODE).is_null()
    count = int(frame.select(absent.sum()).item())
    notes = (f"{count:,} rows report no volume (empty or -1): their volume is 0",) if count else ()
    reported = frame["volume"].drop_nulls()
    if count < frame.height and len(reported) > 0 and reported.eq(0.0).all():
        notes = ("the volume of every row is 0, which means no volume reported",)
    return frame.with_columns(pl.when(~absent).then("volume").otherwise(0.0).alias("volume")), notes


def _grouped_volumes(cells: pl.DataFrame, column: str | None) -> tuple[str, ...]:
    """Return a note if all volumes look like ``1.234``, which is also how some languages write 1,234."""
    if column is None or cells.schema[column] != pl.String:
        return ()
    texts = cells[column].drop_nulls().str.strip_chars()
    if len(texts) < _JUDGED_VOLUMES or not texts.str.contains(r"^[1-9]\d{0,2}\.\d{3}$").all():
        return ()
    example = f"such as {texts[0]}, and is read so"
    return (f"every volume has three decimals, {example}; if the dot separates thousands, remove it",)


def _missing_columns(missing: Sequence[str], table: Table, path: Path) -> FileError:
    accepted = "; ".join(f"{key} ({' or '.join(ALIASES[key])})" for key in missing)
    message = f"expected a column for {accepted}, {path.name} has {table.spelled}"
    return FileError(message, lacks="symbol" if list(missing) == ["symbol"] else "columns")


def _spelled(table: Table, name: str) -> str:
    return table.names[table.cells.columns.index(name)]
