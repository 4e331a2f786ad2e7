"""Conversion of a user's Parquet or CSV file to known column names and types, without losing a row."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.market.file_limits import FileLimitError, check_parquet, check_text
from surveillance_pipelines.market.row_checks import CODE, DETAIL, RAW

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "symbol": ("symbol", "ticker", "sym", "instrument"),
    "time": ("bar_start", "ts", "timestamp", "datetime", "date", "time", "event_time", "ts_event"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v", "size", "qty", "amount"),
    "price": ("price", "last"),
    "suspicious": ("suspicious",),
    "knowledge_time": ("knowledge_time", "known_at"),
}
"""Accepted names; the first match is used. Letter case and spaces do not matter. Other columns are ignored."""

_EPOCH_UNITS: Final = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1))
"""Unit of whole-number times: seconds below 1e11, milliseconds below 1e14, microseconds below 1e17, else ns."""

_WRITTEN_DATES: Final = (19_000_101, 21_001_231)
"""Whole numbers in this range are dates such as 20240115; as epochs they would be days in August 1970."""


_OPTIONAL: Final = frozenset({"volume", "suspicious"})
_TEXT_ENDINGS: Final = (".csv", ".csv.gz", ".txt")
_CLOCK: Final = r"^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?$"
_CLOCK_DIGITS: Final = r"^\d{3,6}$"
"""Clock times such as 930, 0930 and 093000 next to a column of dates."""
_RENAMED: Final = re.compile(r"_duplicated_\d+$")
"""What polars appends to the name of a column that a CSV file has before."""
_A_TIME: Final = "2024-03-06T14:30:00Z"
_SHOWN: Final = 40
"""Maximum number of characters of an unreadable value in a message."""


_REMEDIES: Final = {"symbol": "`--symbol SPY`, the symbol of the whole file", "timezone": "`--tz America/New_York`"}
"""Missing part of a file → the option that supplies it."""


class FileError(SurveillanceError, code=ErrorCode.INVALID_INPUT):
    """The file as a whole cannot be read. The message states what was expected and what was found.

    Attributes:
        lacks: the argument with which the caller could supply the missing information.
    """

    def __init__(self, message: str, *, lacks: Literal["symbol", "timezone", ""] = "") -> None:
        super().__init__(message, remedy=_REMEDIES.get(lacks, ""))
        self.lacks = lacks


def load_table(path: Path) -> pl.DataFrame:
    """Return a file's rows with normalised column names; CSV columns stay text until each value is checked.

    Raises:
        FileError: if the file does not exist, is neither Parquet nor CSV, cannot be read or expands too much.
    """
    if not path.is_file():
        raise FileError(f"expected a Parquet or CSV file, got no file at {path}")
    try:
        table = _read(path)
    except FileLimitError as error:
        raise FileError(str(error)) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileError(f"expected readable Parquet or CSV, {path.name} could not be read: {error}") from error
    names = [name.strip().lower().replace(" ", "_") for name in table.columns]
    written = [_RENAMED.sub("", name) for name in names] if is_text(path) else names
    twice = {name for name in written if name and written.count(name) > 1} | {n for n in names if names.count(n) > 1}
    if twice:  # columns without a name are ignored
        raise FileError(f"expected each column once, {path.name} has {', '.join(sorted(twice))} more than once")
    _require_commas(table, path)
    table.columns = names
    return table


def pick_columns(
    table: pl.DataFrame, wanted: Sequence[str], *, path: Path, symbol: str | None, timezone: str | None, dates: bool
) -> pl.DataFrame:
    """Return the wanted columns with their standard names and types, ``raw_row``, ``refusal_code`` and detail.

    Args:
        table: result of ``load_table``.
        wanted: keys of ``ALIASES``; ``volume`` and ``suspicious`` may be absent.
        path: path of the file, for messages.
        symbol: symbol of a file without a symbol column.
        timezone: time zone of times without one, such as ``America/New_York``.
        dates: whether times without a zone may be dates, which need none.

    Raises:
        FileError: if a column is absent, or times have no zone and none was given.
    """
    found = {key: next((name for name in ALIASES[key] if name in table.columns), None) for key in wanted}
    given = _OPTIONAL if symbol is None else _OPTIONAL | {"symbol"}
    if missing := [key for key in wanted if found[key] is None and key not in given]:
        raise _missing_columns(missing, path)
    numbers = [key for key in wanted if key not in {"symbol", "time"} and found[key] is not None]
    symbols = pl.lit(symbol) if found["symbol"] is None else pl.col(str(found["symbol"]))
    written = _written_times(table, str(found["time"]))
    picked = table.select(
        symbols.cast(pl.String).str.strip_chars().str.to_uppercase().alias("symbol"),
        _instants(written, path, timezone, dates=dates).alias("time"),
        *(pl.col(str(found[key])).cast(pl.Float64, strict=False).alias(key) for key in numbers),
        pl.struct(pl.all()).alias(RAW),
        _unreadable(table, str(found["time"]), [str(found[key]) for key in numbers]).alias(DETAIL),
    )
    shown = written.cast(pl.String, strict=False).str.slice(0, _SHOWN)
    no_time = pl.format(f"expected a time such as {_A_TIME}, got '{{}}' for {found['time']}", shown)
    bad_time = pl.col("time").is_null() & pl.Series(written.is_not_null())
    wrong = (
        pl.when(bad_time).then(pl.lit("bad_timestamp")).when(pl.col(DETAIL).is_not_null()).then(pl.lit("wrong_type"))
    )
    picked = picked.with_columns(
        wrong.alias(CODE), pl.when(bad_time).then(no_time).otherwise(pl.col(DETAIL)).alias(DETAIL)
    )
    return picked if "volume" in picked.columns else picked.with_columns(pl.lit(0.0).alias("volume"))


def known_times(table: pl.DataFrame, path: Path, timezone: str | None) -> pl.Series | None:
    """Return when each row became known, UTC microseconds, null where unreadable; None without such a column.

    Args:
        table: result of ``load_table``.
        path: path of the file, for messages.
        timezone: time zone of times without one.

    Raises:
        FileError: if times have no zone and none was given.
    """
    name = next((name for name in ALIASES["knowledge_time"] if name in table.columns), None)
    return None if name is None else _instants(table[name], path, timezone, dates=False)


def is_text(path: Path) -> bool:
    """Return whether a file is read as CSV, judging by its name."""
    return path.name.endswith(_TEXT_ENDINGS)


def _require_commas(table: pl.DataFrame, path: Path) -> None:
    name = table.columns[0]
    mark = next((mark for mark in (";", "\t", "|") if mark in name), None)
    if is_text(path) and table.width == 1 and mark is not None:
        separator = "tabs" if mark == "\t" else f"'{mark}'"
        raise FileError(f"expected commas between values, {path.name} has {separator}: save it with commas")


def _missing_columns(missing: Sequence[str], path: Path) -> FileError:
    accepted = "; ".join(f"{key} ({' or '.join(ALIASES[key])})" for key in missing)
    spelled = ", ".join(_read(path).columns)
    return FileError(
        f"expected a column for {accepted}, {path.name} has {spelled}",
        lacks="symbol" if list(missing) == ["symbol"] else "",
    )


def _written_times(table: pl.DataFrame, name: str) -> pl.Series:
    """Return the times as in the file; separate columns of date and clock time are joined as text."""
    if name != "date" or "time" not in table.columns or not _holds_clock_times(table["time"]):
        return table[name]
    day = pl.col("date").cast(pl.String).str.strip_chars().str.replace(r"^(\d{4})(\d\d)(\d\d)$", "$1-$2-$3")
    clock = pl.col("time").cast(pl.String).str.strip_chars()
    digits = clock.str.contains(_CLOCK_DIGITS)
    padded = pl.when(clock.str.len_chars() <= len("0930")).then(clock.str.zfill(4) + "00").otherwise(clock.str.zfill(6))
    parted = padded.str.replace(r"^(\d\d)(\d\d)(\d\d)$", "$1:$2:$3")
    whole = clock.str.replace(r"^(\d):", "0$1:").str.replace(r"^(\d\d:\d\d)($|Z|[+-])", "$1:00$2")
    joined = pl.concat_str(
        day.str.replace(r"[ T]00:00:00(?:\.0+)?$", ""), pl.when(digits).then(parted).otherwise(whole), separator=" "
    )
    return table.select(joined.alias(name)).to_series()


def _holds_clock_times(times: pl.Series) -> bool:
    """Return whether most values are clock times, such as 09:30."""
    if times.dtype == pl.Time:
        return True
    if times.dtype != pl.String and not times.dtype.is_integer():
        return False
    text = times.drop_nulls().cast(pl.String).str.strip_chars()
    fitting = text.str.contains(_CLOCK) | text.str.contains(_CLOCK_DIGITS)
    return int(fitting.sum()) * 2 > len(text)


def _read(path: Path) -> pl.DataFrame:
    if path.suffix in {".parquet", ".pq"}:
        check_parquet(path)
        return pl.read_parquet(path)
    if is_text(path):
        check_text(path)
        return pl.read_csv(path, infer_schema=False, truncate_ragged_lines=True)
    raise FileError(f"expected a name that ends in .parquet, .csv or .csv.gz, got {path.name}")


def _unreadable(table: pl.DataFrame, time: str, numbers: Sequence[str]) -> pl.Expr:
    """Return an error message for text that is not a number, for the first such column, else null."""
    texts = [name for name in numbers if table.schema[name] == pl.String and name != time]
    if not texts:
        return pl.lit(None, pl.String)
    text = {name: pl.col(name).str.strip_chars() for name in texts}
    return pl.coalesce(
        pl.when((text[name] != "") & pl.col(name).cast(pl.Float64, strict=False).is_null()).then(
            pl.format(f"expected a number, got '{{}}' for {name}", text[name].str.slice(0, _SHOWN))
        )
        for name in texts
    )


def _instants(times: pl.Series, path: Path, timezone: str | None, *, dates: bool) -> pl.Series:
    """Return times as UTC microseconds; null where one cannot be read."""
    if times.dtype.is_integer():
        return _numbers(times.cast(pl.Int64), path, timezone, dates=dates)
    if times.dtype == pl.String:
        return _parsed(times, path, timezone, dates=dates)
    if times.dtype == pl.Date:
        return times.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(times.dtype, pl.Datetime):
        zoned = times if times.dtype.time_zone is not None else _in_zone(times, path, timezone, dates=dates)
        return zoned.dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    raise FileError(f"expected times, dates, ISO 8601 text or epoch numbers in {times.name!r}, got {times.dtype}")


def _numbers(times: pl.Series, path: Path, timezone: str | None, *, dates: bool) -> pl.Series:
    present = times.drop_nulls()
    if present.is_empty() or not present.is_between(*_WRITTEN_DATES).all():
        return _epochs(times)
    days = times.cast(pl.String).str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us"))
    return _in_zone(days, path, timezone, dates=dates).dt.convert_time_zone("UTC")


def _epochs(times: pl.Series) -> pl.Series:
    value = times.alias("t").to_frame()
    unit = pl.when(pl.col("t").abs() < _EPOCH_UNITS[0][0]).then(pl.col("t") * _EPOCH_UNITS[0][1])
    for limit, factor in _EPOCH_UNITS[1:]:
        unit = unit.when(pl.col("t").abs() < limit).then(pl.col("t") * factor)
    return value.select(unit.otherwise(pl.col("t") // 1_000)).to_series().cast(UTC_MICROSECONDS)


def _parsed(times: pl.Series, path: Path, timezone: str | None, *, dates: bool) -> pl.Series:
    text = times.str.strip_chars()
    numeric = text.cast(pl.Int64, strict=False)
    if numeric.null_count() == text.null_count() and len(text) > text.null_count():
        return _numbers(numeric, path, timezone, dates=dates)
    has_zone = text.str.contains(r"(?:Z|[+-]\d\d:?\d\d)$")
    zoned = text.set(~has_zone.fill_null(value=False), None).str.to_datetime(
        time_unit="us", time_zone="UTC", strict=False
    )
    if has_zone.drop_nulls().all():
        return zoned
    plain = text.set(has_zone.fill_null(value=False), None).str.replace("T", " ", literal=True)
    moments = plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    minutes = plain.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False)
    days = plain.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    naive = moments.to_frame("m").with_columns(minutes.alias("n"), days.alias("d")).select(pl.coalesce("m", "n", "d"))
    local = naive.to_series()
    if local.null_count() == len(local):
        return zoned
    filled = _in_zone(local, path, timezone, dates=dates).dt.convert_time_zone("UTC")
    return zoned.to_frame("z").with_columns(filled.alias("f")).select(pl.coalesce("z", "f")).to_series()


def _in_zone(times: pl.Series, path: Path, timezone: str | None, *, dates: bool) -> pl.Series:
    midnights = bool((times.drop_nulls().dt.time() == pl.Series([0]).cast(pl.Time)[0]).all())
    if timezone is None and dates and midnights:
        return times.dt.replace_time_zone("UTC")
    if timezone is None:
        raise FileError(
            f"expected times with a time zone, those of {path.name} have none, such as {times.drop_nulls()[0]}",
            lacks="timezone",
        )
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise FileError(f"expected a time zone such as America/New_York, got {timezone!r}") from error
    # The repeated hour at the end of daylight saving time is read as the first one; the skipped hour becomes null.
    return times.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
